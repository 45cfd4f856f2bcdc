"""Features of a cluster that do not depend on its size.

Executors are counted as shares of the cluster, times are logarithms of seconds, and work is the
time that the whole cluster would take for it. So a policy that was trained with 50 executors can be
used with 10 or 100.
"""

from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from netllm_gym.arrays import BoolArray, Float32Array, IntArray
from netllm_gym.envs.cjs.observation import ClusterView
from netllm_gym.policies.baselines.cjs import (
    edge_ends,
    jobs_of_source,
    longest_paths,
    numbered,
    places_of_jobs,
    room_of_jobs,
)

Array = Any  # of numpy, and a tensor of the same shape when it reaches the model

NUM_STAGE, NUM_JOB, NUM_ROW = 19, 17, 11  # features of each


class Level(NamedTuple):
    """Stages whose children all lie in lower levels, and the edges to these."""

    parents: Array  # (P,) the stages, rising
    children: Array  # (L,) of each edge
    slots: Array  # (L,) place of each edge's parent in `parents`


class ClusterGraph(NamedTuple):
    """N rows of a view with M stages and J jobs in all, ready to be encoded."""

    stage: Array  # (M, NUM_STAGE) float32
    job: Array  # (J, NUM_JOB) float32
    row: Array  # (N, NUM_ROW) float32
    job_of: Array  # (M,) among all jobs
    row_of: Array  # (J,)
    levels: list[Level]  # from the second lowest up


class Choices(NamedTuple):
    """What may be chosen in each of N rows: "no stage" first, then n stages, padded behind."""

    stage: Array  # (N, 1 + n) among all stages; 0 for no stage and in the padding
    exists: Array  # (N, 1 + n)
    allowed: Array  # (N, 1 + n); at least one in each row
    place: Array  # (N, 1 + n) of the stage among those of its row, -1 for no stage
    limit: Array  # (N, 1 + n) executors that can be committed to it, at least 1
    demand: Array  # (N, 1 + n) executors that it can use, at least 1
    supply: Array  # (N, 1 + n) executors that its job has now
    adds: Array  # (N, 1 + n) 1 where the job would have more with these, 0 where they are its


def choices_of(view: ClusterView) -> Choices:
    """Return the choices of each row.

    "No stage" lets executors wait, and if all of them wait there is no further decision. It is
    allowed only while the job that they come from has no work for them yet but will have: none of
    its stages can be chosen, and one of them has not begun. Then all of its ready stages are
    running or have executors on their way. When the parents of the waiting stage are complete, or
    when it is complete itself, its executors can be scheduled again.
    """
    can = np.flatnonzero(view.schedulable)
    rows = view.stage_row[can]
    number, counts = numbered(rows, len(view))
    columns = 1 + number
    shape = (len(view), 1 + int(counts.max(initial=0)))
    of_source = view.stage_job == view.source_job[view.stage_row]  # (M,)
    has_choice, has_unbegun = (
        np.bincount(view.stage_row, flags & of_source, len(view)) > 0
        for flags in (view.schedulable, view.remaining == view.num_tasks)
    )
    stage, place = np.zeros(shape, np.int64), np.full(shape, -1)
    demand, limit = np.ones(shape, np.float32), np.ones(shape, np.int64)
    supply, adds = np.zeros(shape, np.float32), np.ones(shape, np.float32)
    stage[rows, columns] = can
    place[rows, columns] = can - view.stage_ptr[rows]
    demand[rows, columns] = view.demand[can].clip(min=1)
    limit[rows, columns] = np.minimum(view.demand[can], view.committable[rows]).clip(min=1)
    jobs = view.job_ptr[rows] + view.stage_job[can]
    supply[rows, columns] = view.supply[jobs]
    adds[rows, columns] = view.stage_job[can] != view.source_job[rows]
    exists = np.arange(shape[1]) <= counts[:, None]
    allowed = exists.copy()
    allowed[:, 0] = (~has_choice & has_unbegun) | (counts == 0)
    return Choices(stage, exists, allowed, place, limit, demand, supply, adds)


def graph_of(view: ClusterView) -> ClusterGraph:
    """Lay a view's features and edges out."""
    cluster = _Cluster(view)
    return ClusterGraph(
        stage=cluster.stages(),
        job=cluster.jobs(),
        row=cluster.rows(),
        job_of=cluster.job_of,
        row_of=view.job_row,
        levels=levels_of(cluster.edges, cluster.height)[1:],
    )


