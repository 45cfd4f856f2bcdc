"""Workloads of cluster job scheduling: the jobs, and how long their tasks take.

A job is a graph of stages, and a stage is a number of similar tasks. The duration of a task depends
on what its executor did before (its wave) and on how many executors the job has (the nearest known
level). A workload lists the durations that were measured for each wave and level, in milliseconds.

A recording is a workload with fixed arrivals and a fixed duration for each task, so that an episode
can be repeated.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from netllm_gym.arrays import FloatArray, IntArray
from netllm_gym.errors import InputError

LEVELS = (5, 10, 20, 40, 50, 60, 80, 100)  # executors of a job for which durations are listed
FRESH, FIRST, REST = 0, 1, 2  # waves: a new executor, its first task of a stage, its later ones
MOST_TASKS = 10**7  # of a stage
MOST_MS = 1e12  # of a duration, 31 years; a float64 clock still resolves a thousandth of a ms


class Jobs(NamedTuple):
    """The jobs of an episode, in order of arrival."""

    template: IntArray  # (J,) template of each
    arrival_ms: FloatArray  # (J,) does not fall


class Waves(NamedTuple):
    """Durations in ms of a stage's tasks by wave and level. All waves have the same levels.

    A list may be empty, but not both fresh and first at one level. A level of `LEVELS` that is
    missing gets the durations of the highest level that is not.
    """

    fresh: Mapping[int, ArrayLike]
    first: Mapping[int, ArrayLike]
    rest: Mapping[int, ArrayLike]


@dataclass(frozen=True)
class JobTemplate:
    """The description of one job.

    Attributes:
        name: Name of the job.
        num_tasks: Tasks of each stage.
        edges: (parent, child) of stages: the child begins when all its parents have ended.
        durations: For each stage `Waves`, or one list of ms for all waves and levels. In a
            recording the list has one duration for each task, in the order in which they start.
        rough_ms: Estimated task duration of each stage, which schedulers see until a task of it
            has started. If it is left out, the mean of the durations.
    """

    name: str
    num_tasks: Sequence[int]
    edges: Sequence[tuple[int, int]]
    durations: Sequence["Waves | ArrayLike"]
    rough_ms: Sequence[float] | None = None


@dataclass(frozen=True, eq=False)
class Workload:
    """K job templates with M stages, L edges and D durations in all; see `of_jobs`.

    Stages are numbered within their job in `parents` and `children`.

    Attributes:
        name: Name of the workload.
        choices: For each job one number below each of these is drawn; together they are the index
            of the template, the first number counting most.
        template_names: (K,).
        stage_offset: (K + 1,) int64 where each template's stages begin.
        num_tasks: (M,) int64.
        rough_ms: (M,) float64 estimated task duration, for schedulers before a task has started.
        parent_offset: (M + 1,) int64 where each stage's parents begin.
        parents: (L,) int64 rising within a stage.
        child_offset: (M + 1,) int64 where each stage's children begin.
        children: (L,) int64 rising within a stage.
        list_start: (M, 3, 8) int64 where the durations of a stage, wave and level begin.
        list_length: (M, 3, 8) int64 how many there are; may be 0.
        durations_ms: (D,) float64.
        arrival_ms: (K,) float64 arrivals of a recording, not falling from 0. Job i is template i,
            and the k-th task of a stage to start takes its k-th duration. None otherwise.
    """

    name: str
    choices: tuple[int, ...]
    template_names: tuple[str, ...]
    stage_offset: IntArray
    num_tasks: IntArray
    rough_ms: FloatArray
    parent_offset: IntArray
    parents: IntArray
    child_offset: IntArray
    children: IntArray
    list_start: IntArray
    list_length: IntArray
    durations_ms: FloatArray
    arrival_ms: FloatArray | None = None

    def __post_init__(self) -> None:
        for each, kind in _ARRAYS.items():
            given = getattr(self, each)
            if given is None and each == "arrival_ms":
                continue
            array = np.asarray(given)
            if array.size and not np.can_cast(array.dtype, kind, "same_kind"):
                raise InputError(
                    f"{each} of workload {self.name} must be {kind}, got {array.dtype}"
                )
            array = array.astype(kind)  # a copy, so that nobody else can write to it
            array.flags.writeable = False  # shared by every environment that plays it
            object.__setattr__(self, each, array)
        object.__setattr__(self, "choices", tuple(int(choice) for choice in self.choices))
        object.__setattr__(self, "template_names", tuple(self.template_names))
        for check in (_check_layout, _check_graph, _check_lists, _check_stages, _check_arrivals):
            check(self)

    @staticmethod
    def of_jobs(
        name: str,
        jobs: Sequence[JobTemplate],
        choices: Sequence[int] | None = None,
        arrival_ms: ArrayLike | None = None,
    ) -> "Workload":
        """Build a workload from plain descriptions.

        Args:
            name: What to call it.
            jobs: At least one.
            choices: What is drawn for a job; left out, its number.
            arrival_ms: Of each job, in order, which makes the workload a recording.

        Raises:
            InputError: If a job breaks a rule; the sentence names it.
        """
        pool = _DurationPool()
        for job in jobs:
            _check_template(job)
        places = np.array([pool.places(each) for job in jobs for each in job.durations], np.int64)
        places = places.reshape(-1, 2, 3, len(LEVELS))  # of each stage: starts, lengths
        rough_ms = [
            mean_ms(each) if job.rough_ms is None else float(job.rough_ms[stage])
            for job in jobs
            for stage, each in enumerate(job.durations)
        ]
        stage_offset = _offsets([len(job.num_tasks) for job in jobs])
        edges = np.array([edge for job in jobs for edge in sorted(job.edges)], np.int64).reshape(
            -1, 2
        )
        first = np.repeat(stage_offset[:-1], [len(job.edges) for job in jobs])
        num_stages = int(stage_offset[-1])
        by_child = np.lexsort((edges[:, 0], edges[:, 1] + first))
        return Workload(
            name=name,
            choices=tuple((len(jobs),) if choices is None else choices),
            template_names=tuple(job.name for job in jobs),
            stage_offset=stage_offset,
            num_tasks=np.array([count for job in jobs for count in job.num_tasks], np.int64),
            rough_ms=np.array(rough_ms, np.float64),
            parent_offset=_offsets(np.bincount(edges[:, 1] + first, minlength=num_stages)),
            parents=edges[by_child, 0],
            child_offset=_offsets(np.bincount(edges[:, 0] + first, minlength=num_stages)),
            children=edges[:, 1],
            list_start=places[:, 0],
            list_length=places[:, 1],
            durations_ms=pool.durations_ms(),
            arrival_ms=None if arrival_ms is None else np.asarray(arrival_ms, np.float64),
        )

    @property
    def num_templates(self) -> int:
        """Return K."""
        return len(self.template_names)

    @property
    def is_recording(self) -> bool:
        """Whether arrivals and the duration of each task are given."""
        return self.arrival_ms is not None

    @cached_property
    def edge_offset(self) -> IntArray:
        """(K + 1,) where each template's edges begin in `edges`."""
        return _frozen(self.child_offset[self.stage_offset])

    @cached_property
    def edges(self) -> IntArray:
        """(L, 2) parent and child within the job: by template, then parent, then child."""
        first = np.repeat(self.stage_offset[:-1], np.diff(self.stage_offset))
        within = np.arange(len(self.num_tasks)) - first
        parents = np.repeat(within, np.diff(self.child_offset))
        return _frozen(np.stack([parents, self.children], axis=1))

    @property
    def max_stages_per_job(self) -> int:
        """Return the stages of the largest template."""
        return int(np.diff(self.stage_offset).max())

    @property
    def max_edges_per_job(self) -> int:
        """Return the edges of the template that has most."""
        return int(np.diff(self.edge_offset).max())

    @cached_property
    def work_ms(self) -> FloatArray:
        """(K,) tasks times rough durations, summed over the stages of each template."""
        return _frozen(np.add.reduceat(self.num_tasks * self.rough_ms, self.stage_offset[:-1]))

    @cached_property
    def content(self) -> str:
        """Return a hash of the workload, which does not depend on its names."""
        digest = hashlib.sha256(repr((self.choices, self.is_recording)).encode())
        for each in _ARRAYS:
            array = getattr(self, each)
            if array is not None:
                digest.update(f"{each}{array.shape}".encode() + array.tobytes())
        return digest.hexdigest()[:16]

    def most_tasks(self, num_jobs: int) -> int:
        """Return the largest number of tasks of an episode with `num_jobs` jobs."""
        per_job = np.add.reduceat(self.num_tasks, self.stage_offset[:-1])
        return int(per_job[:num_jobs].sum() if self.is_recording else num_jobs * per_job.max())

    def draw_jobs(self, seed: int, num_jobs: int, mean_gap_ms: float) -> Jobs:
        """Draw the jobs of an episode. A recording returns its own jobs for every seed.

        The order of the draws is that of decima-sim: for each job its choices, then the gap that
        follows it, also after the last job.

        Args:
            seed: Seed of the arrivals.
            num_jobs: At least 1. A recording returns its first ones.
            mean_gap_ms: Mean of the exponential gaps. A recording does not use it.
        """
        if num_jobs < 1:
            raise InputError(f"num_jobs must be at least 1, got {num_jobs}")
        if self.arrival_ms is not None:
            if num_jobs > self.num_templates:
                raise InputError(
                    f"num_jobs must be at most {self.num_templates}, which is all that recording "
                    f"{self.name} has, got {num_jobs}"
                )
            return Jobs(np.arange(num_jobs), self.arrival_ms[:num_jobs].copy())
        if seed < 0:
            raise InputError(f"seed must be at least 0, got {seed}")
        if not 0 < mean_gap_ms <= MOST_MS:
            raise InputError(
                f"mean_gap_ms must be above 0 and at most {MOST_MS:g}, got {mean_gap_ms}"
            )
        rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed)))
        template, arrival_ms = np.zeros(num_jobs, np.int64), np.zeros(num_jobs)
        clock_ms = 0.0
        for job in range(num_jobs):
            for choice in self.choices:
                template[job] = template[job] * choice + rng.integers(choice)
            arrival_ms[job] = clock_ms
            clock_ms += rng.exponential(scale=mean_gap_ms)
        return Jobs(template, arrival_ms)


