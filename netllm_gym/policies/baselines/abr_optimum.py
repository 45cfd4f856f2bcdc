"""The best score that any policy could have reached in one ABR episode, with a proven upper bound.

This is a label-setting search over chunks with continuous state. A label is one way to have
downloaded chunks 0..n: the rung of the last one, the position in the trace (`clock_s`, counted over
laps), the sum of stalls (`stall_s`) and of rewards (`value`). On the trace's clock the buffer ends
at `dry_s + stall_s`, where `dry_s` depends on n alone: a chunk postpones it by its length, less the
round trip where the trace does not advance meanwhile; a pause takes from the buffer what it adds to
the clock. Chunk n stalls by the time that it comes after `due_s[n]` plus the stalls before.

There are two runs. The planning run follows the true dynamics and keeps the most promising labels.
Its plan is replayed in the simulator, and the score is the floor of the other run. The proving run
pauses for exactly the excess of the buffer, which is never later than pausing in steps and
therefore never worse, and it drops a label only for one of these reasons:

*Dominance.* Let a and b be labels of one rung. Label a replaces b if its clock is no later, and
`value` and `value + rebuffer_penalty * stall_s` (the reward without stalls) are both no smaller.
Proof: let a copy b's choices. Downloads are first come, first served, so a's clock stays no later,
and no chunk comes later after its `due_s`. The stalls of a label are the largest such lateness so
far. If a has stalled no more than b, it will have stalled no more at the end, and without stalls it
earned no less. If it has stalled more, b must still stall all that a must, and a's `value` is no
smaller. There is one exception: the buffer of a label that has stalled more ends later, so it must
pause at a full buffer where b need not, and it may miss the link's last good second. Therefore a
keeps the smallest stall of the labels that it replaced (`least_stall_s`), and pauses as if it had
stalled no more than that. Its buffer is then larger than any player's, so the result is still a
bound.

*Bound.* Let the chunks to come have rungs r_i, the last of them due at E, and let s be the stalls
to come. All bytes are sent between now and E + s. So for every price p >= 0 of a byte

    reward to come <= sum_i (quality_i - smoothness_i - p bytes_i)
                      + p (bytes that the trace carries from now to E + s) - rebuffer_penalty s

For each p the sum has a best sequence of rungs (`to_go`, one backward sweep). The rest has a
largest value over s (`stall_gain`: bytes bought by stalling), which is finite as long as p times
the trace's mean rate is below the penalty. Every such p gives a bound, and the smallest of about a
hundred is used: the Lagrangian dual of the knapsack of bytes. It assumes nothing about capacity,
ladder, sizes or weights. It ignores the buffer limit and what is due before E, and of the bytes
that pass during round trips that advance the trace it counts only the smallest possible number;
this makes the bound looser, not wrong.

*Thinning.* If there are more labels than a limit, they are merged in groups, each into one label
that dominates its group. This makes the bound looser again, not wrong. A result is `exact` only if
the bound meets the replayed score, which pauses in steps or merging may prevent.

Rounding: the proving run shortens sizes by a factor 1e-11 and pauses by 1e-11 s, so that it stays
ahead of the true clock even where the link stops; sums may be off by a share of 1e-9.

The search and its proof are this package's own; no paper describes them.
"""

from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from netllm_gym.arrays import FloatArray, IntArray
from netllm_gym.compiled import cached_njit, njit
from netllm_gym.data.abr.traces import Trace, check_start_pointer
from netllm_gym.data.abr.video import Video
from netllm_gym.envs.abr import simulator
from netllm_gym.envs.abr.env import ABREnv
from netllm_gym.envs.abr.player import PlayerConfig
from netllm_gym.envs.abr.qoe import LinearQoE, linear_qoe
from netllm_gym.envs.abr.vector_env import ABRVectorEnv
from netllm_gym.envs.rows import num_rows_of
from netllm_gym.errors import InputError
from netllm_gym.policies.baselines.rule import Rule

_BEAM = 64  # labels per rung in the planning run
_LIMITS = (4_000, 20_000)  # labels per rung in the proving runs, the second where the first fails
_TOLERANCE = 1e-9  # share of a sum of rewards that rounding may hide
_SAME = 1e-11  # labels whose values differ by less are worth the same
_SHORTER = 1.0 - 1e-11  # factor on sizes in the proving run
_PAUSE_SLACK_S = 1e-11  # off each pause of the proving run

