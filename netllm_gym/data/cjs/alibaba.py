"""Jobs of the Alibaba cluster trace of 2018 (`batch_task.csv`, no header), read line by line.

A row of the table is a task, which is called a stage here, and its instances are the tasks of the
stage. The columns are task_name, instance_num, job_name, task_type, status, start_time, end_time,
plan_cpu and plan_mem. The rows of a job may be anywhere in the table. The name `J4_2_3` means stage
4, which waits for the stages 2 and 3. The letter and a suffix such as `_Stg7` have no meaning. A
stage with any other name, such as `task_Nzg3` or `MergeTask`, has no parents and no children.

The table has no row for each instance, so two things are assumed:

- Every instance lasts end_time - start_time. This is rather too long than too short, because the
  time of a task runs from its registration, which may be before its parents end, to the end of its
  last instance. The trace counts whole seconds, and less than one second is taken as a half.
- An instance lasts equally long in all waves and at all levels, including its start-up.

Start times are not used: jobs are drawn with equal probability, and the seed decides when they
arrive.

A job is left out, and counted, unless each of its stages has the status Terminated, a start above 0
(0 is outside the traced week), an end that is not before the start, and at least one instance. It
is also left out if its graph is not known: if a name is cut off at 50 characters, or if stages wait
for stages that do not exist, exist twice, or form a cycle.
"""

import re
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

from netllm_gym.data.cjs.workload import MOST_TASKS, JobTemplate, Workload
from netllm_gym.errors import InputError
from netllm_gym.files import open_regular

MOST_JOBS = 10_000  # read unless told otherwise: the whole trace has four million
COLUMNS = 9
MOST_SECONDS = 10**9
_CUT_OFF = 50  # characters of the longest names in the trace
_NAME = re.compile(r"[A-Za-z](?P<number>\d{1,6})(?P<parents>(_\d{1,6})*)(_Stg\d+)*_?", re.ASCII)


class AlibabaJobs(NamedTuple):
    """The jobs of a table."""

    workload: Workload
    skipped: dict[str, int]  # why jobs were left out -> how many


class _Row(NamedTuple):
    """One task of the trace. Fields that cannot be used are None."""

    name: str
    instances: int | None
    status: str
    start_s: int | None
    end_s: int | None


def read_alibaba(path: Path, most_jobs: int = MOST_JOBS) -> Workload:
    """Read the first `most_jobs` jobs of a `batch_task.csv`, less those that cannot be used.

    Raises:
        InputError: If a line breaks the format, or no job can be used.
    """
    return read_alibaba_jobs(path, most_jobs).workload


def read_alibaba_jobs(path: Path, most_jobs: int = MOST_JOBS) -> AlibabaJobs:
    """Read as `read_alibaba` does, and say which jobs were left out."""
    if most_jobs < 1:
        raise InputError(f"most_jobs must be at least 1, got {most_jobs}")
    rows_of: dict[str, list[_Row]] = {}
    for job, row in _rows(path):
        if job in rows_of or len(rows_of) < most_jobs:
            rows_of.setdefault(job, []).append(row)
    templates: list[JobTemplate] = []
    skipped: dict[str, int] = {}
    for job, rows in rows_of.items():
        found = _template(job, rows)
        if isinstance(found, JobTemplate):
            templates.append(found)
        else:
            skipped[found] = skipped.get(found, 0) + 1
    if not templates:
        counts = ", ".join(f"{count} {reason}" for reason, count in skipped.items()) or "no job"
        raise InputError(f"{path} must hold a job that can be used, got {counts}")
    return AlibabaJobs(Workload.of_jobs(path.name, templates), skipped)


def _rows(path: Path) -> Iterator[tuple[str, _Row]]:
    """Yield the job and the task of each line."""
    with open_regular(path) as file:
        for number, line in enumerate(file, 1):
            where = f"{path} line {number}"
            try:
                cells = line.decode().rstrip("\r\n").split(",")
            except UnicodeDecodeError:
                raise InputError(f"{where} must be UTF-8, got {line!r:.40}") from None
            if len(cells) != COLUMNS:
                raise InputError(f"{where} must have {COLUMNS} columns, got {len(cells)}")
            name, instances, job, _, status, start, end, _, _ = cells
            if not (name and job and name.isprintable() and job.isprintable()):
                raise InputError(f"{where} must name task and job, got {name!r:.40}, {job!r:.40}")
            yield (
                job,
                _Row(
                    name,
                    _whole(instances, MOST_TASKS, f"instance_num in {where}"),
                    status,
                    _whole(start, MOST_SECONDS, f"start_time in {where}"),
                    _whole(end, MOST_SECONDS, f"end_time in {where}"),
                ),
            )


def _whole(cell: str, most: int, what: str) -> int | None:
    """Return a whole number, or None for an empty cell or 0."""
    if not cell:
        return None
    if not (cell.isascii() and cell.isdigit() and len(cell) <= 12 and int(cell) <= most):
        raise InputError(f"{what} must be a whole number up to {most}, got {cell!r:.40}")
    return int(cell) or None


def _template(job: str, rows: list[_Row]) -> JobTemplate | str:
    """Return a job, or why it cannot be used."""
    durations = []
    for row in rows:
        if row.status != "Terminated":
            return "not wholly Terminated"
        if row.instances is None:
            return "without instances"
        if row.start_s is None or row.end_s is None or row.end_s < row.start_s:
            return "without times"
        durations.append([max(1000.0 * (row.end_s - row.start_s), 500.0)])
    names = [_NAME.fullmatch(row.name) for row in rows]
    stage_of = {int(match["number"]): stage for stage, match in enumerate(names) if match}
    if len(stage_of) < sum(match is not None for match in names):
        return "with a stage twice"
    parents: dict[int, list[int]] = {}
    for stage, match in enumerate(names):
        if match is None:
            continue
        if len(rows[stage].name) >= _CUT_OFF:
            return "with a name cut off"
        for parent in filter(None, match["parents"].split("_")):
            if int(parent) not in stage_of:
                return "with a parent that is not there"
            parents.setdefault(stage, []).append(stage_of[int(parent)])
    try:
        TopologicalSorter(parents).prepare()
    except CycleError:
        return "with a circle"
    edges = {(parent, child) for child, above in parents.items() for parent in above}
    return JobTemplate(job, [row.instances or 0 for row in rows], sorted(edges), durations)