_ARRAYS: dict[str, type[np.int64] | type[np.float64]] = {
    each.name: np.float64 if each.name.endswith("_ms") else np.int64
    for each in fields(Workload)
    if each.name not in ("name", "choices", "template_names")
}


def mean_ms(durations: "Waves | ArrayLike") -> float:
    """Return the mean of all durations of a stage, over all waves and levels."""
    lists = (
        [each for wave in durations for each in wave.values()]
        if isinstance(durations, Waves)
        else [durations]
    )
    together = np.concatenate([np.asarray(each, np.float64) for each in lists])
    return float(together.mean()) if together.size else math.nan


class _DurationPool:
    """Concatenates lists of durations. A list that is used several times is kept once."""

    def __init__(self) -> None:
        self._lists: list[FloatArray] = []
        self._length = 0

    def places(self, durations: "Waves | ArrayLike") -> list[Any]:
        """Add the durations of a stage; return where they begin and their lengths, (2, 3, 8)."""
        place_of: dict[int, tuple[int, int]] = {}

        def place(durations_ms: ArrayLike) -> tuple[int, int]:
            if id(durations_ms) not in place_of:
                array = np.asarray(durations_ms, np.float64).ravel()
                place_of[id(durations_ms)] = self._length, len(array)
                self._lists.append(array)
                self._length += len(array)
            return place_of[id(durations_ms)]

        if isinstance(durations, Waves):
            highest = max(durations.fresh)
            found = [
                [place(wave.get(level, wave[highest])) for level in LEVELS] for wave in durations
            ]
        else:
            found = [[place(durations)] * len(LEVELS)] * len(Waves._fields)
        return [[[pair[part] for pair in wave] for wave in found] for part in (0, 1)]

    def durations_ms(self) -> FloatArray:
        """Return all durations that were added, (D,)."""
        return np.concatenate([np.zeros(0), *self._lists])