_carry, _wait, _pause_for = simulator.carry, simulator.wait, simulator.pause_for
_chunk_qoe = simulator.chunk_qoe
_jit = cached_njit(error_model="numpy")
# Without allocations there is nothing to count references for, which would take time in each call.
_OPTIONS: dict[str, Any] = {"_nrt": False}
_inner = njit(error_model="numpy", **_OPTIONS)

# One way to have downloaded the chunks so far, and what is known of its future.
_LABEL = np.dtype(
    [
        ("pointer", np.int64),  # trace row whose capacity holds now
        ("trace_s", np.float64),  # position in the trace
        ("clock_s", np.float64),  # the same, counted over laps
        ("stall_s", np.float64),
        ("least_stall_s", np.float64),  # of the labels that it replaced
        ("value", np.float64),  # reward so far
        ("bound", np.float64),  # on the reward of the whole episode
        ("parent", np.int64),  # its place among the labels of the chunk before
        ("rung", np.int64),  # of the last chunk
    ],
    align=True,
)
_Labels = NDArray[np.void]  # (n,) records of _LABEL


class Optimum(NamedTuple):
    """The best plan found for one episode, and what no plan can beat."""

    actions: IntArray  # (chunks - 1,) rungs of chunks 1, 2, ...
    qoe: float  # mean reward of chunks 1, 2, ... under these actions
    upper_bound: float  # no action sequence has a higher mean
    exact: bool  # bound and mean differ by no more than rounding


class _Episode(NamedTuple):
    """One episode as the kernels read it: R rungs, P prices.

    The kernels take `tuple(episode)`: numba's cache on disk would break if this class is renamed.
    """

    time_s: FloatArray  # (rows,)
    rate: FloatArray  # (rows,) bytes/s
    bytes_to: FloatArray  # (rows,) video bytes carried from 0 to the end of each row
    size_bytes: FloatArray  # (chunks, R)
    quality: FloatArray  # (chunks, R) of the QoE
    due_s: FloatArray  # (chunks,) trace time from which chunk n stalls, had nothing stalled before
    price: FloatArray  # (P,) rising from 0, reward per byte
    to_go: FloatArray  # (chunks, R, P) most reward less price of the chunks after n
    stall_gain: FloatArray  # (rows, P) most that a stall from the end of each row on can earn
    chunk_s: FloatArray  # (chunks,)
    first_rung: int  # of chunk 0
    rebuffer_penalty: float
    smoothness_penalty: float
    cap_s: float
    pause_step_s: float  # 0 is exact
    payload_fraction: float
    lead_s: float  # round trip, where it advances the trace
    proving: bool  # whether a label may be dropped only for a proven reason


def _most_to_go(
    size_bytes: FloatArray, quality: FloatArray, smoothness_penalty: float, price: FloatArray
) -> FloatArray:
    """Return (chunks, R, P): most quality - smoothness - price * bytes of the chunks after n."""
    most = np.zeros((*size_bytes.shape, len(price)))
    for chunk in range(len(size_bytes) - 2, -1, -1):
        change = np.abs(quality[chunk + 1] - quality[chunk][:, None])  # (R, R) from row to column
        # One function computes the QoE, of numbers and of arrays.
        earned: Any = linear_qoe(
            quality=cast(Any, quality[chunk + 1]),
            rebuffer_s=0.0,
            quality_change=cast(Any, change),
            rebuffer_penalty=0.0,
            smoothness_penalty=smoothness_penalty,
        )
        onward = most[chunk + 1] - size_bytes[chunk + 1, :, None] * price  # (R, P)
        most[chunk] = (earned[:, :, None] + onward).max(axis=1)
    return most


@_jit
def _gain_of_stalling(time_s, bytes_to, price, rebuffer_penalty):  # type: ignore[no-untyped-def]
    """Return (rows, P): most price * bytes - penalty * s over s >= 0, from the end of each row.

    The trace repeats, and no price makes a whole lap pay, so the best s is less than a lap. Bytes
    are linear in s within a row, so it is the end of a row.
    """
    rows = len(time_s)
    gain = np.zeros((rows, len(price)))
    for k in range(len(price)):
        later = 0.0
        for step in range(2 * (rows - 1), 0, -1):  # two laps, backwards
            row = 1 + (step - 1) % (rows - 1)
            gain[row, k] = later
            sent = bytes_to[row] - bytes_to[row - 1]
            span_s = time_s[row] - time_s[row - 1]
            later = max(0.0, price[k] * sent - rebuffer_penalty * span_s + later)
    return gain


