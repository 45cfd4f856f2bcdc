"""Rules for cluster job scheduling: random, FIFO, fair shares, shortest job first, SRPT (twice).

Every rule chooses for all rows of a `ClusterView` at once, with array operations and no loop over
stages. An action is (place of a stage among the row's stages, largest number of executors less
one); the stage is -1 where a rule leaves the executors where they are.

Sources: random, FIFO and fair are equal to those of NetLLM's program (SIGCOMM 2024). Weighted fair
and SJF-CP are baselines of Decima (Mao et al., SIGCOMM 2019). The two SRPT rules are ours.
"""

import math
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from netllm_gym.arrays import BoolArray, FloatArray, IntArray
from netllm_gym.configs import check
from netllm_gym.data.cjs.workload import LEVELS
from netllm_gym.envs.cjs.observation import ClusterView
from netllm_gym.envs.cjs.vector_env import CJSVectorEnv
from netllm_gym.errors import InputError
from netllm_gym.policies.baselines.rule import DrawingRule, Rule

Counts = NDArray[np.integer[Any]]
Length = TypeVar("Length", bound=np.number[Any])

# Best on the arrivals of `tpch-valid` (seeds 1000 to 1009, 50 executors, 200 jobs).
ALPHA = 0.15  # of 17 values in -2..1.5; 0.1 to 0.2 are within 0.2 %
EXECUTOR_COST_S = 25.0  # of 5, 10, 15, 20, 25, 30, 40: 20 to 30 are within 1 %
# Of `TunedSRPT`, chosen on training arrivals and on seeds 1000 to 1039 of `tpch-valid`.
TUNED_EXECUTOR_COST_S = 40.0  # 30 to 50 are within 0.4 %, 60 is 1.4 % worse
KEEP = 2.0  # 2.5 is 0.5 % worse, 1.6 is 1.5 % worse
SPARE = 1.5  # 1.25 to 2 are within 0.1 %
LEVEL_SLACK = 1.2  # 1.1 to 1.4 are within 0.6 %


def check_is_cluster(env: Any) -> None:
    """Refuse an environment of another problem."""
    if not hasattr(env, "num_executors"):
        raise InputError(f"env must be one of the problem cjs, got {env}")


def places_of_jobs(view: ClusterView) -> IntArray:
    """Return (M,) the place of each stage's job among all jobs of the view."""
    return view.job_ptr[view.stage_row] + view.stage_job


def edge_ends(view: ClusterView) -> IntArray:
    """Return (L, 2) the places of each edge's parent and child among all stages of the view."""
    return view.stage_ptr[view.edge_row][:, None] + view.edges


def jobs_of_source(view: ClusterView) -> BoolArray:
    """Return (J,) the jobs whose executors are to be committed."""
    place = np.arange(len(view.job_row)) - view.job_ptr[view.job_row]
    return np.asarray(place == view.source_job[view.job_row])


def room_of_jobs(view: ClusterView) -> IntArray:
    """Return (J,) executors that each job may be given now.

    It is all that can be committed for the job that they belong to, and for others no more than
    they lack to the whole cluster.
    """
    committable = view.committable[view.job_row]
    others = np.maximum(view.num_executors[view.job_row] - view.supply, 0)
    return np.where(jobs_of_source(view), committable, np.minimum(others, committable))


def numbered(rows: IntArray, num_rows: int) -> tuple[IntArray, IntArray]:
    """Return (K,) the number of each thing within its row, and (N,) counts; `rows` are rising."""
    counts = np.bincount(rows, minlength=num_rows)
    return np.arange(len(rows)) - (np.cumsum(counts) - counts)[rows], counts


def first_of_rows(places: IntArray, rows: IntArray, num_rows: int) -> IntArray:
    """Return (N,) the first of (K,) places that lies in each row, -1 where none does.

    `rows` has the row of each place there is.
    """
    first = np.full(num_rows, -1, np.int64)
    backwards = places[::-1]
    first[rows[backwards]] = backwards  # of equal rows the last one written stays
    return first