# Rules -------------------------------------------------------------------------------------------


def _check_template(job: JobTemplate) -> None:
    """Check that the parts of a description fit together. `Workload` checks the numbers."""
    stages = len(job.num_tasks)
    for what, given in (("durations", job.durations), ("rough_ms", job.rough_ms)):
        if given is not None and len(given) != stages:
            raise InputError(
                f"{what} of job {job.name} must be one per stage, got {len(given)} for {stages}"
            )
    for edge in job.edges:
        if len(edge) != 2 or not all(0 <= stage < stages for stage in edge):
            raise InputError(
                f"edges of job {job.name} must be pairs of stages in 0..{stages - 1}, got {edge}"
            )
    for stage, durations in enumerate(job.durations):
        if isinstance(durations, Waves) and (
            not durations.fresh or len({frozenset(wave) for wave in durations}) != 1
        ):
            raise InputError(
                f"durations of job {job.name} must have the same levels in each wave, "
                f"got others in stage {stage}"
            )


def _check_layout(load: Workload) -> None:
    """Check that shapes and offsets fit together."""
    stages, templates = len(load.num_tasks), len(load.template_names)
    if templates < 1 or math.prod(load.choices) != templates or min(load.choices, default=0) < 1:
        raise InputError(
            f"choices of workload {load.name} must be numbers above 0 whose product is that of its "
            f"templates, at least 1, got {load.choices} for {templates}"
        )
    lists = (stages, 3, len(LEVELS))
    shapes: dict[str, tuple[int, ...]] = {
        "num_tasks": (stages,),
        "rough_ms": (stages,),
        "stage_offset": (templates + 1,),
        "parent_offset": (stages + 1,),
        "child_offset": (stages + 1,),
        "parents": (load.parents.size,),
        "children": (load.parents.size,),
        "list_start": lists,
        "list_length": lists,
        "durations_ms": (load.durations_ms.size,),
    }
    for name, shape in shapes.items():
        if getattr(load, name).shape != shape:
            raise InputError(
                f"{name} of workload {load.name} must have shape {shape}, "
                f"got {getattr(load, name).shape}"
            )
    ends = {
        "stage_offset": (stages, 1, "each template's stages, at least one"),
        "parent_offset": (load.parents.size, 0, "each stage's parents"),
        "child_offset": (load.children.size, 0, "each stage's children"),
    }
    for name, (end, least, what) in ends.items():
        offset = getattr(load, name)
        if offset[0] != 0 or offset[-1] != end or (np.diff(offset) < least).any():
            raise InputError(
                f"{name} of workload {load.name} must go from 0 to {end} past {what}, "
                f"got {_few(offset)}"
            )