@_inner
def _locate(episode, moment_s):  # type: ignore[no-untyped-def]
    """Return the row of a moment, what is left of it in s and in bytes, and bytes until then."""
    time_s, bytes_to = episode.time_s, episode.bytes_to
    lap_s = time_s[-1]
    laps = np.floor(moment_s / lap_s)
    within_s = min(max(moment_s - laps * lap_s, 0.0), lap_s)
    row = min(np.searchsorted(time_s, within_s, side="right"), len(time_s) - 1)
    left_s = time_s[row] - within_s
    left_bytes = episode.rate[row] * episode.payload_fraction * left_s
    return row, left_s, left_bytes, laps * bytes_to[-1] + bytes_to[row] - left_bytes


@_inner
def _bound_to_go(episode, chunk, label):  # type: ignore[no-untyped-def]
    """Bound the reward of the chunks after `chunk`: the smallest bound over the prices.

    It is convex in the price, so the smallest is found by bisection.
    """
    due_s, price, to_go = episode.due_s, episode.price, episode.to_go
    if chunk == len(due_s) - 1:
        return 0.0
    _, _, _, sent = _locate(episode, label.clock_s)
    row, left_s, left_bytes, due_bytes = _locate(episode, due_s[-1] + label.stall_s)
    budget, rung = due_bytes - sent, label.rung
    low, high = 0, len(price) - 1
    smallest = np.inf
    while True:
        middle = (low + high) // 2
        here, there = np.inf, np.inf
        for k in range(middle, min(middle + 2, len(price))):
            rest_of_row = price[k] * left_bytes - episode.rebuffer_penalty * left_s
            gain = max(0.0, rest_of_row + episode.stall_gain[row, k])
            bound = to_go[chunk, rung, k] + price[k] * budget + gain
            if k == middle:
                here = bound
            else:
                there = bound
        smallest = min(smallest, here, there)
        if low >= high:
            return smallest
        if here <= there:
            high = middle
        else:
            low = middle + 1


@_inner
def _download(episode, pointer, trace_s, clock_s, size_bytes):  # type: ignore[no-untyped-def]
    """Return the position in the trace and the clock after a download."""
    end = len(episode.time_s)
    if episode.lead_s > 0.0:
        pointer, trace_s = _wait(episode, 0, end, pointer, trace_s, episode.lead_s)
        clock_s += episode.lead_s
    download_s, pointer, trace_s = _carry(
        episode, 0, end, pointer, trace_s, size_bytes, episode.payload_fraction
    )
    return pointer, trace_s, clock_s + download_s


@_inner
def _pause(episode, label, buffer_s):  # type: ignore[no-untyped-def]
    """Advance a label's clock while its buffer is over the limit."""
    pause_s = _pause_for(buffer_s, episode.cap_s, episode.pause_step_s)
    if episode.proving:
        pause_s = max(pause_s - _PAUSE_SLACK_S, 0.0)
    if pause_s > 0.0:
        label.pointer, label.trace_s = _wait(
            episode, 0, len(episode.time_s), label.pointer, label.trace_s, pause_s
        )
        label.clock_s += pause_s


@_jit
def _reach(plain_episode, labels, chunk, floor):  # type: ignore[no-untyped-def]
    """Return the labels after `chunk` that may end above `floor`, dominated ones included."""
    episode = _Episode(*plain_episode)
    quality, due_s = episode.quality, episode.due_s
    found = np.empty(len(labels) * quality.shape[1] + 1, _LABEL)
    n = 0
    # Trace time at which the buffer ends, less stalls.
    dry_s = due_s[chunk] + episode.chunk_s[chunk]
    for i in range(len(labels)):
        last = labels[i]
        for rung in range(quality.shape[1]):
            pointer, trace_s, clock_s = _download(
                episode, last.pointer, last.trace_s, last.clock_s, episode.size_bytes[chunk, rung]
            )
            late_s = clock_s - due_s[chunk]
            stall_s = max(last.stall_s, late_s)
            value = last.value + _chunk_qoe(
                quality[chunk, rung],
                stall_s - last.stall_s,
                abs(quality[chunk, rung] - quality[chunk - 1, last.rung]),
                episode.rebuffer_penalty,
                episode.smoothness_penalty,
            )
            label = found[n]
            label.pointer, label.trace_s, label.clock_s = pointer, trace_s, clock_s
            label.stall_s, label.value = stall_s, value
            label.parent, label.rung = i, rung
            # It replaces labels with all stalls from least_stall_s on: it has the early clock of
            # the least, which pauses least, and the end of the buffer of its own stalls.
            least_s = max(last.least_stall_s, late_s) if episode.proving else stall_s
            label.least_stall_s = least_s
            _pause(episode, label, dry_s + least_s - clock_s)
            label.bound = value + _bound_to_go(episode, chunk, label)
            if label.bound > floor:
                n += 1
    return found[:n]


