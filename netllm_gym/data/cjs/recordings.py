"""Recordings of episodes: jobs with their arrivals and the duration of every task.

`docs/formats.md` has an example, and says what each key means.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from netllm_gym.data.cjs.workload import MOST_MS, MOST_TASKS, JobTemplate, Workload
from netllm_gym.files import errors_begin_with
from netllm_gym.typed_json import Rule, checked, in_range

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


def recording_of(values: object, path: Path) -> Workload:
    """Return the recording that JSON values describe; its jobs are called by their numbers.

    Args:
        values: What the file holds.
        path: Of the file, with which every error begins.

    Raises:
        InputError: If the values are no recording, or break a rule of `Workload`.
    """
    with errors_begin_with(path):
        jobs = checked(_Recording, values, "the recording").jobs
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
        arrival_ms = [job.arrival_ms for job in jobs]
        return Workload.of_jobs(path.name, templates, arrival_ms=arrival_ms)