def _check_stages(load: Workload) -> None:
    rules = {
        "num_tasks": (load.num_tasks, 1, MOST_TASKS),
        "rough_ms": (load.rough_ms, np.nextafter(0, 1), MOST_MS),
    }
    for name, (values, low, high) in rules.items():
        wrong = np.flatnonzero(~((values >= low) & (values <= high)))
        if len(wrong):
            rule = f"in 1..{high}" if low == 1 else f"above 0 and at most {high:g}"
            raise InputError(
                f"{name} of {_stage(load, wrong[0])} must be {rule}, got {values[wrong[0]]}"
            )


def _check_graph(load: Workload) -> None:
    """Check that graphs stay within their jobs, have equal parents and children, and no cycle."""
    first = np.repeat(load.stage_offset[:-1], np.diff(load.stage_offset))
    size = np.repeat(np.diff(load.stage_offset), np.diff(load.stage_offset))
    ends = []
    for name, offset in (("parents", load.parent_offset), ("children", load.child_offset)):
        others: IntArray = getattr(load, name)
        own = np.repeat(np.arange(len(load.num_tasks)), np.diff(offset))
        wrong = np.flatnonzero((others < 0) | (others >= size[own]))
        if len(wrong):
            raise InputError(
                f"{name} of {_stage(load, own[wrong[0]])} must be stages of its job, "
                f"got {others[wrong[0]]}"
            )
        ends.append((own, first[own] + others))
    (child, parent), (parent_too, child_too) = ends
    by_parent = np.lexsort((child, parent))
    pairs, pairs_too = (
        np.stack([parent[by_parent], child[by_parent]]),
        np.stack([parent_too, child_too]),
    )
    if not np.array_equal(pairs, pairs_too):
        raise InputError(f"children of workload {load.name} must mirror its parents, got others")
    twice = np.flatnonzero((np.diff(pairs, axis=1) == 0).all(axis=0))
    if len(twice):
        raise InputError(
            f"parents of {_stage(load, pairs[1, twice[0]])} must differ, got one twice"
        )
    waiting = np.diff(load.parent_offset)  # parents that have not ended
    ready = np.flatnonzero(waiting == 0)
    ended = np.zeros(len(waiting), bool)
    while len(ready):  # one round per generation of stages
        ended[ready] = True
        gone = np.bincount(child[ended[parent] & ~ended[child]], minlength=len(waiting))
        ready = np.flatnonzero(~ended & (gone == waiting))
    if not ended.all():
        raise InputError(
            f"edges of {_stage(load, int(np.argmin(ended)))} must not run in a circle, got one"
        )