class Offers:
    """The stages and jobs of a view that may be chosen.

    Attributes:
        view: The observation.
        job: (M,) place of each stage's job among all jobs.
        ready: (M,) stages that may be chosen and can begin at once, as all parents have ended.
        offering: (J,) jobs with a stage that may be chosen.
        source: (J,) jobs whose executors are to be committed.
    """

    def __init__(self, view: ClusterView) -> None:
        self.view = view
        self.job = places_of_jobs(view)
        self.ready: BoolArray = view.schedulable.copy()
        self.ready[edge_ends(view)[:, 1]] = False
        self.offering = self.jobs_with(view.schedulable)
        self.source = jobs_of_source(view)

    def jobs_with(self, stages: BoolArray) -> BoolArray:
        """Return (J,) which jobs have one of these stages."""
        found = np.zeros(len(self.view.supply), np.bool_)
        found[self.job[stages]] = True
        return found

    def stage_of(self, jobs: IntArray, worth: FloatArray | None = None) -> IntArray:
        """Return (N,) the stage of each row's job to choose, as its place among the row's stages.

        A stage that can begin at once is preferred; among those, the one that is worth most, by
        (M,) worth; among equal ones, the first. For the job -1, none, it is -1.
        """
        view, num_rows = self.view, len(self.view)
        stages = np.flatnonzero(view.schedulable & (self.job == jobs[view.stage_row]))
        if worth is not None:
            stages = stages[np.argsort(-worth[stages], kind="stable")]
        any_stage = first_of_rows(stages, view.stage_row, num_rows)
        ready = first_of_rows(stages[self.ready[stages]], view.stage_row, num_rows)
        stage = np.where(ready >= 0, ready, any_stage)
        return np.where(stage >= 0, stage - view.stage_ptr[:-1], -1)

    def give(self, order: IntArray, caps: Counts, worth: FloatArray | None = None) -> IntArray:
        """Return (N, 2) actions, see `give_room`: a job may be brought up to its cap, (J,).

        The job that the executors belong to may have all of them.
        """
        room = caps - self.view.supply
        room[self.source] = self.view.num_executors[self.view.job_row[self.source]]
        return self.give_room(order, room, worth)

    def give_room(self, order: IntArray, room: Counts, worth: FloatArray | None = None) -> IntArray:
        """Return (N, 2) actions: the first job in order that offers a stage and has room.

        Args:
            order: (J,) places of jobs in order of preference; only the order within a row counts.
            room: (J,) executors that a job may get now; none where it is not above 0.
            worth: (M,) of each stage, see `stage_of`.
        """
        view = self.view
        open_jobs = self.offering & (room > 0)
        jobs = first_of_rows(order[open_jobs[order]], view.job_row, len(view))
        executors = view.committable.astype(np.int64)
        rows = np.flatnonzero(jobs >= 0)
        executors[rows] = np.minimum(executors[rows], room[jobs[rows]])
        return actions_of(self.stage_of(jobs, worth), executors)


def actions_of(stages: IntArray, executors: Counts) -> IntArray:
    """Return (N, 2) actions; in a finished row, where nothing can be committed, a valid one."""
    return np.stack([stages, np.maximum(executors, 1) - 1], axis=1)


def share_out(view: ClusterView, caps: Counts) -> IntArray:
    """Return (N, 2) actions that divide the cluster by caps, (J,).

    The source's job keeps its executors while it offers a stage; otherwise they go to the first
    job, in order of arrival, that has not reached its cap.
    """
    offers = Offers(view)
    order = np.concatenate([np.flatnonzero(offers.source), np.flatnonzero(~offers.source)])
    return offers.give(order, caps)


class Random(DrawingRule):
    """A job that offers a stage, each with equal probability, and any number of executors."""

    def choose(self, view: ClusterView) -> IntArray:
        """Return (N, 2) actions."""
        offers = Offers(view)
        jobs = np.flatnonzero(offers.offering)
        counts = np.bincount(view.job_row[jobs], minlength=len(view))
        picked = np.cumsum(counts) - counts + (self.draws.draw() * counts).astype(np.int64)
        chosen = np.full(len(view), -1, np.int64)
        chosen[counts > 0] = jobs[picked[counts > 0]]
        executors = 1 + (self.draws.draw() * view.committable).astype(np.int64)
        return actions_of(offers.stage_of(chosen), executors)


class FIFO(Rule):
    """The job that arrived first gets all executors that it can use."""

    name = "fifo"

    def choose(self, view: ClusterView) -> IntArray:
        """Return (N, 2) actions."""
        return share_out(view, view.num_executors[view.job_row])


