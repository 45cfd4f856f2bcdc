"""The search of model predictive control for ABR: the first rung of each row's best plan.

The tree of plans is searched depth first, from the top rung down, so plans come in falling
lexicographic order, and the first of several plans with equal scores is the result. What a node has
added up is carried down, in the order in which a loop over the whole plan would add it.

A node is left out when an upper bound on all plans below it is lower than the score of a known
plan. With m chunks still to choose, of lengths L_1..L_m, downloads d_1..d_m and a buffer of b, the
buffer at the end is b + sum(L) - sum(d) + stall, and it is at least L_m, because it still contains
the last chunk. So stall >= sum(d) - b - (L_1 + ... + L_m-1), and for every price p between 0 and
the rebuffer penalty the rest of a plan earns at most

    sum(quality - smoothness - p d) + p (b + L_1 + ... + L_m-1),

whose maximum over plans is a small dynamic programme over rungs (`rest`). The bound is the smallest
of these over the prices. It holds for real numbers. In floating point, a bound and a score are each
fewer than 20 operations per chunk on terms whose magnitudes add up to at most 2 `scale`, so
rounding changes each by less than 5e-15 scale per chunk; a node is left out only if its bound is
1e-13 scale per chunk too low. So plans that are left out are strictly worse in floating point as
well, and the result is that of the full search, ties included. Where a forecast of 0 makes terms
infinite, no comparison with the margin holds, and nothing is left out.

Units: seconds and bytes; thousandths of the QoE's quality (kbit/s for the linear QoE), because
their sums are whole numbers for the usual ladders and hence exact.
"""

from typing import Any, NamedTuple

import numpy as np

from netllm_gym.arrays import FloatArray
from netllm_gym.compiled import cached_njit, njit
from netllm_gym.envs.abr.simulator import chunk_qoe

_OPTIONS: dict[str, Any] = {"_nrt": False}  # only `search_plans` allocates
_inner = njit(error_model="numpy", **_OPTIONS)
# One node of the path from the root of the tree.
_NODE = np.dtype(
    [
        ("untried", np.int64),  # the next rung to try
        ("last", np.int64),  # the rung before
        ("total", np.float64),  # sums over the path so far
        ("changes", np.float64),
        ("stall_s", np.float64),
        ("left_s", np.float64),  # buffer
        ("later_s", np.float64),  # lengths of the chunks after this one, without the last
    ],
    align=True,
)


class Planner(NamedTuple):
    """What plans of all rows are scored with; `search_plans` takes it as a plain tuple."""

    size_bytes: FloatArray  # (chunks, rungs)
    milli_quality: FloatArray  # (chunks, rungs) thousandths of the quality
    step_limit: int  # most rungs between two chunks of a plan
    chunk_s: FloatArray  # (chunks,)
    rebuffer_penalty: float
    smoothness_penalty: float
    prices: FloatArray  # (P,) of a second of buffer, between 0 and the rebuffer penalty


@_inner
def _score(planner, total, changes, stall_s):  # type: ignore[no-untyped-def]
    """Return the QoE of a plan from its sums."""
    return chunk_qoe(
        total / 1000.0,
        stall_s,
        changes / 1000.0,
        planner.rebuffer_penalty,
        planner.smoothness_penalty,
    )


@_inner
def _change(planner, chunk, rung, last):  # type: ignore[no-untyped-def]
    """Return by how much the quality changes between the chunk before and this one."""
    return abs(planner.milli_quality[chunk, rung] - planner.milli_quality[chunk - 1, last])


@_inner
def _played(stall_s, left_s, download_s, chunk_s):  # type: ignore[no-untyped-def]
    """Return the sum of stalls and the buffer after a download."""
    if left_s < download_s:
        return stall_s + (download_s - left_s), 0.0 + chunk_s
    return stall_s, left_s - download_s + chunk_s


@_inner
def _margin_of(planner, first, download_s, depths, buffer_s):  # type: ignore[no-untyped-def]
    """Return by how much a bound must be too low, in view of rounding."""
    scale = 1.0 + planner.rebuffer_penalty * buffer_s
    # A change is at most the sum of two qualities, so each quality counts twice in changes.
    weight = (1.0 + 2.0 * planner.smoothness_penalty) / 1000.0
    for depth in range(-1, depths):
        slowest_s, best = 0.0, 0.0
        for rung in range(planner.milli_quality.shape[1]):
            best = max(best, abs(planner.milli_quality[first + depth, rung]))
            if depth >= 0:
                slowest_s = max(slowest_s, download_s[depth, rung])
        scale += weight * best
        if depth >= 0:
            scale += planner.rebuffer_penalty * (slowest_s + planner.chunk_s[first + depth])
    return 1e-13 * depths * scale