def _check_lists(load: Workload) -> None:
    """Check that lists are within the durations, no wave is without one, and all are positive."""
    begin, length = load.list_start, load.list_length
    outside = (begin < 0) | (length < 0) | (length > len(load.durations_ms))
    outside |= begin + length > len(load.durations_ms)
    if outside.any():
        stage = int(np.argwhere(outside)[0, 0])
        raise InputError(f"lists of {_stage(load, stage)} must lie in durations_ms, got others")
    empty = np.argwhere((length[:, FRESH] == 0) & (length[:, FIRST] == 0))
    if len(empty):
        raise InputError(
            f"durations of {_stage(load, empty[0, 0])} must be there for a fresh or a first task, "
            f"got none at level {LEVELS[empty[0, 1]]}"
        )
    wrong = np.flatnonzero(~((load.durations_ms > 0) & (load.durations_ms <= MOST_MS)))
    if len(wrong):
        holds = (begin <= wrong[0]) & (wrong[0] < begin + length)
        where = _stage(load, int(np.argwhere(holds)[0, 0])) if holds.any() else "no stage"
        raise InputError(
            f"durations of {where} must be above 0 and at most {MOST_MS:g} ms, "
            f"got {load.durations_ms[wrong[0]]}"
        )


def _check_arrivals(load: Workload) -> None:
    if load.arrival_ms is None:
        return
    if load.arrival_ms.shape != (load.num_templates,):
        raise InputError(
            f"arrival_ms of recording {load.name} must be one per job, "
            f"got shape {load.arrival_ms.shape} for {load.num_templates}"
        )
    if load.choices != (load.num_templates,):
        raise InputError(f"choices of recording {load.name} must be its jobs, got {load.choices}")
    gaps_ms = np.diff(load.arrival_ms)
    if load.arrival_ms[0] != 0 or not (gaps_ms >= 0).all() or load.arrival_ms[-1] > MOST_MS:
        raise InputError(
            f"arrival_ms of recording {load.name} must begin at 0, not fall, and end by "
            f"{MOST_MS:g}, got {_few(load.arrival_ms)}"
        )
    wrong = np.flatnonzero(load.list_length[:, FRESH, 0] != load.num_tasks)
    if len(wrong):
        raise InputError(
            f"durations of {_stage(load, wrong[0])} must be one per task in a recording, "
            f"got {load.list_length[wrong[0], FRESH, 0]} for {load.num_tasks[wrong[0]]}"
        )


def _stage(load: Workload, stage: int | np.integer[Any]) -> str:
    """Return the name of a stage for an error."""
    job = int(np.searchsorted(load.stage_offset, stage, side="right")) - 1
    return f"stage {stage - load.stage_offset[job]} of job {load.template_names[job]}"


def _few(values: NDArray[Any]) -> str:
    shown = ", ".join(str(value) for value in values[:6])
    return f"[{shown}{', ...' if len(values) > 6 else ''}]"


def _offsets(counts: ArrayLike) -> IntArray:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(counts, dtype=np.int64)])


def _frozen(array: NDArray[Any]) -> NDArray[Any]:
    array.flags.writeable = False
    return array
