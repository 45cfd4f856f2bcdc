"""Recordings: jobs with their arrivals and the duration of every task, to be played again.

A recording is a JSON file:

    {"kind": "netllm-gym cjs recording 1",
     "jobs": [{"arrival_ms": 0.0, "tasks": [2, 1], "edges": [[0, 1]], "rough_ms": [250.0, 80.0],
               "durations_ms": [[240, 260], [80]]}, ...]}

`tasks` has the number of tasks of each stage, `edges` (parent, child) of stages, `rough_ms` what a
scheduler is told of each stage before a task of it has started, and `durations_ms` for each stage a
list: its k-th task to start takes the k-th duration, whichever executor it starts on.
"""

from pathlib import Path
from typing import Any

from netllm_gym.data.cjs.workload import MOST_MS, MOST_TASKS, JobTemplate, Workload
from netllm_gym.errors import InputError
from netllm_gym.files import read_json

KIND = "netllm-gym cjs recording 1"
KEYS = ("arrival_ms", "tasks", "edges", "rough_ms", "durations_ms")


def read_recording(path: Path) -> Workload:
    """Read a recording; its jobs are called by their numbers.

    Raises:
        InputError: If the file is none, or breaks a rule of `Workload`.
    """
    content = read_json(path)
    if not isinstance(content, dict) or content.get("kind") != KIND:
        raise InputError(f"{path} must be an object with the kind {KIND!r}, got another")
    jobs = content.get("jobs")
    if set(content) != {"kind", "jobs"} or not isinstance(jobs, list) or not jobs:
        raise InputError(f"{path} must have kind and a list of jobs, nothing else, got others")
    try:
        templates = [_template(number, job) for number, job in enumerate(jobs)]
        arrival_ms = [job["arrival_ms"] for job in jobs]
        return Workload.of_jobs(path.name, templates, arrival_ms=arrival_ms)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _template(number: int, job: Any) -> JobTemplate:
    if not isinstance(job, dict) or set(job) != set(KEYS):
        got = ", ".join(sorted(job)) if isinstance(job, dict) else type(job).__name__
        raise InputError(f"job {number} must have {', '.join(KEYS)}, got {got!a:.80}")
    _numbers(number, "arrival_ms", [job["arrival_ms"]], MOST_MS)
    for key in ("tasks", "rough_ms"):
        _numbers(number, key, job[key], MOST_TASKS if key == "tasks" else MOST_MS)
    for key in ("edges", "durations_ms"):
        if not isinstance(job[key], list):
            raise InputError(f"{key} of job {number} must be a list of lists, got {job[key]!r:.40}")
        for each in job[key]:
            _numbers(number, key, each, MOST_TASKS if key == "edges" else MOST_MS)
    for key, values in (("tasks", job["tasks"]), *(("edges", edge) for edge in job["edges"])):
        if not all(type(value) is int for value in values):
            raise InputError(f"{key} of job {number} must be whole numbers, got {values!r:.40}")
    return JobTemplate(
        str(number),
        job["tasks"],
        list(map(tuple, job["edges"])),
        job["durations_ms"],
        job["rough_ms"],
    )


def _numbers(number: int, key: str, values: Any, most: float) -> None:
    """Refuse what is not a list of numbers that an array can hold."""
    if not isinstance(values, list) or not all(
        type(value) in (int, float) and 0 <= value <= most for value in values
    ):
        raise InputError(
            f"{key} of job {number} must have numbers in 0..{most:g}, got {values!r:.40}"
        )
