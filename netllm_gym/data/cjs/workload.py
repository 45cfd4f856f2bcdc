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
from graphlib import CycleError, TopologicalSorter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from netllm_gym.arrays import FloatArray, IntArray
from netllm_gym.errors import InputError

LEVELS = (5, 10, 20, 40, 50, 60, 80, 100)  # executors of a job for which durations are listed
FRESH, FIRST, REST = 0, 1, 2  # waves: a new executor, its first task of a stage, its later ones
MOST_TASKS = 10**7  # of a stage
MOST_STAGES = 65_535  # of a job; the keys of their durations would not differ from other jobs'
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

    def __post_init__(self) -> None:
        stages = len(self.num_tasks)
        if not 1 <= stages <= MOST_STAGES:
            raise InputError(f"job {self.name} must have 1..{MOST_STAGES} stages, got {stages}")
        for what, given in (("durations", self.durations), ("rough_ms", self.rough_ms)):
            if given is not None and len(given) != stages:
                raise InputError(
                    f"{what} of job {self.name} must be one per stage, "
                    f"got {len(given)} for {stages}"
                )
        for stage, durations in enumerate(self.durations):
            if isinstance(durations, Waves) and (
                not durations.fresh or len({frozenset(wave) for wave in durations}) != 1
            ):
                raise InputError(
                    f"durations of job {self.name} must have the same levels in each wave, "
                    f"got others in stage {stage}"
                )
        self._check_edges()

    def _check_edges(self) -> None:
        stages = len(self.num_tasks)
        parents: dict[int, set[int]] = {}
        for edge in self.edges:
            if len(edge) != 2 or not all(0 <= stage < stages for stage in edge):
                raise InputError(
                    f"edges of job {self.name} must be pairs of stages in 0..{stages - 1}, "
                    f"got {edge}"
                )
            parent, child = edge
            if parent in parents.setdefault(child, set()):
                raise InputError(
                    f"parents of stage {child} of job {self.name} must differ, got one twice"
                )
            parents[child].add(parent)
        try:
            TopologicalSorter(parents).prepare()
        except CycleError as error:
            raise InputError(
                f"edges of stage {min(error.args[1])} of job {self.name} must not run in a circle, "
                "got one"
            ) from None


