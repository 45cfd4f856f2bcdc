"""Turn CJS observations into flat columns, and back.

Consecutive views of an episode hold the same jobs with few changes. A pool therefore keeps what
never changes once per episode (tasks of a stage, edges, arrival and work of a job), and the rest as
series, one per stage or job, over the decisions in which it is part of the view. Of each number it
keeps the change since the previous decision, which is mostly 0 and compresses well. The views are
rebuilt exactly, bit for bit.

Units are those of the view (`envs/cjs/observation.py`): milliseconds.
"""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from netllm_gym.arrays import IntArray
from netllm_gym.envs.cjs.observation import (
    EDGE_FIELDS,
    JOB_FIELDS,
    ROW_FIELDS,
    STAGE_FIELDS,
    ClusterView,
)
from netllm_gym.errors import InputError
from netllm_gym.pools.shard import begins_of

Columns = Mapping[str, NDArray[Any]]

WHOLE = np.int64  # whole numbers; the shard keeps them in the narrowest type that holds them all
STEP_COLUMNS = {  # (T,), one per decision
    "clock_ms": np.float64,
    "committable": WHOLE,
    "source_job": WHOLE,
    "num_executors": WHOLE,
}
JOB_COLUMNS = {  # (J,), jobs in the order in which they were first seen
    "job_id": WHOLE,
    "job_num_stages": WHOLE,
    "job_arrival_ms": np.float64,
    "job_work_ms": np.float32,
}
STAGE_COLUMNS = {  # (S,), stages by job, then by number
    "stage_id": WHOLE,
    "stage_num_tasks": WHOLE,
    "stage_first": WHOLE,  # decision in which the stage was first seen
    "stage_steps": WHOLE,  # decisions in which it was seen, one after the other
}
SERIES_COLUMNS = {  # (M,), the series of stage 0, then that of stage 1, ...
    "remaining_change": WHOLE,
    "promised_change": WHOLE,  # of remaining - demand
    "schedulable_change": np.bool_,
    "duration_is_new": np.bool_,
}
OTHER_COLUMNS = {
    "duration_ms": np.float32,  # those that are new
    "supply_change": WHOLE,  # (N,), the series of job 0, then that of job 1, ...
    "edges": WHOLE,  # (L, 2) parent and child among the S stages
}
COLUMNS = {**STEP_COLUMNS, **JOB_COLUMNS, **STAGE_COLUMNS, **SERIES_COLUMNS, **OTHER_COLUMNS}


