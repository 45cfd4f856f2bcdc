"""Model predictive control for ABR: try every plan of the next chunks, take the best one's first.

Throughput is foreseen as the harmonic mean of the last five measurements, divided by one plus the
largest of the last five relative errors of that forecast. A plan is scored by the QoE it would
earn at that throughput. Two policies share the search: `RobustMPC` is the algorithm as meant,
`NetLLMMPC` is what the reference program runs, quirks included.

Kept from the reference in both: the plan knows no round trip and no buffer cap; of plans with
equal scores the last in lexicographic order wins. Scores are floats, so which plans are equal
depends on the order of the operations; it is the reference's throughout.

Units: seconds, bytes, MB/s (10^6 bytes) for throughput, kbit/s for bitrates inside the search,
where the sums of the usual ladders are whole numbers and hence exact.

Source: RobustMPC of Yin et al. (SIGCOMM 2015) as written by Pensieve and NetLLM, `spec/abr.md` 5.2.
"""

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import numpy as np

from netllm_gym.arrays import FloatArray, IntArray
from netllm_gym.errors import InputError
from netllm_gym.policies.baselines.abr import (
    AnyABREnv,
    Observations,
    buffers_s,
    chunks_done,
    harmonic_means,
    last_rungs,
    throughputs_mbs,
)

HORIZON = 5  # chunks that a plan looks ahead
ERRORS_KEPT = 5  # newest forecast errors that caution rests on
# Lagrange prices of a second of buffer, as shares of the rebuffer penalty. Any set within [0, 1] is
# correct, the empty one too; with these about 130 of the 9,330 nodes are visited on fcc-test.
_PRICES = np.array([0.0, 0.05, 1.0])


class ThroughputForecast:
    """RobustMPC's cautious forecast of each row's throughput."""

    def __init__(self, num_rows: int) -> None:
        self._mean_mbs = np.full(num_rows, np.nan)  # last harmonic mean, NaN before the first
        self._errors = np.zeros((num_rows, ERRORS_KEPT))  # newest last; 0 changes no maximum

    def forget(self, rows: IntArray) -> None:
        """Begin these (K,) rows anew."""
        self._mean_mbs[rows] = np.nan
        self._errors[rows] = 0.0

    def update(self, observations: Observations) -> FloatArray:
        """Take in each row's newest download; return (N,) forecasts in MB/s."""
        samples = throughputs_mbs(observations)  # (N, 5)
        newest = samples[:, -1]
        judged = ~np.isnan(self._mean_mbs) & (newest > 0.0)
        missed = np.abs(self._mean_mbs - newest)
        error = np.divide(missed, newest, out=np.zeros_like(newest), where=judged)
        self._errors = np.concatenate([self._errors[:, 1:], error[:, None]], axis=1)
        self._mean_mbs = harmonic_means(samples)
        return np.asarray(self._mean_mbs / (1.0 + self._errors.max(axis=1)), np.float64)


class RobustMPC:
    """Every plan of the next five chunks is tried; the forecast starts anew in each episode.

    Args:
        env: What is played.
        horizon: Chunks that a plan looks ahead, fewer at the end of the video.
    """

    name = "robust_mpc"

    def __init__(self, env: AnyABREnv, horizon: int = HORIZON) -> None:
        if horizon < 1:
            raise InputError(f"horizon must be at least 1, got {horizon}")
        self._num_chunks = env.video.num_chunks
        self._plans = _PlanSearch(
            env, horizon, step_limit=env.video.num_rungs, size_bytes=env.video.size_bytes
        )
        self._forecast = ThroughputForecast(env.num_envs)

    def reset(self, rows: IntArray, seeds: IntArray) -> None:
        """Forget the rows' throughput forecasts and errors."""
        self._forecast.forget(rows)

    def act(
        self, observations: Observations, rewards: FloatArray, infos: Mapping[str, Any]
    ) -> IntArray:
        """Return (N,) rungs."""
        return self._plans.first_rungs(observations, self._forecast.update(observations))


class NetLLMMPC:
    """MPC as NetLLM's published runs have it.

    Differs from `RobustMPC`: no chunk of a plan is more than one rung from the chunk before it;
    every chunk is planned with the size of the one after it; forecasts and errors are carried from
    one episode to the next, and take in the last download of each episode too.

    The third makes a run depend on the order of the episodes. So this policy plays one row, and
    equals the published runs only if the traces come in the order of their set.

    Attributes:
        needs_sequential: Says that to whoever runs it.
        needs_own_episodes: Its forecasts come from all that it played.

    Args:
        env: What is played, one row; its video must list one chunk more than is played.
    """

    name = "netllm_mpc"
    needs_sequential = True
    needs_own_episodes = True

    def __init__(self, env: AnyABREnv) -> None:
        if env.num_envs != 1:
            raise InputError(
                f"num_envs must be 1 for netllm_mpc, which carries its history "
                f"from episode to episode, got {env.num_envs}"
            )
        video = env.video
        if len(video.size_bytes) == video.num_chunks:
            raise InputError(
                f"video {video.name} must list the sizes of {video.num_chunks + 1} chunks for "
                f"netllm_mpc, one more than it plays, got {len(video.size_bytes)}"
            )
        self._plans = _PlanSearch(env, HORIZON, step_limit=1, size_bytes=video.size_bytes[1:])
        self._forecast = ThroughputForecast(1)

    def reset(self, rows: IntArray, seeds: IntArray) -> None:
        """Forget nothing, as the reference does."""

    def act(
        self, observations: Observations, rewards: FloatArray, infos: Mapping[str, Any]
    ) -> IntArray:
        """Return (1,) rung."""
        return self._plans.first_rungs(observations, self._forecast.update(observations))

    def end(self, rows: IntArray, observations: Observations) -> None:
        """Take in the last download of an episode: the reference asks for a rung even then.

        Args:
            rows: (K,) rows whose episodes ended; here row 0.
            observations: (K, 6, W) what they saw last.
        """
        self._forecast.update(observations)


