"""What a scheduler sees: graphs of unfinished stages, as one ragged batch.

The same type holds N clusters at one moment, the T decisions of one episode, or a training batch,
so whoever can read one can read them all. Rows are laid end to end; nothing is padded.

Clock and durations are in milliseconds, as inside the simulator.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from netllm_gym.arrays import BoolArray, Float32Array, FloatArray, Int32Array, IntArray

ROW_FIELDS = {
    "clock_ms": np.float64,
    "committable": np.int32,
    "source_job": np.int32,
    "num_executors": np.int32,
    "num_stages": np.int32,
    "num_jobs": np.int32,
    "num_edges": np.int32,
}
STAGE_FIELDS = {
    "remaining": np.int32,
    "demand": np.int32,
    "duration_ms": np.float32,
    "schedulable": np.bool_,
    "stage_id": np.int32,
    "stage_job": np.int32,
    "num_tasks": np.int32,
}
JOB_FIELDS = {
    "job_id": np.int32,
    "supply": np.int32,
    "arrival_ms": np.float64,
    "work_ms": np.float32,
}
EDGE_FIELDS = {"edges": np.int32}


@dataclass(frozen=True, eq=False)
class ClusterView:
    """N rows with M stages, J jobs and L edges in all.

    Only unfinished stages of jobs that have arrived are seen: jobs in order of arrival, stages by
    id, edges by job and then (parent, child).

    Attributes:
        clock_ms: (N,) float64 simulated time.
        committable: (N,) int32 executors that can be committed now; 0 where nothing is asked.
        source_job: (N,) int32 position, among the row's jobs, of the job whose executors are to be
            committed; -1 if they belong to none that is unfinished.
        num_executors: (N,) int32 executors of the cluster.
        num_stages: (N,) int32.
        num_jobs: (N,) int32.
        num_edges: (N,) int32.
        remaining: (M,) int32 tasks that have not begun.
        demand: (M,) int32 of those, how many have no executor on its way; can be negative.
        duration_ms: (M,) float32 of the task begun last; before any, a rough mean.
        schedulable: (M,) bool stages that may be chosen now.
        stage_id: (M,) int32 number of the stage within its job.
        stage_job: (M,) int32 position of its job among the row's jobs.
        num_tasks: (M,) int32 tasks in all.
        job_id: (J,) int32 number of the job in the episode.
        supply: (J,) int32 executors that the job has, or has been promised.
        arrival_ms: (J,) float64.
        work_ms: (J,) float32 tasks times rough durations, over all stages of the job.
        edges: (L, 2) int32 (parent, child), positions among the row's stages.
    """

    clock_ms: FloatArray
    committable: Int32Array
    source_job: Int32Array
    num_executors: Int32Array
    num_stages: Int32Array
    num_jobs: Int32Array
    num_edges: Int32Array
    remaining: Int32Array
    demand: Int32Array
    duration_ms: Float32Array
    schedulable: BoolArray
    stage_id: Int32Array
    stage_job: Int32Array
    num_tasks: Int32Array
    job_id: Int32Array
    supply: Int32Array
    arrival_ms: FloatArray
    work_ms: Float32Array
    edges: Int32Array

    def __len__(self) -> int:
        return len(self.clock_ms)

    @cached_property
    def stage_ptr(self) -> IntArray:
        """(N + 1,) where each row's stages begin."""
        return _offsets(self.num_stages)

    @cached_property
    def job_ptr(self) -> IntArray:
        """(N + 1,) where each row's jobs begin."""
        return _offsets(self.num_jobs)

    @cached_property
    def edge_ptr(self) -> IntArray:
        """(N + 1,) where each row's edges begin."""
        return _offsets(self.num_edges)

    @cached_property
    def stage_row(self) -> IntArray:
        """(M,) row of each stage."""
        return np.repeat(np.arange(len(self)), self.num_stages)

    @cached_property
    def job_row(self) -> IntArray:
        """(J,) row of each job."""
        return np.repeat(np.arange(len(self)), self.num_jobs)

    @cached_property
    def edge_row(self) -> IntArray:
        """(L,) row of each edge."""
        return np.repeat(np.arange(len(self)), self.num_edges)

    def __getitem__(self, rows: NDArray[np.integer[Any]] | Sequence[int] | int) -> "ClusterView":
        return self.take(np.atleast_1d(rows))

    def take(self, rows: NDArray[np.integer[Any]] | Sequence[int]) -> "ClusterView":
        """Return some rows, in the order in which they are named."""
        index = np.asarray(rows, np.int64)
        parts: dict[str, Any] = {name: getattr(self, name)[index] for name in ROW_FIELDS}
        for names, ptr in (
            (STAGE_FIELDS, self.stage_ptr),
            (JOB_FIELDS, self.job_ptr),
            (EDGE_FIELDS, self.edge_ptr),
        ):
            places = _places(ptr[index], ptr[index + 1] - ptr[index])
            parts |= {name: getattr(self, name)[places] for name in names}
        return ClusterView(**parts)

    @staticmethod
    def concatenate(views: Sequence["ClusterView"]) -> "ClusterView":
        """Lay the rows of views, at least one, end to end."""
        return ClusterView(
            **{
                each.name: np.concatenate([getattr(view, each.name) for view in views])
                for each in fields(ClusterView)
            }
        )


def _offsets(counts: Int32Array) -> IntArray:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(counts, dtype=np.int64)])


def _places(begins: IntArray, counts: IntArray) -> IntArray:
    """Return begins[0], begins[0] + 1, ... for counts[0] places, then those of begins[1], ..."""
    ends = np.cumsum(counts)
    total = int(ends[-1]) if len(ends) else 0
    return np.asarray(np.arange(total) + np.repeat(begins - (ends - counts), counts), np.int64)
