"""The best that any policy could have scored in one ABR episode, with a proof by bound.

A label-setting search over chunks with continuous state. A label is one way to have downloaded
chunks 0..n: the rung of the last, where the trace stands (`clock_s`, counted over laps), how long
the video has stalled (`stall_s`), what was earned (`value`). The buffer ends at `dry_s + stall_s`
on the trace's clock, and `dry_s` depends on n alone: a chunk puts it off by its length, less the
round trip where the trace stands still meanwhile; a pause takes from the buffer what it adds to the
clock. Chunk n stalls by as much as it comes after `due_s[n]` plus the stalls before.

Two runs. The planning run plays the true law and keeps the most hopeful labels; its plan is
replayed in the simulator, and that score is the floor of the other. The proving run pauses exactly
the excess, which is never later than in steps and so never worse, and drops a label only because
of one of these:

*Dominance.* Of two labels of one rung, a stands for b if its clock is no later and both `value` and
`value + rebuffer_penalty * stall_s` (what was earned without the stalls) are no smaller. Let a copy
b's choices. Downloads are first come, first served, so a's clock stays no later, and no chunk comes
later after its `due_s`. All stalls of a label are the largest such lateness so far. If a has
stalled no more than b, it will have stalled no more at the end, and without stalls it earned no
less. If it has stalled more, b must still stall all that a must, and a's `value` is no smaller.
One thing breaks this: a label that has stalled more has a later end of the buffer, so at a full
buffer it must pause where b need not, and may miss the link's last good second. So a remembers the
least stall it stands for (`least_stall_s`), and pauses as if it had stalled no more than that:
more than any player can have, so still a bound.

*Bound.* Let the chunks to come have rungs r_i, the last of them due at E, and s be the stalls to
come. All bytes are sent between now and E + s. So for every price p >= 0 of a byte

    reward to come <= sum_i (bitrate_i - smoothness_i - p bytes_i)
                      + p (bytes that the trace carries from now to E + s) - rebuffer_penalty s

The sum has a best rung sequence for each p (`to_go`, one backward sweep). The rest has a largest
value over s (`stall_gain`: bytes bought by stalling), finite as long as p times the trace's mean
rate is below the penalty. Every such p gives a bound, and the smallest of about a hundred is taken:
the Lagrangian dual of the knapsack of bytes. Nothing is assumed of speed, ladder, sizes or weights.
Left out are the buffer cap, what is due before E, and of the bytes that pass by in round trips
that move the trace all but the least possible; this makes the bound looser, not wrong.

*Thinning.* More labels than a limit are merged in groups, each into one that dominates its group.
The bound gets looser again, not wrong. `exact` is said only if it meets the replayed score, which
pauses in steps or merging may prevent.

Rounding: the proving run shortens sizes by a factor 1e-11 and pauses by 1e-11 s, so that it stays
ahead of the true clock even where the link stops; sums may be off by a share of 1e-9.

Source: the method of `spec/abr.md` 1.4. Differs: prices in place of its knapsack, which holds only
where stalling never pays; the remembered stall, which its dominance lacks.
"""

from typing import Any, NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from netllm_gym.arrays import FloatArray, IntArray
from netllm_gym.data.abr.traces import Trace, check_start_pointer
from netllm_gym.data.abr.video import Video
from netllm_gym.envs.abr import simulator
from netllm_gym.envs.abr.env import ABREnv
from netllm_gym.envs.abr.player import PlayerConfig
from netllm_gym.envs.abr.qoe import LinearQoE, chunk_qoe
from netllm_gym.envs.abr.vector_env import ABRVectorEnv
from netllm_gym.errors import InputError

_BEAM = 64  # labels per rung in the planning run
_LIMITS = (4_000, 20_000)  # labels per rung in the proving runs, the second where the first fails
_TOLERANCE = 1e-9  # share of a sum of rewards that rounding may hide
_SAME = 1e-11  # labels whose values differ by less are worth the same
_SHORTER = 1.0 - 1e-11  # factor on sizes in the proving run
_PAUSE_SLACK_S = 1e-11  # off each pause of the proving run