class _Cluster:
    """Features of stages, jobs and rows, which have sums in common."""

    def __init__(self, view: ClusterView) -> None:
        self.view, self.job_of, self.edges = view, places_of_jobs(view), edge_ends(view)
        self.job_place = np.arange(len(view.job_id)) - view.job_ptr[view.job_row]  # (J,)
        self.is_source = jobs_of_source(view)  # (J,)
        self.executors = view.num_executors.astype(np.float32)  # (N,)
        self.offered = view.committable.astype(np.float32)  # (N,)
        self.wanted = np.where(view.schedulable, view.demand, 0)  # (M,)
        self.height = heights_of(len(self.job_of), self.edges)  # (M,)
        self.duration_s = view.duration_ms / np.float32(1000.0)
        # (M,) the time that the whole cluster would take.
        work_s = view.remaining * self.duration_s / self.executors[view.stage_row]
        self.work_s = np.asarray(work_s, np.float32)
        # (M,) to the end of the job
        self.path_s = longest_paths(np.maximum(self.duration_s, self.work_s), self.edges)

    def stages(self) -> Float32Array:
        """Return (M, NUM_STAGE)."""
        view, row = self.view, self.view.stage_row
        executors, offered = self.executors[row], self.offered[row]
        fan_out, fan_in = (np.bincount(ends, minlength=len(row)) for ends in self.edges.T)
        can, ready = view.schedulable, view.schedulable & (fan_in == 0)
        return _columns(
            _log(view.remaining / executors),
            (view.remaining / executors).clip(max=2.0),
            view.remaining / view.num_tasks.clip(min=1),
            _log(view.num_tasks / executors),
            _log(view.demand.clip(min=0) / executors),
            (view.demand / executors).clip(-1.0, 2.0),
            (view.demand / offered.clip(min=1.0)).clip(0.0, 1.0),
            ((view.remaining - view.demand) / executors).clip(-1.0, 2.0),
            _log(self.duration_s),
            _log(self.work_s),
            _log(self.path_s),
            np.log1p(self.height),
            np.log1p(fan_out),
            can,
            ready,
            view.remaining < view.num_tasks,
            self.is_source[self.job_of],
            _first(can, self.job_of),
            _first(ready, self.job_of),
        )

    def jobs(self) -> Float32Array:
        """Return (J, NUM_JOB)."""
        view, row, count = self.view, self.view.job_row, len(self.view.job_id)
        executors = self.executors[row]
        others = view.num_jobs[row]
        supply = view.supply / executors
        work_s = np.bincount(self.job_of, self.work_s, count)
        arrived_s = view.work_ms / 1000.0 / executors
        path_s = np.zeros(count, np.float32)
        np.maximum.at(path_s, self.job_of, self.path_s)
        wanted = np.bincount(self.job_of, self.wanted, count) / executors
        return _columns(
            self.is_source,
            supply.clip(max=2.0),
            _log(supply),
            (supply * others).clip(max=4.0),  # of an equal share
            (supply - 1.0 / others).clip(-1.0, 1.0),
            view.supply >= np.ceil(executors / others),
            room_of_jobs(view) / executors,
            wanted.clip(max=2.0),
            _log(wanted),
            np.log1p(np.bincount(self.job_of, minlength=count)),
            np.log1p(np.bincount(self.job_of, view.schedulable, count)),
            _log(work_s),
            _log(arrived_s),
            _log(path_s),
            _log((view.clock_ms[row] - view.arrival_ms) / 1000.0),
            1.0 / (1.0 + self.job_place),
            self.job_place / others,
        )

    def rows(self) -> Float32Array:
        """Return (N, NUM_ROW)."""
        view, count = self.view, len(self.view)
        wanted = np.bincount(view.stage_row, self.wanted, count)
        return _columns(
            self.offered / self.executors,
            _log(self.offered / self.executors),
            view.source_job < 0,
            np.log1p(view.num_jobs),
            1.0 / view.num_jobs.clip(min=1),
            np.log1p(view.num_stages),
            np.log1p(np.bincount(view.stage_row, view.schedulable, count)),
            (np.bincount(view.job_row, view.supply, count) / self.executors).clip(max=4.0),
            _log(wanted / self.executors),
            (wanted / self.offered.clip(min=1.0)).clip(max=4.0),
            _log(np.bincount(view.stage_row, self.work_s, count)),
        )


def heights_of(num_stages: int, edges: IntArray) -> IntArray:
    """Return (M,) edges of the longest path from each stage to one without a child."""
    return longest_paths(np.ones(num_stages, np.int64), edges) - 1


def levels_of(edges: IntArray, height: IntArray) -> list[Level]:
    """Return all stages by height, the lowest first, which have no children."""
    order = np.argsort(height, kind="stable")
    number, count = numbered(height[order], 0)
    slot = np.empty_like(number)
    slot[order] = number
    parents, children = edges[np.argsort(height[edges[:, 0]], kind="stable")].T
    begins = np.append(0, np.cumsum(count))
    edge_begins = np.searchsorted(height[parents], np.arange(len(begins)))
    return [
        Level(order[begin:end], children[first:last], slot[parents[first:last]])
        for (begin, end), (first, last) in zip(pairwise(begins), pairwise(edge_begins), strict=True)
    ]


def _first(flags: BoolArray, group: IntArray) -> Float32Array:
    """Return 1 for the first that is flagged in its group, 1/2 for the second, ..., else 0."""
    running: IntArray = np.cumsum(flags)
    begins = np.flatnonzero(np.diff(group, prepend=-1))
    before: IntArray = (running - flags)[begins]  # flagged before the group
    nth: IntArray = running - np.repeat(before, np.diff(begins, append=len(group)))
    return np.where(flags, 1.0 / nth.clip(min=1), 0.0).astype(np.float32)


def _log(values: Any) -> Float32Array:
    """Return logarithms of values plus 0.01, so that 0 has one, too."""
    return np.asarray(np.log(np.maximum(values, 0.0) + 0.01), np.float32)


def _columns(*values: Any) -> Float32Array:
    """Return (M, features)."""
    return np.stack([np.asarray(each, np.float32) for each in values], axis=1)
