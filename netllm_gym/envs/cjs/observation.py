"""What schedulers see: graphs of unfinished stages, N clusters as one ragged batch.

The same class holds N clusters at one moment, the T decisions of one episode, or a training batch.
Rows are concatenated; nothing is padded. Times are in milliseconds, as in the simulator.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from netllm_gym.arrays import BoolArray, Float32Array, FloatArray, Int32Array, IntArray

_WHOLE = ("committable", "source_job", "num_executors", "num_stages", "num_jobs", "num_edges")
_WHOLE_OF_STAGE = ("remaining", "demand", "stage_id", "stage_job", "num_tasks")
ROW_FIELDS: dict[str, type] = {"clock_ms": np.float64, **dict.fromkeys(_WHOLE, np.int32)}
STAGE_FIELDS: dict[str, type] = {
    **dict.fromkeys(_WHOLE_OF_STAGE, np.int32),
    "duration_ms": np.float32,
    "schedulable": np.bool_,
}
JOB_FIELDS: dict[str, type] = {
    **dict.fromkeys(("job_id", "supply"), np.int32),
    "arrival_ms": np.float64,
    "work_ms": np.float32,
}
EDGE_FIELDS: dict[str, type] = {"edges": np.int32}


@dataclass(frozen=True, eq=False)
class ClusterView:
    """N rows with M stages, J jobs and L edges in all.

    It shows the unfinished stages of jobs that have arrived: jobs in order of arrival, stages by
    id, edges by job and then (parent, child).
    """

    clock_ms: FloatArray  # (N,) simulated time
    committable: Int32Array  # (N,) executors that can be committed now; 0 in finished rows
    source_job: Int32Array  # (N,) place of the job that they belong to; -1: no unfinished job
    num_executors: Int32Array  # (N,) of the cluster
    num_stages: Int32Array  # (N,)
    num_jobs: Int32Array  # (N,)
    num_edges: Int32Array  # (N,)
    remaining: Int32Array  # (M,) tasks that have not begun
    demand: Int32Array  # (M,) of those, how many have no executor on its way; can be negative
    duration_ms: Float32Array  # (M,) of the task that began last; before any, a rough mean
    schedulable: BoolArray  # (M,) stages that may be chosen now
    stage_id: Int32Array  # (M,) number of the stage within its job
    stage_job: Int32Array  # (M,) place of its job among the row's jobs
    num_tasks: Int32Array  # (M,) tasks in all
    job_id: Int32Array  # (J,) number of the job in the episode
    supply: Int32Array  # (J,) executors that the job has or has been promised
    arrival_ms: FloatArray  # (J,)
    work_ms: Float32Array  # (J,) tasks times rough durations, over all stages of the job
    edges: Int32Array  # (L, 2) parent and child, places among the row's stages

    def __len__(self) -> int:
        return len(self.clock_ms)

    # (N + 1,) where the stages, jobs and edges of each row begin
    stage_ptr = cached_property(lambda self: _offsets(self.num_stages))
    job_ptr = cached_property(lambda self: _offsets(self.num_jobs))
    edge_ptr = cached_property(lambda self: _offsets(self.num_edges))
    # (M,), (J,) and (L,) row of each
    stage_row = cached_property(lambda self: _rows(self.num_stages))
    job_row = cached_property(lambda self: _rows(self.num_jobs))
    edge_row = cached_property(lambda self: _rows(self.num_edges))

    def __getitem__(self, rows: NDArray[np.integer[Any]] | Sequence[int] | int) -> "ClusterView":
        return self.take(np.atleast_1d(rows))

    def take(self, rows: NDArray[np.integer[Any]] | Sequence[int]) -> "ClusterView":
        """Return some rows, in the given order."""
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
        """Concatenate the rows of views, of which there is at least one."""
        return ClusterView(
            **{
                each.name: np.concatenate([getattr(view, each.name) for view in views])
                for each in fields(ClusterView)
            }
        )


def _offsets(counts: Int32Array) -> IntArray:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(counts, dtype=np.int64)])


def _rows(counts: Int32Array) -> IntArray:
    return np.repeat(np.arange(len(counts)), counts)


def _places(begins: IntArray, counts: IntArray) -> IntArray:
    """Return begins[0], begins[0] + 1, ... for counts[0] places, then those of begins[1], ..."""
    ends = np.cumsum(counts)
    total = int(ends[-1]) if len(ends) else 0
    return np.asarray(np.arange(total) + np.repeat(begins - (ends - counts), counts), np.int64)
