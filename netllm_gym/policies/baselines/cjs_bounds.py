"""Lower bounds on the mean job completion time of an episode, which no scheduler can beat.

*Stage.* N tasks run on at most k = min(E, N) executors. An executor's first task of the stage takes
at least f, the smallest of the lists of fresh and first tasks at any level that E executors reach.
Its later tasks take at least m, the smallest of those and of the lists of later tasks. With n
executors the work is n f + (N - n) m, which is smallest for n = 1. The time is at least work / n,
which is smallest for n = k: f + (N / k - 1) m. A recording knows each task, so the work of a stage
is the sum of its tasks, and its time is at least work / k and at least the longest task.

*Job.* Executors reach a job one moving delay after it arrives. From then on it takes at least the
longest path of stage times, and at least its work / E.

*Cluster.* No schedule has a smaller sum of completion times than SRPT on one machine that is E
times as fast and can be divided among tasks in any way (Schrage, Operations Research 1968).

*Combination.* The jobs of any subset take at least their own bounds, and the other jobs at least
the time of SRPT without this subset. Every subset gives a bound; a local search looks for a good
one. The combination is this package's own.

The smallest of a list is its mean or its minimum. With means the bound holds for expected durations
(as far as the number of executors does not depend on the draws: the work of a job varies by 2 to
5 %). With minima it holds for every draw, and it also uses that the executor with most tasks has at
least ceil(N / k) of them.
"""

from collections.abc import Sequence
from heapq import heappop, heappush
from typing import Any, NamedTuple

import numpy as np

from netllm_gym.arrays import FloatArray, IntArray
from netllm_gym.compiled import cached_njit
from netllm_gym.configs import check
from netllm_gym.data.cjs.workload import FIRST, FRESH, LEVELS, REST, Jobs, Workload
from netllm_gym.envs.cjs.vector_env import CJSVectorEnv
from netllm_gym.envs.plan import PlannedEpisode
from netllm_gym.policies.baselines.cjs import longest_paths

_jit = cached_njit(error_model="numpy")


class LowerBound(NamedTuple):
    """Lower bounds on the mean job completion time of one episode, in seconds."""

    bound_s: float  # the largest that is known
    critical_path_s: float  # each job alone in the cluster
    srpt_s: float  # the cluster as one machine


def lower_bound(
    workload: Workload,
    jobs: Jobs,
    num_executors: int,
    moving_delay_s: float,
    sure: bool = False,
) -> LowerBound:
    """Bound the mean job completion time of an episode from below.

    A `sure` bound holds for every draw of durations, not only in expectation.
    """
    check(num_executors >= 1, "num_executors", "be at least 1", num_executors)
    stage_work_ms, stage_time_ms = stage_bounds_ms(workload, num_executors, sure)
    begins = workload.stage_offset[:-1]
    work_ms = np.add.reduceat(stage_work_ms, begins)[jobs.template] / num_executors
    paths_ms = longest_paths(stage_time_ms, _edges(workload))
    path_ms = np.maximum.reduceat(paths_ms, begins)[jobs.template]
    moving_ms = moving_delay_s * 1000.0
    own_ms = moving_ms + np.maximum(path_ms, work_ms)
    order = np.argsort(jobs.arrival_ms, kind="stable")
    release_ms = np.asarray(jobs.arrival_ms, np.float64)[order] + moving_ms
    shared = np.ones(len(order), np.bool_)
    srpt_ms = moving_ms * len(order) + _flow(release_ms, work_ms[order], shared)
    together_ms = _best_mix(release_ms, work_ms[order], own_ms[order], moving_ms)
    bounds_ms = np.array([together_ms, own_ms.sum(), srpt_ms]) / len(order)
    bound_s, critical_path_s, srpt_s = (bounds_ms / 1000.0).tolist()
    return LowerBound(bound_s, critical_path_s, srpt_s)


class Bound:
    """A limit for tables: what no schedule beats in expectation, for each planned episode."""

    name, sure = "bound", False

    def __init__(self, env: CJSVectorEnv) -> None:
        self._env = env

    def limits(self, plan: Sequence[PlannedEpisode]) -> FloatArray:
        """Return (E,) lower bounds on the mean job completion time, in seconds."""
        clusters = self._env.batch
        bounds = [
            lower_bound(
                clusters.workload,
                clusters.jobs(planned.options["arrival_seed"]),
                clusters.num_executors,
                clusters.cluster.moving_delay_s,
                self.sure,
            )
            for planned in plan
        ]
        return np.array([bound.bound_s for bound in bounds])


class SureBound(Bound):
    """The same for every draw of the durations."""

    name, sure = "bound_sure", True


