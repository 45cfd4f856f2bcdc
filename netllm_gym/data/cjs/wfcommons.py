"""Scientific workflows in the JSON format of WfCommons (wfcommons.org), versions 1.3 to 1.6.

A file is one run of a workflow, and becomes one job. `docs/formats.md` says how. Up to version 1.4,
tasks refer to each other by their names and have their runtimes themselves; from 1.5 on, they refer
to each other by ids, and runtimes are in a part of their own (`execution`).
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from netllm_gym.data.cjs.workload import MOST_MS, JobTemplate, Workload
from netllm_gym.errors import InputError
from netllm_gym.files import errors_begin_with
from netllm_gym.typed_json import Name, Rule, checked, in_range

LEAST_MS = 1.0  # of a task whose runtime is 0 or unknown
_NUMBER = re.compile(r"[_-]?(ID)?\d+$", re.ASCII)  # at the end of a task's name
_Seconds = Annotated[float, in_range(0, MOST_MS / 1000.0)]
_SOME = Rule(bool, "have tasks")


@dataclass(frozen=True)
class _Version:
    schemaVersion: Literal["1.3", "1.4", "1.5", "1.6"]  # noqa: N815


@dataclass(frozen=True)
class _OldTask:
    name: Name
    id: Name | None = None
    runtime: _Seconds | None = None  # of 1.3
    runtimeInSeconds: _Seconds | None = None  # noqa: N815  # of 1.4
    parents: list[str] = field(default_factory=list)
    children: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _OldWorkflow:
    tasks: Annotated[list[_OldTask], _SOME]


@dataclass(frozen=True)
class _OldFile:
    workflow: _OldWorkflow


@dataclass(frozen=True)
class _Specified:
    name: Name
    id: Name
    parents: list[str]
    children: list[str]


@dataclass(frozen=True)
class _Specification:
    tasks: Annotated[list[_Specified], _SOME]


@dataclass(frozen=True)
class _Executed:
    id: Name
    runtimeInSeconds: _Seconds  # noqa: N815


@dataclass(frozen=True)
class _Execution:
    tasks: list[_Executed]


@dataclass(frozen=True)
class _Workflow:
    specification: _Specification
    execution: _Execution


@dataclass(frozen=True)
class _File:
    workflow: _Workflow


class _Task(NamedTuple):
    """One task of any version."""

    name: str
    known_as: tuple[str, ...]  # what other tasks call it
    runtime_s: float  # 0: unknown, or too short to be measured
    parents: Sequence[str]
    children: Sequence[str]


class _Job(NamedTuple):
    template: JobTemplate
    num_short: int  # tasks with a runtime of 0, or none


def workflows_of(name: str, files: Sequence[tuple[Path, Any]]) -> Workload:
    """Return a workload with one job for each workflow.

    Args:
        name: What to call it.
        files: Path of each file, and the JSON values in it.

    Raises:
        InputError: If a file breaks a rule; the sentence begins with its path.
    """
    jobs = []
    for path, values in files:
        with errors_begin_with(path):
            jobs.append(_job(path, values))
    remarks = ["runtimes are those of the machines that ran the tasks, whose speeds are not used"]
    if short := sum(job.num_short for job in jobs):
        remarks.append(f"tasks without a runtime, which count as {LEAST_MS:g} ms: {short:,}")
    return Workload.of_jobs(name, [job.template for job in jobs], remarks=remarks)


def _job(path: Path, values: Any) -> _Job:
    tasks = list(_tasks(values))
    if not any(task.runtime_s for task in tasks):
        raise InputError("tasks must have runtimes, got none above 0")
    place_of: dict[str, int] = {}
    for place, task in enumerate(tasks):
        for called in dict.fromkeys(task.known_as):
            if called in place_of:
                raise InputError(f"tasks must have different names, got {called!r:.40} twice")
            place_of[called] = place
    parents: list[set[int]] = [set() for _ in tasks]
    children: list[set[int]] = [set() for _ in tasks]
    for place, task in enumerate(tasks):
        for others, named in ((parents, task.parents), (children, task.children)):
            backwards = children if others is parents else parents
            for other in named:
                if other not in place_of:
                    raise InputError(
                        f"parents and children must be tasks, got {other!r:.40} of {task.name}"
                    )
                others[place].add(place_of[other])
                backwards[place_of[other]].add(place)
    # Tasks of one kind with equal parents and equal children begin and are waited for together.
    stages: dict[tuple[str, frozenset[int], frozenset[int]], list[int]] = {}
    for place, task in enumerate(tasks):
        alike = _NUMBER.sub("", task.name), frozenset(parents[place]), frozenset(children[place])
        stages.setdefault(alike, []).append(place)
    stage_of = {place: stage for stage, group in enumerate(stages.values()) for place in group}
    edges = {(stage_of[up], stage_of[place]) for place in stage_of for up in parents[place]}
    durations = [
        [max(1000.0 * tasks[place].runtime_s, LEAST_MS) for place in group]
        for group in stages.values()
    ]
    counts = [len(group) for group in stages.values()]
    return _Job(
        JobTemplate(path.name, counts, sorted(edges), durations),
        sum(task.runtime_s == 0.0 for task in tasks),
    )


def _tasks(values: Any) -> Iterator[_Task]:
    """Yield the tasks of a file."""
    version = checked(_Version, values, "the workflow", ignore_unknown=True).schemaVersion
    if version in ("1.3", "1.4"):
        old = checked(_OldFile, values, "the workflow", ignore_unknown=True).workflow
        for each in old.tasks:
            known_as = (each.name, *([each.id] if each.id else []))
            runtime_s = each.runtime if each.runtimeInSeconds is None else each.runtimeInSeconds
            yield _Task(each.name, known_as, runtime_s or 0.0, each.parents, each.children)
        return
    new = checked(_File, values, "the workflow", ignore_unknown=True).workflow
    specified = {task.id for task in new.specification.tasks}
    runtimes_s: dict[str, float] = {}
    for run in new.execution.tasks:
        if run.id not in specified or run.id in runtimes_s:
            what = "twice" if run.id in runtimes_s else "which is none of them"
            raise InputError(
                f"execution must have each task of the specification once, "
                f"got {run.id!r:.40} {what}"
            )
        runtimes_s[run.id] = run.runtimeInSeconds
    for task in new.specification.tasks:
        runtime_s = runtimes_s.get(task.id, 0.0)
        yield _Task(task.name, (task.id,), runtime_s, task.parents, task.children)
