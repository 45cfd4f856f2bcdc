"""The padded observation: arrays of fixed size, which any Gymnasium tool can read."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from netllm_gym.arrays import BoolArray, IntArray
from netllm_gym.data.cjs.workload import Workload
from netllm_gym.envs.cjs.cluster import whole_number
from netllm_gym.envs.cjs.observation import ClusterView
from netllm_gym.errors import InputError

NONE = -1  # in a column of indices: nothing there


@dataclass(frozen=True)
class PaddedSize:
    """How much of a cluster is shown.

    Attributes:
        max_stages: Unfinished stages.
        max_jobs: Unfinished jobs.
        max_edges: Edges between these stages; None: twice as many as stages.
    """

    max_stages: int = 1024
    max_jobs: int = 256
    max_edges: int | None = None

    def __post_init__(self) -> None:
        for name in ("max_stages", "max_jobs", "max_edges"):
            value = getattr(self, name)
            if value is not None:
                whole_number(name, value, 1, 2**20)

    def check_holds(self, workload: Workload) -> None:
        """Refuse a size that does not hold the largest job of a workload."""
        for name, shown, largest in (
            ("max_stages", self.max_stages, workload.max_stages_per_job),
            ("max_edges", self.num_edges, workload.max_edges_per_job),
        ):
            if shown < largest:
                raise InputError(
                    f"{name} must hold the largest job of {workload.name}, {largest}, got {shown}"
                )

    @property
    def num_edges(self) -> int:
        """Edges that are shown, at most."""
        return 2 * self.max_stages if self.max_edges is None else self.max_edges


class Padded(NamedTuple):
    """What `pad` returns."""

    observation: dict[str, NDArray[Any]]  # (N, ...) each
    hidden_stages: IntArray  # (N,) that did not fit


def observation_space(size: PaddedSize, num_executors: int) -> spaces.Dict:
    """Return the space of one padded observation; `CJSEnv` says what each part is."""
    stages, jobs = size.max_stages, size.max_jobs

    def whole(low: int, high: int, *shape: int) -> spaces.Box:
        return spaces.Box(low, high, shape, np.int32)

    return spaces.Dict(
        {
            "stages": spaces.Box(0.0, np.inf, (stages, 3), np.float32),
            "stage_job": whole(NONE, jobs - 1, stages),
            "edges": whole(NONE, stages - 1, size.num_edges, 2),
            "job_executors": whole(NONE, np.iinfo(np.int32).max, jobs),
            "committable": whole(0, num_executors, 1),
            "source_job": whole(NONE, jobs - 1, 1),
            "stage_mask": whole(0, 1, stages),
            "executor_mask": whole(0, 1, num_executors),
        }
    )


def pad(view: ClusterView, size: PaddedSize, num_executors: int) -> Padded:
    """Write a view into arrays of fixed size; jobs that do not fit are hidden, the newest first."""
    num_rows = len(view)
    stage_place = np.arange(len(view.stage_id)) - view.stage_ptr[view.stage_row]
    job_place = np.arange(len(view.job_id)) - view.job_ptr[view.job_row]
    job_of_stage = view.job_ptr[view.stage_row] + view.stage_job  # (M,) among all jobs
    parent = view.stage_ptr[view.edge_row] + view.edges[:, 0]  # (L,) among all stages
    shown_job = _fitting_jobs(view, size, job_of_stage, job_of_stage[parent], job_place)
    shown_stage = shown_job[job_of_stage]
    shown_edge = shown_stage[parent]

    stages = np.zeros((num_rows, size.max_stages, 3), np.float32)
    stage_job = np.full((num_rows, size.max_stages), NONE, np.int32)
    stage_mask = np.zeros((num_rows, size.max_stages), np.int32)
    at = (view.stage_row[shown_stage], stage_place[shown_stage])
    stages[(*at, 0)] = view.remaining[shown_stage]
    stages[(*at, 1)] = np.maximum(view.demand[shown_stage], 0)
    stages[(*at, 2)] = view.duration_ms[shown_stage] / 1000.0
    stage_job[at] = view.stage_job[shown_stage]
    stage_mask[at] = view.schedulable[shown_stage]

    edges = np.full((num_rows, size.num_edges, 2), NONE, np.int32)
    edge_row = view.edge_row[shown_edge]
    # Hidden edges belong to the newest jobs, hence come last in their row.
    edges[edge_row, (np.arange(len(view.edges)) - view.edge_ptr[view.edge_row])[shown_edge]] = (
        view.edges[shown_edge]
    )
    job_executors = np.full((num_rows, size.max_jobs), NONE, np.int32)
    job_executors[view.job_row[shown_job], job_place[shown_job]] = view.supply[shown_job]
    shown_jobs = np.bincount(view.job_row[shown_job], minlength=num_rows)
    source = np.where(view.source_job < shown_jobs, view.source_job, NONE)
    return Padded(
        observation={
            "stages": stages,
            "stage_job": stage_job,
            "edges": edges,
            "job_executors": job_executors,
            "committable": view.committable[:, None].copy(),
            "source_job": source[:, None].astype(np.int32),
            "stage_mask": stage_mask,
            "executor_mask": (np.arange(num_executors) < view.committable[:, None]).astype(
                np.int32
            ),
        },
        hidden_stages=np.bincount(view.stage_row[~shown_stage], minlength=num_rows),
    )


def _fitting_jobs(
    view: ClusterView,
    size: PaddedSize,
    job_of_stage: IntArray,
    job_of_edge: IntArray,
    job_place: IntArray,
) -> BoolArray:
    """Return (J,) which jobs fit, together with all that are older."""
    num_jobs = len(view.job_id)
    begins = view.job_ptr[view.job_row]  # (J,) the row's first job
    fits = job_place < size.max_jobs
    for jobs, most in ((job_of_stage, size.max_stages), (job_of_edge, size.num_edges)):
        upto = np.concatenate([[0], np.cumsum(np.bincount(jobs, minlength=num_jobs))])
        fits &= upto[1:] - upto[begins] <= most
    return np.asarray(fits, np.bool_)