_carry, _wait, _pause_for = simulator.carry, simulator.wait, simulator.pause_for
_jit = numba.njit(cache=True, error_model="numpy")
_chunk_qoe = _jit(chunk_qoe)

# One way to have downloaded the chunks so far, and what is known of its future.
_LABEL = np.dtype(
    [
        ("pointer", np.int64),  # trace row whose capacity holds now
        ("trace_s", np.float64),  # position in the trace
        ("clock_s", np.float64),  # the same, counted over laps
        ("stall_s", np.float64),
        ("least_stall_s", np.float64),  # of the labels that it stands for
        ("value", np.float64),  # reward so far
        ("hope", np.float64),  # bound on the whole reward
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


# What a run must know beside arrays.
_RULES = np.dtype(
    [
        ("chunk_s", np.float64),
        ("rebuffer_penalty", np.float64),
        ("smoothness_penalty", np.float64),
        ("cap_s", np.float64),
        ("step_s", np.float64),  # of a pause; 0 is exact
        ("payload_fraction", np.float64),
        ("lead_s", np.float64),  # round trip, where it moves the trace
        ("proving", np.bool_),  # whether a label may be dropped only for a reason
    ],
    align=True,
)


class _Game(NamedTuple):
    """One episode as the kernels read it: R rungs, P prices.

    They are passed `tuple(game)`: numba's cache on disk would break when this class is renamed.

    Attributes:
        rules: (1,) record of _RULES.
        link: time_s (rows,), rate (rows,) in bytes/s, and bytes_to (rows,), the video bytes carried
            from 0 to the end of each row.
        video: size_bytes (chunks, R), ladder_mbps (R,), and due_s (chunks,), the trace time from
            which chunk n stalls, had nothing stalled before.
        prices: price (P,) rising from 0, reward per byte; to_go (chunks, R, P), most reward less
            price of the chunks after n; stall_gain (rows, P), most that a stall from the end of
            each row on can earn.
    """

    rules: NDArray[np.void]
    link: tuple[FloatArray, FloatArray, FloatArray]
    video: tuple[FloatArray, FloatArray, FloatArray]
    prices: tuple[FloatArray, FloatArray, FloatArray]


def _most_to_go(
    size_bytes: FloatArray,  # (chunks, R)
    ladder_mbps: FloatArray,  # (R,)
    smoothness_penalty: float,
    price: FloatArray,  # (P,)
) -> FloatArray:
    """Return (chunks, R, P): most bitrate - smoothness - price * bytes of the chunks after n."""
    earned = np.array(
        [
            [chunk_qoe(bitrate, last, 0.0, 0.0, smoothness_penalty) for bitrate in ladder_mbps]
            for last in ladder_mbps
        ]
    )
    most = np.zeros((*size_bytes.shape, len(price)))
    for chunk in range(len(size_bytes) - 2, -1, -1):
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


@_jit
def _place(rules, link, moment_s):  # type: ignore[no-untyped-def]
    """Return the row of a moment, what is left of it in s and in bytes, and bytes until then."""
    time_s, rate, bytes_to = link
    lap_s = time_s[-1]
    laps = np.floor(moment_s / lap_s)
    within_s = min(max(moment_s - laps * lap_s, 0.0), lap_s)
    row = min(np.searchsorted(time_s, within_s, side="right"), len(time_s) - 1)
    left_s = time_s[row] - within_s
    left_bytes = rate[row] * rules.payload_fraction * left_s
    return row, left_s, left_bytes, laps * bytes_to[-1] + bytes_to[row] - left_bytes


@_jit
def _bound_to_go(game, chunk, label):  # type: ignore[no-untyped-def]
    """Bound the reward of the chunks after `chunk`: the smallest over the prices.

    It is convex in the price, so the smallest is found by halving.
    """
    rules, link = game[0][0], game[1]
    due_s = game[2][2]
    price, to_go, stall_gain = game[3]
    if chunk == len(due_s) - 1:
        return 0.0
    _, _, _, sent = _place(rules, link, label.clock_s)
    row, left_s, left_bytes, due_bytes = _place(rules, link, due_s[-1] + label.stall_s)
    budget = due_bytes - sent
    earned, gain = to_go[chunk, label.rung], stall_gain[row]
    low, high = 0, len(price) - 1
    smallest = np.inf
    while True:
        middle = (low + high) // 2
        here, there = np.inf, np.inf
        for k in range(middle, min(middle + 2, len(price))):
            rest_of_row = price[k] * left_bytes - rules.rebuffer_penalty * left_s
            bound = earned[k] + price[k] * budget + max(0.0, rest_of_row + gain[k])
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


@_jit
def _download(rules, link, pointer, trace_s, clock_s, size_bytes):  # type: ignore[no-untyped-def]
    """Return the position in the trace and the clock after a download."""
    time_s, rate, _ = link
    end = len(time_s)
    if rules.lead_s > 0.0:
        pointer, trace_s = _wait(time_s, 0, end, pointer, trace_s, rules.lead_s)
        clock_s += rules.lead_s
    pace = rules.payload_fraction
    download_s, pointer, trace_s = _carry(time_s, rate, 0, end, pointer, trace_s, size_bytes, pace)
    return pointer, trace_s, clock_s + download_s


@_jit
def _pause(rules, link, label, buffer_s):  # type: ignore[no-untyped-def]
    """Let a label's clock run while its buffer is over the cap."""
    pause_s = _pause_for(buffer_s, rules.cap_s, rules.step_s)
    if rules.proving:
        pause_s = max(pause_s - _PAUSE_SLACK_S, 0.0)
    if pause_s > 0.0:
        time_s = link[0]
        label.pointer, label.trace_s = _wait(
            time_s, 0, len(time_s), label.pointer, label.trace_s, pause_s
        )
        label.clock_s += pause_s


@_jit
def _reach(game, labels, chunk, floor):  # type: ignore[no-untyped-def]
    """Return the labels after `chunk` that may end above `floor`, undominated or not."""
    rules, link = game[0][0], game[1]
    size_bytes, ladder_mbps, due_s = game[2]
    found = np.empty(len(labels) * len(ladder_mbps) + 1, _LABEL)
    n = 0
    dry_s = due_s[chunk] + rules.chunk_s  # trace time at which the buffer ends, less stalls
    for i in range(len(labels)):
        last = labels[i]
        for rung in range(len(ladder_mbps)):
            pointer, trace_s, clock_s = _download(
                rules, link, last.pointer, last.trace_s, last.clock_s, size_bytes[chunk, rung]
            )
            late_s = clock_s - due_s[chunk]
            stall_s = max(last.stall_s, late_s)
            more_s = stall_s - last.stall_s
            bitrate_mbps, last_mbps = ladder_mbps[rung], ladder_mbps[last.rung]
            value = last.value + _chunk_qoe(
                bitrate_mbps, last_mbps, more_s, rules.rebuffer_penalty, rules.smoothness_penalty
            )
            label = found[n]
            label.pointer, label.trace_s, label.clock_s = pointer, trace_s, clock_s
            label.stall_s, label.value = stall_s, value
            label.parent, label.rung = i, rung
            # It stands for all stalls from least_stall_s on: the early clock of the least, which
            # pauses least, with the late dry time of its own.
            least_s = max(last.least_stall_s, late_s) if rules.proving else stall_s
            label.least_stall_s = least_s
            _pause(rules, link, label, dry_s + least_s - clock_s)
            label.hope = value + _bound_to_go(game, chunk, label)
            if label.hope > floor:
                n += 1
    return found[:n]


@_jit
def _undominated(found, rebuffer_penalty, proving):  # type: ignore[no-untyped-def]
    """Return (n,) whether no other label dominates; they come by rung, then by rising clock."""
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
    best = labels[np.lexsort((labels["hope"], group))[last_of_group]]
    merged["hope"], merged["parent"] = best["hope"], best["parent"]  # the plan to replay
    return merged


def _extend(
    game: _Game, labels: _Labels, chunk: int, floor: float, limit: int
) -> tuple[_Labels, bool]:
    """Return the labels after `chunk`, and whether a rung had more than `limit` of them."""
    proving = bool(game.rules["proving"][0])
    penalty = float(game.rules["rebuffer_penalty"][0])
    found = _reach(tuple(game), labels, chunk, floor)
    found = found[np.lexsort((found["clock_s"], found["rung"]))]
    kept = found[_undominated(found, penalty, proving)]
    if np.bincount(kept["rung"], minlength=1).max() <= limit:
        return kept, False
    parts = []
    for rung in range(len(game.video[1])):
        part = kept[kept["rung"] == rung]
        if len(part) > limit:
            if proving:
                part = _merged(part, limit, penalty)
            else:
                part = part[np.argsort(-part["hope"])[:limit]]
        parts.append(part)
    return np.concatenate(parts), True


@_jit
def _first_label(all_rules, link, start_pointer, size_bytes):  # type: ignore[no-untyped-def]
    """Download chunk 0; return when it came, on the trace's clock, and the label after it."""
    rules, trace_s = all_rules[0], link[0][start_pointer - 1]
    pointer, trace_s, clock_s = _download(rules, link, start_pointer, trace_s, trace_s, size_bytes)
    labels = np.zeros(1, _LABEL)
    label = labels[0]
    label.pointer, label.trace_s, label.clock_s = pointer, trace_s, clock_s
    _pause(rules, link, label, rules.chunk_s)
    return clock_s, labels


def _planning_game(
    trace: Trace, start_pointer: int, video: Video, qoe: LinearQoE, player: PlayerConfig
) -> _Game:
    """Lay out what both runs read, with the rules of the planning run."""
    time_s, rate = np.array(trace.time_s), simulator.pack_arrays([trace], video, qoe).link[1]
    # numba compiles anew for each memory layout of its arguments, hence the copies.
    size_bytes = np.array(video.size_bytes[: video.num_chunks], np.float64, order="C")
    ladder_mbps = np.array(video.ladder_mbps)
    rules = np.zeros(1, _RULES)
    rules["chunk_s"] = video.chunk_s
    rules["rebuffer_penalty"] = qoe.rebuffer_penalty
    rules["smoothness_penalty"] = qoe.smoothness_penalty
    rules["cap_s"] = player.buffer_cap_s
    rules["step_s"] = player.pause_step_s
    rules["payload_fraction"] = player.payload_fraction
    rules["lead_s"] = lead_s = player.rtt_s if player.rtt_moves_clock else 0.0

    sent = np.diff(time_s) * rate[1:] * player.payload_fraction
    bytes_to = np.concatenate([[0.0], np.cumsum(sent)])
    link = (time_s, rate, bytes_to)
    first_s, _ = _first_label(rules, link, start_pointer, size_bytes[0, 0])
    # Each chunk moves the time at which the buffer ends by its length, less the round trip where
    # the trace stands still meanwhile.
    gap_s = video.chunk_s - (player.rtt_s - lead_s)
    due_s = first_s + gap_s * np.arange(video.num_chunks)

    price = _prices(size_bytes, ladder_mbps, qoe.rebuffer_penalty, bytes_to[-1] / time_s[-1])
    # A round trip that moves the trace lets at least these bytes pass by, once per chunk.
    passed_by = lead_s * rate[1:].min() * player.payload_fraction
    to_go = _most_to_go(size_bytes + passed_by, ladder_mbps, qoe.smoothness_penalty, price)
    gain = _gain_of_stalling(time_s, bytes_to, price, float(qoe.rebuffer_penalty))
    return _Game(rules, link, (size_bytes, ladder_mbps, due_s), (price, to_go, gain))


def _proving_game(game: _Game) -> _Game:
    """Return the same episode with the rules of the proving run."""
    rules = game.rules.copy()
    rules["proving"], rules["step_s"] = True, 0.0
    size_bytes, ladder_mbps, due_s = game.video
    return game._replace(rules=rules, video=(size_bytes * _SHORTER, ladder_mbps, due_s))


def _prices(
    size_bytes: FloatArray,  # (chunks, R)
    ladder_mbps: FloatArray,  # (R,)
    rebuffer_penalty: float,
    mean_rate: float,
) -> FloatArray:
    """Return (P,) prices close enough where bytes are worth them; any others would be valid."""
    dearest = rebuffer_penalty / mean_rate * (1.0 - 1e-9)  # above, stalling on would pay for ever
    more_mbps = ladder_mbps[None, :] - ladder_mbps[:, None]  # (R, R) of [j] over [i]
    more_bytes = size_bytes[1:, None, :] - size_bytes[1:, :, None]  # (chunks - 1, R, R)
    gains = (more_mbps > 0) & (more_bytes > 0)
    worth = np.broadcast_to(more_mbps, gains.shape)[gains] / more_bytes[gains]
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


def _run(game: _Game, start_pointer: int, chunk_0_bytes: float, floor: float, limit: int) -> _Run:
    """Search with at most `limit` labels per chunk and rung for sums above `floor`."""
    _, labels = _first_label(game.rules, game.link, start_pointer, chunk_0_bytes)
    history: list[tuple[IntArray, IntArray]] = []
    any_thinned = False
    for chunk in range(1, len(game.video[0])):
        labels, thinned = _extend(game, labels, chunk, floor, limit)
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

    Args:
        trace: The link.
        start_pointer: Row of the trace in which the episode begins.
        video: Its chunk 0 is downloaded on the lowest rung, as every episode begins.
        qoe: Weights of the reward.
        player: Constants of player and link.
    """
    check_start_pointer(start_pointer, trace)
    env = ABREnv([trace], video, qoe, player)

    def score(actions: IntArray) -> float:
        """Return the sum of rewards in the simulator itself."""
        env.reset(seed=0, options={"trace": 0, "start_pointer": start_pointer})
        return sum(float(env.step(action)[1]) for action in actions)

    planning = _planning_game(trace, start_pointer, video, qoe, player)
    proving = _proving_game(planning)
    begin = (start_pointer, float(video.size_bytes[0, 0]))
    actions = _run(planning, *begin, -np.inf, _BEAM).actions
    assert actions is not None, "without a floor some label reaches the end"
    best = score(actions)
    bound = np.inf
    for limit in _LIMITS:
        slack = _TOLERANCE * (1.0 + abs(best))
        proof = _run(proving, *begin, best + slack, limit)
        bound = min(bound, proof.claim)
        plans = [proof.actions]
        if proof.actions is not None and score(proof.actions) < proof.claim - slack:
            plans.append(_run(planning, *begin, best + slack, limit).actions)
        for plan in plans:
            if plan is not None and score(plan) > best:
                actions, best = plan, score(plan)
        if not proof.thinned or bound <= best + 2.0 * slack:
            break
    exact = bound <= best + 2.0 * slack
    bound = max(bound, best) + slack
    return Optimum(actions, best / len(actions), bound / len(actions), bool(exact))


class OptimumPolicy:
    """Plays the offline optimum of each row's episode: no policy, a yardstick that sees the trace.

    Attributes:
        upper_bounds: (episodes,) what no policy can beat in the mean reward of each episode, in the
            order in which they began.
        exact: (N,) whether the plan of the episode that a row plays is known to reach it.
        needs_own_episodes: It plans from the beginning.

    Raises:
        InputError: If a row has download noise: its future is random, so no plan is best.
    """

    name = "optimum"
    needs_own_episodes = True

    def __init__(self, env: ABREnv | ABRVectorEnv) -> None:
        for row, noise in enumerate(env.noises):
            if (noise.low, noise.high) != (1.0, 1.0):
                raise InputError(
                    f"noise must be off for the policy optimum, which plans on the known trace, "
                    f"got ({noise.low}, {noise.high}) in row {row}"
                )
        self._env = env
        self._solved: dict[tuple[int, int, PlayerConfig], Optimum] = {}
        self._plans = np.zeros((env.num_envs, env.video.num_chunks - 1), np.int64)
        self._played = np.zeros(env.num_envs, np.int64)
        self.upper_bounds: list[float] = []
        self.exact = np.zeros(env.num_envs, np.bool_)

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

    def act(self, observations: Any, rewards: FloatArray, infos: Any) -> IntArray:
        """Return (N,) the next rung of each plan; past its end the last one, which nobody plays."""
        step = np.minimum(self._played, self._plans.shape[1] - 1)
        self._played += 1
        return self._plans[np.arange(len(step)), step]
