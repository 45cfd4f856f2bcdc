"""Model predictive control (MPC) for ABR: score every plan of the next chunks, take the best one.

The throughput is forecast as the harmonic mean of the last five measurements, divided by one plus
the largest of the last five relative errors of that forecast. A plan is scored by the QoE that it
would earn at that throughput, and its first chunk is downloaded. Two policies share the search:
`RobustMPC` is the algorithm of the paper, `NetLLMMPC` is what the reference program runs.

Both keep two properties of the reference: a plan ignores the round trip and the buffer limit, and
of plans with equal scores the last one in lexicographic order is taken. Scores are floats, so which
plans are equal depends on the order of the operations; it is that of the reference.

Units: seconds, bytes, MB/s (10^6 bytes/s) for throughput.

Source: RobustMPC of Yin et al. (SIGCOMM 2015), as implemented by Pensieve (SIGCOMM 2017) and NetLLM
(SIGCOMM 2024).
"""

import numpy as np

from netllm_gym.arrays import FloatArray, IntArray
from netllm_gym.configs import check
from netllm_gym.envs.rows import num_rows_of
from netllm_gym.policies.baselines.abr import (
    AnyABREnv,
    Observations,
    buffers_s,
    chunks_done,
    harmonic_means,
    last_rungs,
    throughputs_mbs,
)
from netllm_gym.policies.baselines.rule import Rule

HORIZON = 5  # chunks that a plan looks ahead
ERRORS_KEPT = 5  # newest forecast errors, the largest of which lowers the forecast
# Lagrange prices of a second of buffer, as shares of the rebuffer penalty. Any set within [0, 1] is
# correct, the empty one too; with these about 130 of the 9,330 nodes are visited on fcc-test.
_PRICES = np.array([0.0, 0.05, 1.0])


class ThroughputForecast:
    """RobustMPC's forecast of each row's throughput."""

    def __init__(self, num_rows: int) -> None:
        self._mean_mbs = np.full(num_rows, np.nan)  # last harmonic mean, NaN before the first
        self._errors = np.zeros((num_rows, ERRORS_KEPT))  # newest last; 0 changes no maximum

    def forget(self, rows: IntArray) -> None:
        """Forget what these (K,) rows measured."""
        self._mean_mbs[rows] = np.nan
        self._errors[rows] = 0.0

    def update(self, observations: Observations) -> FloatArray:
        """Add each row's newest download; return (N,) forecasts in MB/s."""
        samples = throughputs_mbs(observations)  # (N, 5)
        newest = samples[:, -1]
        known = ~np.isnan(self._mean_mbs) & (newest > 0.0)
        missed = np.abs(self._mean_mbs - newest)
        error = np.divide(missed, newest, out=np.zeros_like(newest), where=known)
        self._errors = np.concatenate([self._errors[:, 1:], error[:, None]], axis=1)
        self._mean_mbs = harmonic_means(samples)
        return np.asarray(self._mean_mbs / (1.0 + self._errors.max(axis=1)), np.float64)


class RobustMPC(Rule):
    """Tries every plan of the next five chunks; each episode begins without a forecast."""

    name = "robust_mpc"

    def __init__(self, env: AnyABREnv, horizon: int = HORIZON) -> None:
        check(horizon >= 1, "horizon", "be at least 1", horizon)
        self._plans = _PlanSearch(
            env, horizon, step_limit=env.video.num_rungs, size_bytes=env.video.size_bytes
        )
        self._forecast = ThroughputForecast(num_rows_of(env))

    def reset(self, rows: IntArray, seeds: IntArray) -> None:
        """Forget the rows' throughput forecasts and errors."""
        self._forecast.forget(rows)

    def choose(self, observations: Observations) -> IntArray:
        """Return (N,) rungs."""
        return self._plans.first_rungs(observations, self._forecast.update(observations))


class NetLLMMPC(Rule):
    """MPC as it was run for NetLLM's published results.

    It differs from `RobustMPC` in three ways. No chunk of a plan is more than one rung from the
    chunk before it. Every chunk is planned with the size of the one after it. Forecasts and errors
    are carried from one episode to the next, and include the last download of each episode.

    Because of the third, results depend on the order of the episodes. So this policy plays a single
    row, and equals the published runs only if the traces are played in the order of their set. Its
    video must list one chunk more than is played.
    """

    name = "netllm_mpc"
    needs_sequential = True  # episodes must be played one after the other
    needs_own_episodes = True  # and each from its beginning by this policy

    def __init__(self, env: AnyABREnv) -> None:
        rule = "be 1 for netllm_mpc, which carries its history from episode to episode"
        check(num_rows_of(env) == 1, "num_envs", rule, num_rows_of(env))
        video = env.video
        listed, wanted = len(video.size_bytes), video.num_chunks + 1
        rule = f"list the sizes of {wanted} chunks for netllm_mpc, one more than it plays"
        check(listed >= wanted, f"video {video.name}", rule, listed)
        self._plans = _PlanSearch(env, HORIZON, step_limit=1, size_bytes=video.size_bytes[1:])
        self._forecast = ThroughputForecast(1)

    def choose(self, observations: Observations) -> IntArray:
        """Return (1,) rungs."""
        return self._plans.first_rungs(observations, self._forecast.update(observations))

    def end(self, rows: IntArray, observations: Observations) -> None:
        """Add the last download of an episode: the reference asks for a rung even then."""
        self._forecast.update(observations)


class _PlanSearch:
    """The constants of the search, prepared once.

    A plan looks `horizon` chunks ahead, fewer at the end of the video, and moves at most
    `step_limit` rungs between two of them, whose sizes are (chunks, rungs).
    """

    def __init__(self, env: AnyABREnv, horizon: int, step_limit: int, size_bytes: IntArray) -> None:
        self._num_chunks, self._horizon = env.video.num_chunks, horizon
        self._ladder_mbps = env.video.ladder_mbps
        milli_quality = env.qoe.quality_of(env.video) * 1000.0
        whole = np.rint(milli_quality)
        is_whole = np.abs(milli_quality - whole) < 1e-9
        self._planner = (  # in the order of `Planner`, whose module loads numba
            size_bytes.astype(np.float64),
            np.where(is_whole, whole, milli_quality),
            step_limit,
            np.array(env.video.lengths_s),
            env.qoe.rebuffer_penalty,
            env.qoe.smoothness_penalty,
            _PRICES * env.qoe.rebuffer_penalty,
        )

    def first_rungs(self, observations: Observations, forecast_mbs: FloatArray) -> IntArray:
        """Return (N,) the first rung of each row's best plan; 0 after the last chunk."""
        from netllm_gym.policies.baselines.abr_mpc_search import search_plans

        next_chunk = chunks_done(observations, self._num_chunks)
        horizon = np.minimum(self._horizon, self._num_chunks - next_chunk)
        last = last_rungs(observations, self._ladder_mbps)
        rungs: IntArray = search_plans(
            self._planner, next_chunk, horizon, forecast_mbs, buffers_s(observations), last
        )
        return rungs