def stage_bounds_ms(
    workload: Workload, num_executors: int, sure: bool
) -> tuple[FloatArray, FloatArray]:
    """Return (M,) lower bounds on the work of each stage, and (M,) on its time, in ms."""
    count = workload.num_tasks.astype(np.float64)
    parallel = np.minimum(num_executors, count)
    if workload.is_recording:
        work_ms = _reduce(np.add, workload, FRESH, 0)
        return work_ms, np.maximum(work_ms / parallel, _reduce(np.maximum, workload, FRESH, 0))
    reached = range(min(int(np.searchsorted(LEVELS, num_executors)) + 1, len(LEVELS)))
    first_ms, later_ms = (
        np.min([_least_ms(workload, wave, level, sure) for wave in waves for level in reached], 0)
        for waves in ((FRESH, FIRST), (FRESH, FIRST, REST))
    )
    in_turn = count / parallel
    if sure:
        in_turn = np.ceil(in_turn)
    return first_ms + (count - 1) * later_ms, first_ms + (in_turn - 1) * later_ms


def _least_ms(workload: Workload, wave: int, level: int, sure: bool) -> FloatArray:
    """Return (M,) mean or minimum of each stage's list of a wave at a level; inf where empty."""
    if sure:
        return _reduce(np.minimum, workload, wave, level, np.inf)
    length = workload.list_length[:, wave, level]
    total_ms = _reduce(np.add, workload, wave, level, np.inf)
    return np.asarray(total_ms / np.maximum(length, 1), np.float64)


def _reduce(
    ufunc: np.ufunc, workload: Workload, wave: int, level: int, empty: float = 0.0
) -> FloatArray:
    """Reduce each stage's list of a wave at a level to one number."""
    start = workload.list_start[:, wave, level]
    length = workload.list_length[:, wave, level]
    reduced = np.full(len(start), empty)
    if length.any():
        places = np.stack([start, start + length], axis=1)[length > 0].ravel()
        # Every second segment lies between two lists; one number more lets the last list end.
        padded = np.append(workload.durations_ms, 0.0)
        reduced[length > 0] = ufunc.reduceat(padded, places)[::2]
    return reduced


def _edges(workload: Workload) -> IntArray:
    """Return (L, 2) parent and child among all stages."""
    first = np.repeat(workload.stage_offset[:-1], np.diff(workload.edge_offset))
    return np.asarray(workload.edges + first[:, None], np.int64)


@_jit
def _flow(release: Any, work: Any, shared: Any) -> Any:
    """Return the sum of times in the system under SRPT on one machine.

    It is given the shared ones of J jobs; their release does not fall, and work is its time.
    """
    heap = [(0.0, 0.0)]  # work left, release
    heap.pop()
    now = flow = 0.0
    for j in range(len(release) + 1):
        until = np.inf
        if j < len(release):
            if not shared[j]:
                continue
            until = release[j]
        while len(heap) > 0 and now < until:
            left, begun = heappop(heap)
            if now + left <= until:
                now += left
                flow += now - begun
            else:
                heappush(heap, (left - (until - now), begun))
                now = until
        if j < len(release):
            now = max(now, until)
            heappush(heap, (work[j], until))
    return flow


@_jit
def _best_mix(release: Any, work: Any, own: Any, moving: Any) -> Any:
    """Return the best sum found of own bounds of some jobs and SRPT of the others.

    The search begins with the best of the subsets that have the jobs whose own bound exceeds their
    work most, and then moves single jobs between the two parts as long as the bound gets larger.
    """
    num_jobs = len(release)
    excess = own - work
    order = np.argsort(-excess)
    shared = np.ones(num_jobs, np.bool_)
    best, best_count, own_sum = _flow(release, work, shared) + moving * num_jobs, 0, 0.0
    for count in range(1, num_jobs + 1):
        own_sum += own[order[count - 1]]
        shared[order[count - 1]] = False
        mixed = own_sum + _flow(release, work, shared) + moving * (num_jobs - count)
        if mixed > best:
            best, best_count = mixed, count
    shared[order[best_count:]] = True
    own_sum, count = own[order[:best_count]].sum(), best_count
    better = True
    while better:
        better = False
        for j in range(num_jobs):
            shared[j] = not shared[j]
            step = -1 if shared[j] else 1
            sum_j = own_sum + step * own[j]
            mixed = sum_j + _flow(release, work, shared) + moving * (num_jobs - count - step)
            if mixed > best * (1.0 + 1e-12):
                best, own_sum, count, better = mixed, sum_j, count + step, True
            else:
                shared[j] = not shared[j]
    return best