class FIFOHalf(Rule):
    """First come, first served, but no job gets more than half of the cluster: NetLLM's FIFO."""

    name = "fifo_half"

    def choose(self, view: ClusterView) -> IntArray:
        """Return (N, 2) actions."""
        return share_out(view, -(-view.num_executors // 2)[view.job_row])


class Fair(Rule):
    """All jobs in the system get the same number of executors."""

    name = "fair"

    def choose(self, view: ClusterView) -> IntArray:
        """Return (N, 2) actions."""
        return share_out(view, -(-view.num_executors // np.maximum(view.num_jobs, 1))[view.job_row])


class WeightedFair(Rule):
    """Fair, but a job's share of the cluster is proportional to a power, alpha, of its total work.

    A power of 0 is fair; above it large jobs get more, below it small ones.
    """

    name = "weighted_fair"

    def __init__(self, env: CJSVectorEnv, alpha: float = ALPHA) -> None:
        check(-10.0 <= alpha <= 10.0, "alpha", "be in -10..10", alpha)
        self._alpha = alpha

    def choose(self, view: ClusterView) -> IntArray:
        """Return (N, 2) actions."""
        weight = view.work_ms.astype(np.float64) ** self._alpha
        total = np.bincount(view.job_row, weight, minlength=len(view))
        share = view.num_executors[view.job_row] * weight / total[view.job_row]
        return share_out(view, np.ceil(share).astype(np.int64))


class _Costed(Rule):
    """A rule that compares the use of executors with what each costs, in executor-seconds."""

    usual_cost_s = EXECUTOR_COST_S

    def __init__(self, env: CJSVectorEnv, cost_s: float | None = None) -> None:
        self._cost_s = self.usual_cost_s if cost_s is None else cost_s
        check(0.0 < self._cost_s < math.inf, "cost_s", "be above 0 and finite", cost_s)


class SRPT(_Costed):
    """The job with the least work left gets the executors that it can use.

    That number is found as follows: n executors need the time work / n for the job, and each of
    them costs the cluster some executor-seconds in which no task runs (its move and warm-up, longer
    tasks with more executors, waiting until the last task of a stage ends), which delays all J jobs
    by cost / E. The sum work / n + n cost J / E is smallest for n = sqrt(work E / (cost J)).
    """

    name = "srpt"

    def choose(self, view: ClusterView) -> IntArray:
        """Return (N, 2) actions."""
        offers = Offers(view)
        left_ms = work_left_ms(offers)
        order = np.argsort(left_ms, kind="stable")
        return offers.give(order, usable_executors(view, left_ms, self._cost_s))


class TunedSRPT(_Costed):
    """SRPT whose jobs also give executors back, and take those that no other job can use.

    It differs from `SRPT` in four ways:

    - An executor delays only the jobs that come later: in n = sqrt(work E / (cost B)), B is the
      number of jobs with at least as much work left, not the number of all jobs.
    - A job that has executors keeps `KEEP` times n of them, and the others get the rest. Keeping
      some more than n saves moves; with `SRPT` it keeps all.
    - If no job may get more by these rules, the job that has the executors keeps them all; if it
      offers no stage, the others get up to `SPARE` times n. Otherwise these executors would be idle
      until the next arrival.
    - n avoids numbers of executors at which tasks are slow, see `suited_to_levels`.
    """

    name = "tuned_srpt"
    usual_cost_s = TUNED_EXECUTOR_COST_S

    def choose(self, view: ClusterView) -> IntArray:
        """Return (N, 2) actions."""
        offers = Offers(view)
        left_ms = work_left_ms(offers)
        order = np.lexsort((left_ms, view.job_row))  # row after row
        num_behind = np.empty(len(order), np.int64)
        num_behind[order] = view.job_ptr[view.job_row + 1] - np.arange(len(order))
        usable = suited_to_levels(executors_worth(view, left_ms, num_behind, self._cost_s))
        return offers.give_room(order, self._room(offers, usable))

    def _room(self, offers: Offers, usable: FloatArray) -> IntArray:
        """Return (J,) executors that each job may get now."""
        view, source = offers.view, offers.source
        committable = view.committable[view.job_row]
        room = _whole(view, usable) - view.supply
        # The supply of a source's job includes the executors that can be committed.
        room[source] = (_whole(view, KEEP * usable) - view.supply + committable)[source]
        closed = np.ones(len(view), np.bool_)
        closed[view.job_row[offers.offering & (room > 0)]] = False
        kept = np.zeros(len(view), np.bool_)
        kept[view.job_row[offers.offering & source]] = True
        spare = np.where(kept[view.job_row], 0, _whole(view, SPARE * usable) - view.supply)
        spare[source] = committable[source]
        return np.where(closed[view.job_row], spare, room)


class SJFCP(_Costed):
    """Shortest job first, by total work; within the job, the stage on its critical path.

    That is the stage from which the longest path of work leads to the end of the job. A job gets
    the executors that it can use, as with `SRPT`.
    """

    name = "sjf_cp"

    def choose(self, view: ClusterView) -> IntArray:
        """Return (N, 2) actions."""
        offers = Offers(view)
        order = np.argsort(view.work_ms, kind="stable")
        caps = usable_executors(view, work_left_ms(offers), self._cost_s)
        return offers.give(order, caps, critical_path_ms(view))


def stage_work_ms(view: ClusterView) -> FloatArray:
    """Return (M,) the work of the tasks that have not begun, if all take as long as the last."""
    return np.asarray(view.remaining * view.duration_ms.astype(np.float64))


def work_left_ms(offers: Offers) -> FloatArray:
    """Return (J,) the work of each job's tasks that have not begun."""
    view = offers.view
    work_ms = np.bincount(offers.job, stage_work_ms(view), minlength=len(view.supply))
    return np.asarray(work_ms, np.float64)


def usable_executors(view: ClusterView, left_ms: FloatArray, cost_s: float) -> IntArray:
    """Return (J,) executors that a job with this much work left can use; see `SRPT`."""
    num_jobs = view.num_jobs[view.job_row]
    return _whole(view, executors_worth(view, left_ms, num_jobs, cost_s))


def executors_worth(
    view: ClusterView, left_ms: FloatArray, num_delayed: Counts, cost_s: float
) -> FloatArray:
    """Return (J,) the n at which work / n + n cost delayed / E is least; see `SRPT`.

    `num_delayed` is (J,) the jobs that an executor of this job delays.
    """
    num_executors = view.num_executors[view.job_row]
    return np.asarray(np.sqrt(left_ms / 1000.0 * num_executors / (cost_s * num_delayed)))


def suited_to_levels(usable: FloatArray) -> FloatArray:
    """Return (J,) numbers of executors, changed to similar ones at which tasks are fast.

    Durations are known for some levels of executors, and are longer at higher levels. With the
    reference's inverted interpolation, a job just above a level mostly draws from the next higher
    one: with 21 executors tasks are about as slow as with 40, but with 39 as fast as with 20. So up
    to `LEVEL_SLACK` times the lower level a job should have that level, and otherwise one executor
    less than the higher one.
    """
    levels = np.array(LEVELS, np.float64)
    place = np.searchsorted(levels, usable)  # of the first level that is not below
    between = (place > 0) & (place < len(levels))
    lower = levels[np.maximum(place - 1, 0)]
    higher = levels[np.minimum(place, len(levels) - 1)]
    between &= usable < higher
    moved = np.where(usable < LEVEL_SLACK * lower, lower, higher - 1.0)
    return np.where(between, moved, usable)


def _whole(view: ClusterView, executors: FloatArray) -> IntArray:
    """Return (J,) whole executors, at least one and no more than there are."""
    num_executors = view.num_executors[view.job_row]
    return np.clip(np.ceil(executors), 1, num_executors).astype(np.int64)


def critical_path_ms(view: ClusterView) -> FloatArray:
    """Return (M,) the work along the longest path from each stage to the end of its job."""
    return longest_paths(stage_work_ms(view), edge_ends(view))


def longest_paths(lengths: NDArray[Length], edges: IntArray) -> NDArray[Length]:
    """Return (M,) the length of the longest path that begins with each stage.

    `edges` are (L, 2) parents and children, those of one parent side by side.
    """
    paths = lengths.copy()
    parent, child = edges.T
    begins = np.flatnonzero(np.diff(parent, prepend=-1))
    parents = parent[begins]
    while len(begins):  # once per generation of stages
        longer = lengths[parents] + np.maximum.reduceat(paths[child], begins)
        if np.array_equal(longer, paths[parents]):
            break
        paths[parents] = longer
    return paths