class _PlanSearch:
    """The constants of the search, packed once.

    Args:
        env: What is played.
        horizon: Chunks that a plan looks ahead, fewer at the end of the video.
        step_limit: Most rungs between two chunks of a plan.
        size_bytes: (chunks, rungs) sizes that the plan believes in.
    """

    def __init__(self, env: AnyABREnv, horizon: int, step_limit: int, size_bytes: IntArray) -> None:
        self._num_chunks, self._horizon = env.video.num_chunks, horizon
        self._ladder_mbps = env.video.ladder_mbps
        ladder_kbps = self._ladder_mbps * 1000.0
        whole_kbps = np.rint(ladder_kbps)
        is_whole = np.abs(ladder_kbps - whole_kbps) < 1e-9
        ladder_kbps = np.where(is_whole, whole_kbps, ladder_kbps)
        self._constants = (
            *(size_bytes.astype(np.float64), ladder_kbps, step_limit, env.video.chunk_s),
            *(env.qoe.rebuffer_penalty, env.qoe.smoothness_penalty, _PRICES),
        )

    def first_rungs(self, observations: Observations, forecast_mbs: FloatArray) -> IntArray:
        """Return the first rung of each row's best plan, (N,); 0 after the last chunk."""
        next_chunk = chunks_done(observations, self._num_chunks)
        horizon = np.minimum(self._horizon, self._num_chunks - next_chunk)
        rungs = np.zeros(len(observations), np.int64)
        _compiled_search()(
            *self._constants,
            *(next_chunk, horizon, forecast_mbs, buffers_s(observations)),
            *(last_rungs(observations, self._ladder_mbps), rungs),
        )
        return rungs


@lru_cache(maxsize=1)
def _compiled_search() -> Callable[..., None]:
    import numba  # here, so that listing policies does not load it

    compiled: Callable[..., None] = numba.njit(cache=True, error_model="numpy")(search_plans)
    return compiled