@_jit
def _undominated(found, rebuffer_penalty, proving):  # type: ignore[no-untyped-def]
    """Return (n,) which labels no other dominates; they are sorted by rung, then by clock."""
    kept = np.ones(len(found), np.bool_)
    # The best pairs (value, value had it not stalled) of the rung so far, by falling value. In a
    # planning run less stall takes the place of value: nothing then needs to be remembered.
    value, unstalled = np.empty(len(found)), np.empty(len(found))
    owner = np.empty(len(found), np.int64)
    size = 0
    for i in range(len(found)):
        if i > 0 and found[i].rung != found[i - 1].rung:
            size = 0
        v = found[i].value if proving else -found[i].stall_s
        u = found[i].value + rebuffer_penalty * found[i].stall_s
        low, high = 0, size
        while low < high:  # low becomes the number of pairs with no smaller value
            middle = (low + high) // 2
            if value[middle] >= v - _SAME:
                low = middle + 1
            else:
                high = middle
        if low > 0 and unstalled[low - 1] >= u - _SAME:
            kept[i] = False
            better = found[owner[low - 1]]
            better.least_stall_s = min(better.least_stall_s, found[i].least_stall_s)
            continue
        beaten = low
        while beaten < size and unstalled[beaten] <= u:
            beaten += 1
        if beaten == low:  # make room for the new pair
            for j in range(size, low, -1):
                value[j], unstalled[j], owner[j] = value[j - 1], unstalled[j - 1], owner[j - 1]
        else:  # close the gap behind it
            for j in range(beaten, size):
                k = low + 1 + j - beaten
                value[k], unstalled[k], owner[k] = value[j], unstalled[j], owner[j]
        value[low], unstalled[low], owner[low] = v, u, i
        size += low + 1 - beaten
    return kept


def _merged(labels: _Labels, limit: int, rebuffer_penalty: float) -> _Labels:
    """Return `limit` labels, each dominating a group of neighbours in time, all of one rung."""
    starts = np.arange(limit) * len(labels) // limit
    merged = labels[starts]  # with the earliest clock of the group
    unstalled = labels["value"] + rebuffer_penalty * labels["stall_s"]
    for name in ("stall_s", "least_stall_s"):
        merged[name] = np.minimum.reduceat(labels[name], starts)
    merged["value"] = np.maximum.reduceat(unstalled, starts) - rebuffer_penalty * merged["stall_s"]
    group = np.repeat(np.arange(limit), np.diff(starts, append=len(labels)))
    last_of_group = np.append(starts[1:], len(labels)) - 1
    best = labels[np.lexsort((labels["bound"], group))[last_of_group]]
    merged["bound"], merged["parent"] = best["bound"], best["parent"]  # the plan to replay
    return merged


def _extend(
    episode: _Episode, labels: _Labels, chunk: int, floor: float, limit: int
) -> tuple[_Labels, bool]:
    """Return the labels after `chunk`, and whether a rung had more than `limit` of them."""
    found = _reach(tuple(episode), labels, chunk, floor)
    found = found[np.lexsort((found["clock_s"], found["rung"]))]
    kept = found[_undominated(found, episode.rebuffer_penalty, episode.proving)]
    if np.bincount(kept["rung"], minlength=1).max() <= limit:
        return kept, False
    parts = []
    for rung in range(episode.quality.shape[1]):
        part = kept[kept["rung"] == rung]
        if len(part) > limit:
            if episode.proving:
                part = _merged(part, limit, episode.rebuffer_penalty)
            else:
                part = part[np.argsort(-part["bound"])[:limit]]
        parts.append(part)
    return np.concatenate(parts), True


@_jit
def _first_label(plain_episode, start_pointer):  # type: ignore[no-untyped-def]
    """Download chunk 0; return when it came, on the trace's clock, and the label after it."""
    episode = _Episode(*plain_episode)
    rung = episode.first_rung
    trace_s = episode.time_s[start_pointer - 1]
    pointer, trace_s, clock_s = _download(
        episode, start_pointer, trace_s, trace_s, episode.size_bytes[0, rung]
    )
    labels = np.zeros(1, _LABEL)
    label = labels[0]
    label.pointer, label.trace_s, label.clock_s = pointer, trace_s, clock_s
    label.rung = rung
    _pause(episode, label, episode.chunk_s[0])
    return clock_s, labels