@dataclass(frozen=True, eq=False)
class Workload:
    """K job templates with M stages, L edges and D durations in all, as `of_jobs` makes them.

    Stages are numbered within their job in `edges`, `parents` and `children`.

    Attributes:
        name: Name of the workload.
        choices: For each job one number below each of these is drawn; together they are the index
            of the template, the first number counting most.
        template_names: (K,).
        stage_offset: (K + 1,) int64 where each template's stages begin.
        edge_offset: (K + 1,) int64 where each template's edges begin.
        edges: (L, 2) int64 parent and child: by template, then parent, then child.
        num_tasks: (M,) int64.
        rough_ms: (M,) float64 estimated task duration, for schedulers before a task has started.
        list_start: (M, 3, 8) int64 where the durations of a stage, wave and level begin.
        list_length: (M, 3, 8) int64 how many there are; may be 0.
        durations_ms: (D,) float64.
        arrival_ms: (K,) float64 arrivals of a recording, not falling from 0. Job i is template i,
            and the k-th task of a stage to start takes its k-th duration. None otherwise.
        remarks: Sentences on what was left out or assumed when it was read.
    """

    name: str
    choices: tuple[int, ...]
    template_names: tuple[str, ...]
    stage_offset: IntArray
    edge_offset: IntArray
    edges: IntArray
    num_tasks: IntArray
    rough_ms: FloatArray
    list_start: IntArray
    list_length: IntArray
    durations_ms: FloatArray
    arrival_ms: FloatArray | None = None
    remarks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for each in fields(self):
            given = getattr(self, each.name)
            if isinstance(given, np.ndarray):
                # A copy, so that nobody else can write to it; every environment shares it.
                object.__setattr__(self, each.name, _frozen(given.copy()))
        for check in (_check_choices, _check_durations, _check_stages, _check_arrivals):
            check(self)

    @staticmethod
    def of_jobs(
        name: str,
        jobs: Sequence[JobTemplate],
        choices: Sequence[int] | None = None,
        arrival_ms: ArrayLike | None = None,
        remarks: Sequence[str] = (),
    ) -> "Workload":
        """Build a workload from plain descriptions.

        Args:
            name: What to call it.
            jobs: At least one.
            choices: What is drawn for a job; left out, its number.
            arrival_ms: Of each job, in order, which makes the workload a recording.
            remarks: Sentences on what was left out or assumed.

        Raises:
            InputError: If a job breaks a rule; the sentence names it.
        """
        kept: list[FloatArray] = []
        places: list[tuple[int, int]] = []  # begin and length of each list
        length = 0
        for durations in (each for job in jobs for each in job.durations):
            place_of: dict[int, tuple[int, int]] = {}  # a list that is used again is kept once
            for listed in _lists(durations):
                if id(listed) not in place_of:
                    kept.append(np.asarray(listed, np.float64).ravel())
                    place_of[id(listed)] = length, len(kept[-1])
                    length += len(kept[-1])
                places.append(place_of[id(listed)])
        lists = np.array(places, np.int64).reshape(-1, 3, len(LEVELS), 2)
        rough_ms = [
            mean_ms(each) if job.rough_ms is None else float(job.rough_ms[stage])
            for job in jobs
            for stage, each in enumerate(job.durations)
        ]
        edges = [edge for job in jobs for edge in sorted(job.edges)]
        return Workload(
            name=name,
            choices=tuple((len(jobs),) if choices is None else choices),
            template_names=tuple(job.name for job in jobs),
            stage_offset=_offsets([len(job.num_tasks) for job in jobs]),
            edge_offset=_offsets([len(job.edges) for job in jobs]),
            edges=np.array(edges, np.int64).reshape(-1, 2),
            num_tasks=np.array([count for job in jobs for count in job.num_tasks], np.int64),
            rough_ms=np.array(rough_ms, np.float64),
            list_start=lists[..., 0],
            list_length=lists[..., 1],
            durations_ms=np.concatenate([np.zeros(0), *kept]),
            arrival_ms=None if arrival_ms is None else np.asarray(arrival_ms, np.float64),
            remarks=tuple(remarks),
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
    def _ends(self) -> IntArray:
        """(L, 2) parent and child of each edge among all stages."""
        return self.edges + np.repeat(self.stage_offset[:-1], np.diff(self.edge_offset))[:, None]

    def _edges_at(self, end: int) -> IntArray:
        """Return (M + 1,) where the edges of each stage begin if they are sorted by an end."""
        return _frozen(_offsets(np.bincount(self._ends[:, end], minlength=len(self.num_tasks))))

    @cached_property
    def parent_offset(self) -> IntArray:
        """(M + 1,) where each stage's parents begin in `parents`."""
        return self._edges_at(1)

    @cached_property
    def parents(self) -> IntArray:
        """(L,) rising within a stage."""
        return _frozen(self.edges[np.lexsort((self.edges[:, 0], self._ends[:, 1])), 0])

    @cached_property
    def child_offset(self) -> IntArray:
        """(M + 1,) where each stage's children begin in `children`."""
        return self._edges_at(0)

    @cached_property
    def children(self) -> IntArray:
        """(L,) rising within a stage."""
        return _frozen(self.edges[:, 1].copy())

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
    def longest_ms(self) -> FloatArray:
        """(M,) the longest duration of each stage that is listed for any wave and level."""
        # The lists of a stage lie side by side, and at least one of them is not empty.
        return _frozen(np.maximum.reduceat(self.durations_ms, self.list_start.min(axis=(1, 2))))

    @cached_property
    def content(self) -> str:
        """Return a hash of the workload, which does not depend on its names."""
        digest = hashlib.sha256(repr((self.choices, self.is_recording)).encode())
        for each in _HASHED:
            array = getattr(self, each)
            if array is not None:
                digest.update(f"{each}{array.shape}".encode() + array.tobytes())
        return digest.hexdigest()[:16]

    def most(self, per_stage: IntArray, num_jobs: int) -> int:
        """Return the largest sum over all stages of an episode with `num_jobs` jobs.

        Args:
            per_stage: (M,) what is summed.
            num_jobs: At least 1.
        """
        per_job = np.add.reduceat(per_stage, self.stage_offset[:-1])
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


_HASHED = (
    *("stage_offset", "num_tasks", "rough_ms", "parent_offset", "parents", "child_offset"),
    *("children", "list_start", "list_length", "durations_ms", "arrival_ms"),
)  # in the order of the first release, so that hashes in tables and policies stay as they are


def mean_ms(durations: "Waves | ArrayLike") -> float:
    """Return the mean of all durations of a stage, over all waves and levels."""
    lists = (
        [each for wave in durations for each in wave.values()]
        if isinstance(durations, Waves)
        else [durations]
    )
    together = np.concatenate([np.asarray(each, np.float64) for each in lists])
    return float(together.mean()) if together.size else math.nan


def _lists(durations: "Waves | ArrayLike") -> list[ArrayLike]:
    """Return the durations of a stage for each wave and level of `LEVELS`."""
    if not isinstance(durations, Waves):
        return [durations] * (len(Waves._fields) * len(LEVELS))
    highest = max(durations.fresh)
    return [wave.get(level, wave[highest]) for wave in durations for level in LEVELS]


# Rules -------------------------------------------------------------------------------------------


def _check_choices(load: Workload) -> None:
    templates = load.num_templates
    if templates < 1 or math.prod(load.choices) != templates or min(load.choices, default=0) < 1:
        raise InputError(
            f"choices of workload {load.name} must be numbers above 0 whose product is that of its "
            f"templates, at least 1, got {load.choices} for {templates}"
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


def _check_durations(load: Workload) -> None:
    """Check that no wave is without durations, and all are positive."""
    begin, length = load.list_start, load.list_length
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
    gaps_ms = np.diff(load.arrival_ms)
    if load.arrival_ms[0] != 0 or not (gaps_ms >= 0).all() or load.arrival_ms[-1] > MOST_MS:
        raise InputError(
            f"arrival_ms of recording {load.name} must begin at 0, not fall, and end by "
            f"{MOST_MS:g}, got others"
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


def _offsets(counts: ArrayLike) -> IntArray:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(counts, dtype=np.int64)])


def _frozen(array: NDArray[Any]) -> NDArray[Any]:
    array.flags.writeable = False
    return array