def search_plans(
    size_bytes: FloatArray,
    ladder_kbps: FloatArray,
    step_limit: int,
    chunk_s: float,
    rebuffer_penalty: float,
    smoothness_penalty: float,
    prices: FloatArray,
    next_chunk: IntArray,
    horizon: IntArray,
    forecast_mbs: FloatArray,
    buffer_s: FloatArray,
    last_rung: IntArray,
    rungs: IntArray,
) -> None:
    """Write the first rung of each row's best plan. Plain code; `_compiled_search` compiles it.

    The tree of plans is walked depth first, from the top rung down, so plans come in falling
    lexicographic order and the first of equal scores is the one that wins. What a node has
    added up is carried down, in the order in which a loop over the whole plan would add it.

    A node is left out when a bound on all plans below it lies below the score of a known plan. With
    m chunks still to choose, downloads d_1..d_m and a buffer of b, the buffer at the end is
    b + m L - sum(d) + stall (L the length of a chunk), and it is at least L because the last chunk
    is still in it. So stall >= sum(d) - b - (m - 1) L, and for every price p between 0 and the
    rebuffer penalty the rest of a plan earns at most

        sum(bitrate - smoothness - p d) + p (b + (m - 1) L),

    whose maximum over plans is a small dynamic programme over rungs (`rest`). The bound is the
    least of these over `prices`. It holds for real numbers. As floats, a bound and a score are each
    fewer than 20 operations per chunk on terms whose magnitudes add up to at most 2 `scale`, so
    rounding moves either by less than 5e-15 scale per chunk; a node is left out only if it falls
    short by 1e-13 scale per chunk. Left-out plans are thus strictly worse as floats too, and the
    result is that of the full search, ties included. Where a forecast of 0 makes terms infinite,
    no comparison with `margin` holds and nothing is left out.

    Args:
        size_bytes: (chunks, rungs).
        ladder_kbps: (rungs,) rising.
        step_limit: Most rungs between two chunks of a plan.
        chunk_s: Playback length of a chunk.
        rebuffer_penalty: Per second.
        smoothness_penalty: Per Mbit/s.
        prices: (P,) in [0, 1], shares of the rebuffer penalty.
        next_chunk: (N,) index of the first chunk of each row's plan.
        horizon: (N,) chunks to plan; 0 writes rung 0.
        forecast_mbs: (N,) throughput.
        buffer_s: (N,) buffer before the plan.
        last_rung: (N,) rung of the chunk before the plan.
        rungs: (N,) written.
    """
    num_rungs, num_prices, longest = len(ladder_kbps), len(prices), max(1, horizon.max())
    download_s = np.empty((longest, num_rungs))
    rest = np.empty((num_prices, longest + 1, num_rungs))  # [price, chunk, rung before it]
    follow = np.empty((num_prices, longest, num_rungs), np.int64)  # the rung that attains `rest`
    # Of the path to each depth: the next rung to try, the rung before, and what has added up.
    untried, before = np.empty(longest, np.int64), np.empty(longest, np.int64)
    sum_kbps, sum_change = np.empty(longest), np.empty(longest)
    sum_stall, left_s = np.empty(longest), np.empty(longest)

    for n in range(len(rungs)):
        depths = horizon[n]
        rungs[n] = 0
        if depths <= 0:
            continue
        for depth in range(depths):
            for rung in range(num_rungs):
                size = size_bytes[next_chunk[n] + depth, rung]
                download_s[depth, rung] = size / 1000000.0 / forecast_mbs[n]
        scale = 1.0 + depths * ladder_kbps[-1] / 1000.0 * (1.0 + smoothness_penalty)
        scale += rebuffer_penalty * (buffer_s[n] + depths * chunk_s)
        for depth in range(depths):
            scale += rebuffer_penalty * download_s[depth].max()
        margin = 1e-13 * depths * scale

        best = -1e8  # the reference's start: where every plan scores less, its answer is 0
        for p in range(num_prices):
            price = prices[p] * rebuffer_penalty
            rest[p, depths] = 0.0
            for depth in range(depths - 1, -1, -1):
                for last in range(num_rungs):
                    low, high = max(0, last - step_limit), min(num_rungs - 1, last + step_limit)
                    most, attained_by = -np.inf, low
                    for rung in range(low, high + 1):
                        change = abs(ladder_kbps[rung] - ladder_kbps[last])
                        worth = (ladder_kbps[rung] - smoothness_penalty * change) / 1000.0
                        worth += rest[p, depth + 1, rung] - price * download_s[depth, rung]
                        if worth > most:
                            most, attained_by = worth, rung
                    rest[p, depth, last], follow[p, depth, last] = most, attained_by
            # The plan that the price suggests is a good one to measure the others by.
            last, kbps, changes, stall, left = last_rung[n], 0.0, 0.0, 0.0, buffer_s[n]
            for depth in range(depths):
                rung = follow[p, depth, last]
                kbps += ladder_kbps[rung]
                changes += abs(ladder_kbps[rung] - ladder_kbps[last])
                if left < download_s[depth, rung]:
                    stall += download_s[depth, rung] - left
                    left = 0.0
                else:
                    left -= download_s[depth, rung]
                left += chunk_s
                last = rung
            score = kbps / 1000.0 - rebuffer_penalty * stall
            score -= smoothness_penalty * (changes / 1000.0)
            if score > best:
                best = score

        found = False  # `best` is now the score of some plan, but which one wins is still open
        depth = 0
        before[0], untried[0] = last_rung[n], min(num_rungs - 1, last_rung[n] + step_limit)
        sum_kbps[0], sum_change[0], sum_stall[0], left_s[0] = 0.0, 0.0, 0.0, buffer_s[n]
        while depth >= 0:
            rung, last = untried[depth], before[depth]
            if rung < 0 or rung < last - step_limit:
                depth -= 1
                continue
            untried[depth] -= 1
            kbps = sum_kbps[depth] + ladder_kbps[rung]
            changes = sum_change[depth] + abs(ladder_kbps[rung] - ladder_kbps[last])
            stall, left = sum_stall[depth], left_s[depth]
            if left < download_s[depth, rung]:
                stall += download_s[depth, rung] - left
                left = 0.0
            else:
                left -= download_s[depth, rung]
            left += chunk_s
            score = kbps / 1000.0 - rebuffer_penalty * stall
            score -= smoothness_penalty * (changes / 1000.0)
            if depth + 1 == depths:
                if score > best or (score == best and not found):
                    best, found = score, True
                    rungs[n] = untried[0] + 1
                continue
            spare_s = left + (depths - depth - 2) * chunk_s  # b + (m - 1) L
            hopeless = False
            for p in range(num_prices):
                bound = rest[p, depth + 1, rung] + prices[p] * rebuffer_penalty * spare_s
                if score + bound + margin < best:
                    hopeless = True
                    break
            if not hopeless:
                depth += 1
                before[depth], untried[depth] = rung, min(num_rungs - 1, rung + step_limit)
                sum_kbps[depth], sum_change[depth] = kbps, changes
                sum_stall[depth], left_s[depth] = stall, left