def _planning_episode(
    trace: Trace, start_pointer: int, video: Video, qoe: LinearQoE, player: PlayerConfig
) -> _Episode:
    """Return what both runs read, with the rules of the planning run."""
    # numba compiles again for each memory layout of its arguments, hence the copies.
    time_s, rate = np.array(trace.time_s), simulator.pack_arrays([trace], video, qoe).rate
    size_bytes = np.array(video.size_bytes[: video.num_chunks], np.float64, order="C")
    quality, lengths_s = np.array(qoe.quality_of(video)), np.array(video.lengths_s)
    rebuffer_penalty = float(qoe.rebuffer_penalty)
    lead_s = float(player.rtt_s) if player.rtt_moves_clock else 0.0
    sent = np.diff(time_s) * rate[1:] * player.payload_fraction
    bytes_to = np.concatenate([[0.0], np.cumsum(sent)])
    price = _prices(size_bytes, quality, rebuffer_penalty, bytes_to[-1] / time_s[-1])
    # A round trip that advances the trace lets at least these bytes pass by, once per chunk.
    passed_by = lead_s * rate[1:].min() * player.payload_fraction
    episode = _Episode(
        time_s=time_s,
        rate=rate,
        bytes_to=bytes_to,
        size_bytes=size_bytes,
        quality=quality,
        due_s=np.zeros(video.num_chunks),
        price=price,
        to_go=_most_to_go(size_bytes + passed_by, quality, qoe.smoothness_penalty, price),
        stall_gain=_gain_of_stalling(time_s, bytes_to, price, rebuffer_penalty),
        chunk_s=lengths_s,
        first_rung=int(player.first_rung),
        rebuffer_penalty=rebuffer_penalty,
        smoothness_penalty=float(qoe.smoothness_penalty),
        cap_s=float(player.buffer_cap_s),
        pause_step_s=float(player.pause_step_s),
        payload_fraction=float(player.payload_fraction),
        lead_s=lead_s,
        proving=False,
    )
    first_s, _ = _first_label(tuple(episode), start_pointer)
    # Each chunk postpones the end of the buffer by its length, less the round trip where the trace
    # does not advance meanwhile.
    gap_s = lengths_s - (player.rtt_s - lead_s)
    # Written so that chunks of one length are due at exact multiples of it.
    unequal_s = np.append(0.0, np.cumsum(gap_s - gap_s[0])[:-1])
    return episode._replace(due_s=first_s + gap_s[0] * np.arange(video.num_chunks) + unequal_s)


def _proving_episode(planning: _Episode) -> _Episode:
    """Return the same episode with the rules of the proving run."""
    shorter = planning.size_bytes * _SHORTER
    shorter[0] = planning.size_bytes[0]  # both runs begin with the same label
    return planning._replace(proving=True, pause_step_s=0.0, size_bytes=shorter)


def _prices(
    size_bytes: FloatArray, quality: FloatArray, rebuffer_penalty: float, mean_rate: float
) -> FloatArray:
    """Return (P,) prices, dense where bytes are worth about that; any others would be valid.

    The mean rate is that of the trace, in bytes/s.
    """
    dearest = rebuffer_penalty / mean_rate * (1.0 - 1e-9)  # above, stalling for ever would pay
    # (chunks - 1, R, R) of [j] over [i]
    more_quality = quality[1:, None, :] - quality[1:, :, None]
    more_bytes = size_bytes[1:, None, :] - size_bytes[1:, :, None]
    gains = (more_quality > 0) & (more_bytes > 0)
    worth = more_quality[gains] / more_bytes[gains]
    usual = min(dearest, float(np.quantile(worth, 0.95)) if len(worth) else dearest)
    if usual == 0.0:
        return np.zeros(1)
    return np.unique(
        np.concatenate([np.linspace(0.0, usual, 96), np.geomspace(usual, dearest, 24)])
    )


class _Run(NamedTuple):
    claim: float  # best sum of rewards among the labels that reached the end, or the floor
    actions: IntArray | None  # (chunks - 1,) None if no label reached the end
    thinned: bool