def to_columns(observations: ClusterView) -> dict[str, NDArray[Any]]:
    """Turn the observations of one whole episode, a row per decision, into those of `COLUMNS`.

    Raises:
        InputError: If the views are not what `from_columns` would rebuild: jobs must keep their
            order, what `COLUMNS` calls fixed must not change, and a stage must be seen in
            decisions that follow each other.
    """
    if not isinstance(observations, ClusterView):
        raise InputError(f"observations must be a ClusterView, got {type(observations).__name__}")
    view = observations
    job_ids, job_seen, job = np.unique(view.job_id, return_index=True, return_inverse=True)
    by_sight = np.argsort(job_seen, kind="stable")
    job = np.argsort(by_sight)[job]  # (N,) number of the job by first sight
    job_seen = job_seen[by_sight]
    ids = int(view.stage_id.max(initial=0)) + 1
    stage_job = job[view.job_ptr[view.stage_row] + view.stage_job]  # (M,)
    keys, stage = np.unique(stage_job * ids + view.stage_id, return_inverse=True)
    order, begins = _by_series(stage, len(keys))
    job_order, job_begins = _by_series(job, len(job_ids))
    seen = order[begins]  # (S,) where each stage is first seen
    parent, child = (stage[view.stage_ptr[view.edge_row] + view.edges[:, side]] for side in (0, 1))
    edges = np.unique(parent * len(keys) + child)
    duration_ms = view.duration_ms[order]
    is_new = _change(duration_ms.view(np.int32), begins) != 0
    is_new[begins] = True
    columns = {
        **{name: getattr(view, name) for name in STEP_COLUMNS},
        "job_id": view.job_id[job_seen],
        "job_num_stages": np.bincount(keys // ids, minlength=len(job_ids)),
        "job_arrival_ms": view.arrival_ms[job_seen],
        "job_work_ms": view.work_ms[job_seen],
        "stage_id": keys % ids,
        "stage_num_tasks": view.num_tasks[seen],
        "stage_first": view.stage_row[seen],
        "stage_steps": np.bincount(stage, minlength=len(keys)),
        "remaining_change": _change(view.remaining[order], begins),
        "promised_change": _change(view.remaining[order] - view.demand[order], begins),
        "schedulable_change": _change(view.schedulable[order].view(np.int8), begins) != 0,
        "duration_is_new": is_new,
        "duration_ms": duration_ms[is_new],
        "supply_change": _change(view.supply[job_order], job_begins),
        "edges": np.stack(np.divmod(edges, max(len(keys), 1)), axis=1),
    }
    columns = {name: columns[name].astype(dtype) for name, dtype in COLUMNS.items()}
    _check_rebuilt(view, from_columns(columns))
    return columns


def from_columns(columns: Columns) -> ClusterView:
    """Rebuild the observations of an episode; whole numbers may be of a narrower type.

    Raises:
        InputError: If a column is missing, has another shape or type, or contradicts the others.
    """
    _check_columns(columns)
    num_steps = len(columns["clock_ms"])
    first = columns["stage_first"].astype(np.int64)
    num_stages = columns["job_num_stages"].astype(np.int64)
    stages = _Series.of(first, columns["stage_steps"].astype(np.int64), num_steps)
    starts = begins_of(num_stages)  # (J,) first stage of each job
    ends = first + stages.steps
    job_first = np.minimum.reduceat(first, starts) if len(starts) else first
    job_end = np.maximum.reduceat(ends, starts) if len(starts) else ends
    job_steps = job_end - job_first
    if job_steps.sum() != len(columns["supply_change"]):
        raise InputError(
            f"supply_change must have {job_steps.sum()} rows as the jobs are seen, "
            f"got {len(columns['supply_change'])}"
        )
    jobs = _Series.of(job_first, job_steps, num_steps)
    remaining = stages.values(columns["remaining_change"])
    promised = stages.values(columns["promised_change"])
    toggled = stages.values(columns["schedulable_change"])
    newest = np.cumsum(columns["duration_is_new"]) - 1
    # An edge is seen while both its ends are.
    parent, child = columns["edges"].T.astype(np.int64)
    edge_first = np.maximum(first[parent], first[child])
    edge_steps = np.minimum(ends[parent], ends[child]) - edge_first
    edges = _Series.of(edge_first, edge_steps.clip(min=0), num_steps)
    stage_job = np.repeat(np.arange(len(starts)), num_stages)  # (S,)
    parts = {
        **{name: columns[name] for name in STEP_COLUMNS},
        "num_stages": stages.per_row,
        "num_jobs": jobs.per_row,
        "num_edges": edges.per_row,
        "remaining": remaining[stages.order],
        "demand": (remaining - promised)[stages.order],
        "duration_ms": columns["duration_ms"][newest[stages.order]],
        "schedulable": (toggled & 1)[stages.order],
        "stage_id": columns["stage_id"][stages.which[stages.order]],
        "stage_job": jobs.place(stage_job[stages.which], stages.row)[stages.order],
        "num_tasks": columns["stage_num_tasks"][stages.which[stages.order]],
        "job_id": columns["job_id"][jobs.which[jobs.order]],
        "supply": jobs.values(columns["supply_change"])[jobs.order],
        "arrival_ms": columns["job_arrival_ms"][jobs.which[jobs.order]],
        "work_ms": columns["job_work_ms"][jobs.which[jobs.order]],
        "edges": np.stack(
            [stages.place(end[edges.which], edges.row)[edges.order] for end in (parent, child)],
            axis=1,
        ),
    }
    kinds = {**ROW_FIELDS, **STAGE_FIELDS, **JOB_FIELDS, **EDGE_FIELDS}
    return ClusterView(**{name: parts[name].astype(kinds[name]) for name in parts})


# Inner parts -------------------------------------------------------------------------------------


class _Series(NamedTuple):
    """Things that are each seen in decisions that follow each other: K series, M entries in all."""

    first: IntArray  # (K,) decision in which each is first seen
    steps: IntArray  # (K,) decisions in which it is seen
    begins: IntArray  # (K,) where its entries begin
    which: IntArray  # (M,) the thing of each entry
    row: IntArray  # (M,) the decision of each entry
    order: IntArray  # (M,) the entries by decision, those of one decision as the things are
    per_row: IntArray  # (T,) entries of each decision
    position: IntArray  # (M,) place of an entry among those of its decision

    @classmethod
    def of(cls, first: IntArray, steps: IntArray, num_rows: int) -> "_Series":
        begins = begins_of(steps)
        which = np.repeat(np.arange(len(steps)), steps)
        row = np.arange(len(which)) + (first - begins)[which]
        # A stable sort of 16-bit numbers counts instead of comparing.
        order = np.argsort(row.astype(np.int16 if num_rows < 2**15 else np.int64), kind="stable")
        per_row = np.bincount(row, minlength=num_rows)
        position = np.empty_like(row)
        position[order] = np.arange(len(row)) - begins_of(per_row)[row[order]]
        return cls(first, steps, begins, which, row, order, per_row, position)

    def values(self, change: NDArray[Any]) -> IntArray:
        """Return (M,) values of whole numbers whose series begin anew from 0."""
        total = np.cumsum(change, dtype=np.int64)
        before = np.concatenate([np.zeros(1, np.int64), total])[self.begins]
        return np.asarray(total - before[self.which])

    def place(self, which: IntArray, row: IntArray) -> IntArray:
        """Return the places of things among those of a decision."""
        return np.asarray(self.position[self.begins[which] + row - self.first[which]])


def _by_series(which: IntArray, number: int) -> tuple[IntArray, IntArray]:
    """Return the order of entries by the thing that they belong to, and where each thing begins."""
    order = np.argsort(which, kind="stable")
    return order, begins_of(np.bincount(which, minlength=number))


def _change(values: NDArray[Any], begins: IntArray) -> IntArray:
    """Return differences to the entry before; a series begins with its value."""
    change = values.astype(np.int64)
    change[1:] -= values[:-1]
    change[begins] = values[begins]
    return change


def _check_rebuilt(view: ClusterView, rebuilt: ClusterView) -> None:
    for each in fields(ClusterView):
        old, new = (np.ascontiguousarray(getattr(one, each.name)) for one in (view, rebuilt))
        if old.dtype != new.dtype:
            raise InputError(f"{each.name} must be {new.dtype}, got {old.dtype}")
        # Bytes, not values: -0.0 and NaN must come back as they were.
        if old.shape != new.shape or old.tobytes() != new.tobytes():
            raise InputError(
                "observations must be the decisions of one episode, where jobs keep their order "
                f"and a stage is seen until it is complete, got something else in {each.name}"
            )


def _check_columns(columns: Columns) -> None:
    if set(columns) != set(COLUMNS):
        raise InputError(f"columns must be {', '.join(COLUMNS)}, got {', '.join(sorted(columns))}")
    for name, dtype in COLUMNS.items():
        values = columns[name]
        fits = values.dtype.kind == "i" if dtype == WHOLE else values.dtype == dtype
        wanted = "whole numbers" if dtype == WHOLE else str(np.dtype(dtype))
        shape = (len(values), 2) if name == "edges" else (len(values),)
        if not fits or values.shape != shape:
            raise InputError(
                f"{name} must be {wanted} of shape {'(L, 2)' if name == 'edges' else '(rows,)'}, "
                f"got {values.dtype} of {values.shape}"
            )
    for group in (STEP_COLUMNS, JOB_COLUMNS, STAGE_COLUMNS, SERIES_COLUMNS):
        model, *others = group
        for name in others:
            if len(columns[name]) != len(columns[model]):
                raise InputError(
                    f"{name} must have {len(columns[model])} rows as {model}, "
                    f"got {len(columns[name])}"
                )
    first, steps = (columns[name].astype(np.int64) for name in ("stage_first", "stage_steps"))
    num_steps, num_stages = len(columns["clock_ms"]), len(first)
    edges, stages, is_new = columns["edges"], columns["job_num_stages"], columns["duration_is_new"]
    begins = begins_of(steps)
    rules = {
        "stage_first": ((first >= 0).all(), "be at least 0"),
        "stage_steps": (
            (steps >= 1).all() and (first + steps <= num_steps).all(),
            f"be at least 1 and end within {num_steps} decisions",
        ),
        "job_num_stages": (
            (stages >= 1).all() and stages.sum(dtype=np.int64) == num_stages,
            f"be at least 1 and sum to {num_stages}",
        ),
        "remaining_change": (
            len(columns["remaining_change"]) == steps.sum(),
            "hold one value for each decision in which each stage is seen",
        ),
        "edges": (
            ((edges >= 0) & (edges < num_stages)).all()
            and (np.diff(edges[:, 0].astype(np.int64) * num_stages + edges[:, 1]) > 0).all(),
            f"be in 0..{num_stages - 1}, in rising order",
        ),
        "duration_ms": (
            len(columns["duration_ms"]) == np.count_nonzero(is_new)
            and (not num_stages or ((begins < len(is_new)).all() and is_new[begins].all())),
            "hold one value for each that is new, and each stage's first is",
        ),
    }
    for name, (holds, rule) in rules.items():
        if not holds:
            raise InputError(f"{name} must {rule}")