@_inner
def _fill_rest(planner, first, download_s, depths, rest, follow):  # type: ignore[no-untyped-def]
    """Write the most that the rest of a plan earns at each price, and the rungs that earn it."""
    num_rungs = planner.milli_quality.shape[1]
    for p in range(len(planner.prices)):
        rest[p, depths] = 0.0
        for depth in range(depths - 1, -1, -1):
            for last in range(num_rungs):
                low = max(0, last - planner.step_limit)
                high = min(num_rungs - 1, last + planner.step_limit)
                most, attained_by = -np.inf, low
                for rung in range(low, high + 1):
                    worth = rest[p, depth + 1, rung] + chunk_qoe(
                        planner.milli_quality[first + depth, rung] / 1000.0,
                        download_s[depth, rung],
                        _change(planner, first + depth, rung, last) / 1000.0,
                        planner.prices[p],
                        planner.smoothness_penalty,
                    )
                    if worth > most:
                        most, attained_by = worth, rung
                rest[p, depth, last], follow[p, depth, last] = most, attained_by


@_inner
def _score_of(planner, first, download_s, depths, follow, last, left_s):  # type: ignore[no-untyped-def]
    """Return the score of the plan that takes the rungs of `follow`, (depths, rungs)."""
    total, changes, stall_s = 0.0, 0.0, 0.0
    for depth in range(depths):
        rung, chunk = follow[depth, last], first + depth
        total += planner.milli_quality[chunk, rung]
        changes += _change(planner, chunk, rung, last)
        stall_s, left_s = _played(stall_s, left_s, download_s[depth, rung], planner.chunk_s[chunk])
        last = rung
    return _score(planner, total, changes, stall_s)


@_inner
def _first_rung(planner, first, download_s, depths, rest, path, best, margin):  # type: ignore[no-untyped-def]
    """Return the first rung of the best plan.

    Of the (depths,) nodes of the path the first is set; `best` is the score of some plan, or less;
    `first` is the index of the plan's first chunk.
    """
    result, found = 0, False
    top = planner.milli_quality.shape[1] - 1
    depth = 0
    while depth >= 0:
        node = path[depth]
        rung, last = node.untried, node.last
        if rung < 0 or rung < last - planner.step_limit:
            depth -= 1
            continue
        node.untried -= 1
        chunk = first + depth
        total = node.total + planner.milli_quality[chunk, rung]
        changes = node.changes + _change(planner, chunk, rung, last)
        stall_s, left_s = _played(
            node.stall_s, node.left_s, download_s[depth, rung], planner.chunk_s[chunk]
        )
        score = _score(planner, total, changes, stall_s)
        if depth + 1 == depths:
            if score > best or (score == best and not found):
                best, found = score, True
                result = path[0].untried + 1
            continue
        spare_s = left_s + node.later_s
        promising = True
        for p in range(len(planner.prices)):
            bound = rest[p, depth + 1, rung] + planner.prices[p] * spare_s
            if score + bound + margin < best:
                promising = False
                break
        if promising:
            depth += 1
            node = path[depth]
            node.last, node.untried = rung, min(top, rung + planner.step_limit)
            node.total, node.changes, node.stall_s, node.left_s = total, changes, stall_s, left_s
    return result


@cached_njit(error_model="numpy")
def search_plans(  # type: ignore[no-untyped-def]
    plain_planner, next_chunk, horizon, forecast_mbs, buffer_s, last_rung
):
    """Return (N,) the first rung of each row's best plan.

    Args:
        plain_planner: `Planner` as a plain tuple.
        next_chunk: (N,) index of the first chunk of each row's plan.
        horizon: (N,) chunks to plan; rung 0 is returned for 0.
        forecast_mbs: (N,) throughput in MB/s (10^6 bytes/s).
        buffer_s: (N,) buffer before the plan.
        last_rung: (N,) rung of the chunk before the plan.
    """
    planner = Planner(*plain_planner)
    num_rungs, num_prices = planner.milli_quality.shape[1], len(planner.prices)
    longest = max(1, horizon.max())
    download_s = np.empty((longest, num_rungs))
    rest = np.empty((num_prices, longest + 1, num_rungs))  # [price, chunk, rung before it]
    follow = np.empty((num_prices, longest, num_rungs), np.int64)
    path = np.zeros(longest, _NODE)
    rungs = np.zeros(len(horizon), np.int64)
    for n in range(len(rungs)):
        depths, first, last = horizon[n], next_chunk[n], last_rung[n]
        if depths <= 0:
            continue
        for depth in range(depths):
            for rung in range(num_rungs):
                size = planner.size_bytes[first + depth, rung]
                download_s[depth, rung] = size / 1000000.0 / forecast_mbs[n]
        _fill_rest(planner, first, download_s, depths, rest, follow)
        best = -1e8  # as in the reference, whose answer is 0 where every plan scores less
        for p in range(num_prices):  # the plan that a price suggests is a good one to begin with
            score = _score_of(planner, first, download_s, depths, follow[p], last, buffer_s[n])
            best = max(best, score)
        path[0].last, path[0].untried = last, min(num_rungs - 1, last + planner.step_limit)
        path[0].total, path[0].changes, path[0].stall_s = 0.0, 0.0, 0.0
        path[0].left_s = buffer_s[n]
        later_s = 0.0
        for depth in range(depths - 2, -1, -1):
            path[depth].later_s = later_s
            later_s += planner.chunk_s[first + depth]
        margin = _margin_of(planner, first, download_s, depths, buffer_s[n])
        rungs[n] = _first_rung(planner, first, download_s, depths, rest, path, best, margin)
    return rungs
