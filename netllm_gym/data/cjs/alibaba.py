"""Jobs of the Alibaba cluster trace of 2018: its table `batch_task.csv`, read line by line.

A row of the table is a task, which is called a stage here, and its instances are the tasks of the
stage. `docs/formats.md` says how each column is read, what is assumed where the table says nothing,
and which jobs are left out.
"""

import csv
import re
from collections import Counter
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

from netllm_gym.data.cjs.workload import MOST_TASKS, JobTemplate, Workload
from netllm_gym.data.opening import open_lines
from netllm_gym.errors import InputError

MOST_JOBS = 10_000  # read unless told otherwise: the whole trace has four million
COLUMNS = (
    *("task_name", "instance_num", "job_name", "task_type", "status"),
    *("start_time", "end_time", "plan_cpu", "plan_mem"),
)
MOST_SECONDS = 10**9
_CUT_OFF = 50  # characters of the longest names in the trace
_NAME = re.compile(r"[A-Za-z](?P<number>\d{1,6})(?P<parents>(_\d{1,6})*)(_Stg\d+)*_?", re.ASCII)
_NUMBER = re.compile(r"\d{1,12}(\.\d{1,12})?", re.ASCII)


class _Row(NamedTuple):
    """One task of the trace. Fields that cannot be used are None."""

    name: str
    instances: float | None
    status: str
    start_s: float | None
    end_s: float | None


def read_alibaba(path: Path, most_jobs: int = MOST_JOBS) -> Workload:
    """Read the first jobs of a `batch_task.csv`; its remarks say which are left out.

    Args:
        path: The table, which may be packed by gzip.
        most_jobs: Jobs that are read, those included that cannot be used.

    Raises:
        InputError: If a line breaks the format, or no job can be used.
    """
    if most_jobs < 1:
        raise InputError(f"most_jobs must be at least 1, got {most_jobs}")
    rows_of: dict[str, list[_Row]] = {}
    is_cut = False
    for job, row in _rows(path):
        if job in rows_of or len(rows_of) < most_jobs:
            rows_of.setdefault(job, []).append(row)
        else:
            is_cut = True
    templates: list[JobTemplate] = []
    unusable: Counter[str] = Counter()
    for job, rows in rows_of.items():
        found = _template(job, rows)
        if isinstance(found, JobTemplate):
            templates.append(found)
        else:
            unusable[found] += 1
    reasons = ", ".join(f"{count} {reason}" for reason, count in unusable.items())
    if not templates:
        raise InputError(f"{path} must hold a job that can be used, got {reasons or 'no job'}")
    remarks = []
    if unusable:
        remarks.append(f"{unusable.total():,} of {len(rows_of):,} jobs left out: {reasons}")
    if is_cut:
        remarks.append(f"only the first {most_jobs:,} jobs of the table are read")
    return Workload.of_jobs(path.name, templates, remarks=remarks)


def _rows(path: Path) -> Iterator[tuple[str, _Row]]:
    """Yield the job and the task of each row."""
    with open_lines(path) as lines:
        table = csv.reader(lines)
        while True:
            try:
                cells = next(table)
            except StopIteration:
                return
            except csv.Error as error:
                raise InputError(
                    f"{path} line {table.line_num} must be a row of a table, got {error}"
                ) from None
            if not cells:  # a blank line, as many programs leave at the end
                continue
            where = f"{path} line {table.line_num}"
            if tuple(cells) == COLUMNS and table.line_num == 1:
                continue
            if len(cells) != len(COLUMNS):
                raise InputError(f"{where} must have {len(COLUMNS)} columns, got {len(cells)}")
            name, instances, job, _, status, start, end, _, _ = cells
            if not (name and job and name.isprintable() and job.isprintable()):
                raise InputError(f"{where} must name task and job, got {name!r:.40}, {job!r:.40}")
            count = _number(instances, MOST_TASKS, f"instance_num in {where}")
            if count is not None and not count.is_integer():
                raise InputError(f"instance_num in {where} must be whole, got {instances!r:.40}")
            yield (
                job,
                _Row(
                    name,
                    count,
                    status,
                    _number(start, MOST_SECONDS, f"start_time in {where}"),
                    _number(end, MOST_SECONDS, f"end_time in {where}"),
                ),
            )


def _number(cell: str, most: int, what: str) -> float | None:
    """Return a number, or None for an empty cell or 0."""
    if not cell:
        return None
    if not _NUMBER.fullmatch(cell) or float(cell) > most:
        raise InputError(f"{what} must be a number up to {most}, got {cell!r:.40}")
    return float(cell) or None


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
    return JobTemplate(job, [int(row.instances or 0) for row in rows], sorted(edges), durations)
