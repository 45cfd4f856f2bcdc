"""Recordings of episodes: jobs with their arrivals and the duration of every task.

A recording is a JSON file:

    {"kind": "netllm-gym cjs recording 1",
     "jobs": [{"arrival_ms": 0.0, "tasks": [2, 1], "edges": [[0, 1]], "rough_ms": [250.0, 80.0],
               "durations_ms": [[240, 260], [80]]}, ...]}

`tasks` has the number of tasks of each stage, `edges` (parent, child) of stages, and `rough_ms` the
estimated task duration of each stage, which schedulers see until a task of it has started.
`durations_ms` has a list for each stage: its k-th task to start takes the k-th duration, on every
executor.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from netllm_gym.data.cjs.workload import MOST_MS, MOST_TASKS, JobTemplate, Workload
from netllm_gym.files import errors_begin_with
from netllm_gym.typed_json import Rule, in_range, read_checked

_Count = Annotated[int, in_range(0, MOST_TASKS)]
_Duration = Annotated[float, in_range(0, MOST_MS)]


@dataclass(frozen=True)
class _Job:
    arrival_ms: _Duration
    tasks: list[_Count]
    edges: list[tuple[_Count, _Count]]
    rough_ms: list[_Duration]
    durations_ms: list[list[_Duration]]


@dataclass(frozen=True)
class _Recording:
    kind: Literal["netllm-gym cjs recording 1"]
    jobs: Annotated[list[_Job], Rule(bool, "be a list of jobs")]


def read_recording(path: Path) -> Workload:
    """Read a recording; its jobs are called by their numbers.

    Raises:
        InputError: If the file is not a recording, or breaks a rule of `Workload`.
    """
    jobs = read_checked(path, _Recording, "the recording").jobs
    templates = [
        JobTemplate(
            name=str(number),
            num_tasks=job.tasks,
            edges=job.edges,
            durations=job.durations_ms,
            rough_ms=job.rough_ms,
        )
        for number, job in enumerate(jobs)
    ]
    with errors_begin_with(path):
        return Workload.of_jobs(path.name, templates, arrival_ms=[job.arrival_ms for job in jobs])