def _run(episode: _Episode, start_pointer: int, floor: float, limit: int) -> _Run:
    """Search with at most `limit` labels per chunk and rung for sums above `floor`."""
    _, labels = _first_label(tuple(episode), start_pointer)
    history: list[tuple[IntArray, IntArray]] = []
    any_thinned = False
    for chunk in range(1, len(episode.size_bytes)):
        labels, thinned = _extend(episode, labels, chunk, floor, limit)
        any_thinned = any_thinned or thinned
        if not len(labels):
            return _Run(floor, None, any_thinned)
        history.append((labels["parent"].copy(), labels["rung"].copy()))
    place = int(np.argmax(labels["value"]))
    claim = float(labels["value"][place])
    actions = np.empty(len(history), np.int64)
    for n in reversed(range(len(history))):
        parents, rungs = history[n]
        actions[n], place = rungs[place], parents[place]
    return _Run(claim, actions, any_thinned)


def offline_optimum(
    trace: Trace, start_pointer: int, video: Video, qoe: LinearQoE, player: PlayerConfig
) -> Optimum:
    """Return the best action sequence of one episode without noise, and a bound on every other.

    The episode begins in the row `start_pointer` of the trace, with chunk 0 on the first rung.
    """
    check_start_pointer(start_pointer, trace)
    env = ABREnv([trace], video, qoe, player)

    def score(actions: IntArray) -> float:
        env.reset(seed=0, options={"trace": 0, "start_pointer": start_pointer})
        return sum(float(env.step(action)[1]) for action in actions)

    planning = _planning_episode(trace, start_pointer, video, qoe, player)
    proving = _proving_episode(planning)
    actions = _run(planning, start_pointer, -np.inf, _BEAM).actions
    assert actions is not None, "without a floor some label reaches the end"
    best = score(actions)  # in the simulator itself
    bound = np.inf
    for limit in _LIMITS:
        slack = _TOLERANCE * (1.0 + abs(best))
        proof = _run(proving, start_pointer, best + slack, limit)
        bound = min(bound, proof.claim)
        plans = [proof.actions]
        if proof.actions is not None and score(proof.actions) < proof.claim - slack:
            plans.append(_run(planning, start_pointer, best + slack, limit).actions)
        for plan in plans:
            if plan is not None and score(plan) > best:
                actions, best = plan, score(plan)
        if not proof.thinned or bound <= best + 2.0 * slack:
            break
    exact = bound <= best + 2.0 * slack
    bound = max(bound, best) + slack
    return Optimum(actions, best / len(actions), bound / len(actions), bool(exact))


class OptimumPolicy(Rule):
    """Plays the offline optimum of each row's episode: an upper limit, since it knows the trace.

    Attributes:
        upper_bounds: (episodes,) what no policy can beat in the mean reward of each episode, in the
            order in which they began.
        exact: (N,) whether the plan of the episode that a row plays is known to reach it.

    Raises:
        InputError: If a row has download noise: its future is random, so no plan is best.
    """

    name = "optimum"
    needs_own_episodes = True  # from their beginning

    def __init__(self, env: ABREnv | ABRVectorEnv) -> None:
        for row, noise in enumerate(env.noises):
            if (noise.low, noise.high) != (1.0, 1.0):
                raise InputError(
                    f"noise must be off for the policy optimum, which plans on the known trace, "
                    f"got ({noise.low}, {noise.high}) in row {row}"
                )
        self._env = env
        self._solved: dict[tuple[int, int, PlayerConfig], Optimum] = {}
        self._plans = np.zeros((num_rows_of(env), env.video.num_chunks - 1), np.int64)
        self._played = np.zeros(num_rows_of(env), np.int64)
        self.upper_bounds: list[float] = []
        self.exact = np.zeros(num_rows_of(env), np.bool_)

    def reset(self, rows: IntArray, seeds: IntArray) -> None:
        """Plan the episodes that these rows have begun."""
        env = self._env
        trace_index, start_pointer = env.trace_index, env.start_pointer
        for row in rows:
            case = (int(trace_index[row]), int(start_pointer[row]), env.players[row])
            if case not in self._solved:
                trace = env.trace_set.traces[case[0]]
                self._solved[case] = offline_optimum(trace, case[1], env.video, env.qoe, case[2])
            optimum = self._solved[case]
            self._plans[row], self._played[row] = optimum.actions, 0
            self.upper_bounds.append(optimum.upper_bound)
            self.exact[row] = optimum.exact

    def choose(self, observations: Any) -> IntArray:
        """Return (N,) the next rung of each plan; past its end the last one, which is not used."""
        step = np.minimum(self._played, self._plans.shape[1] - 1)
        self._played += 1
        return self._plans[np.arange(len(step)), step]
