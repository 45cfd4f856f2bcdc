"""Generated jobs like those of TPC-H, so that everything runs without a download.

There are 154 templates: 22 queries, each at the 7 sizes 2 to 100 GB. A query is drawn once, with
its graph, its tables and how long its tasks take; the size then decides how many tasks read a table
and how long the other tasks are. Fitted to the measured durations, whose numbers are in brackets:

- Stages of a job: 2 to 18 in even steps with a lean to the small, mean 9.1 (2 to 18, mean 9.2).
- Graph: drawn from the one sink backwards. A new stage feeds one that has no parent yet or, with
  chance 0.45, one that has a single parent, which makes another source; 1 to 8 sources (1 to 8).
  With chance 0.04 it feeds a second stage. Parents have lower numbers.
- Tasks of a stage: a source reads a table with 5 to 6 tasks per GB (the first source of each query,
  others with chance 0.25) or 0.02 to 2, log-uniform, at least 2 (2 to 593). Another stage has
  Spark's 200 with chance 0.94, else 1 to 20; the sink has 1 with chance 0.6, 2 to 6 with chance
  0.3, else 200.
- Durations of later tasks (rest) when the job has 50 executors: log-normal over stages. A source
  has a median of 1.45 s, sigma 0.4, whatever the size; another stage 40 ms, sigma 0.9, at 2 GB,
  growing with the root of the size.
- Waves: first = 1.15 rest + 180 ms, fresh = first + 900 ms, where the additions are medians,
  log-normal over stages with sigma 0.6 (medians of the differences: 202 and 903 ms).
- Level: rest grows with the number of executors to a power uniform in 0 to 0.25, first to half of
  that power, fresh to a quarter (mean 0.28 over stages, less in those with much work).
- Within a list: log-normal, sigma 0.08 for fresh, 0.16 for first and, by stage, 0.1 to 0.6 for rest
  (medians 0.08, 0.16, 0.34); whole ms from 3 to 40,000 (3 to 39,608).
- Lengths of lists: at a level of e executors min(e, tasks) tasks are of the first wave, the
  others of the rest. Of a source's first wave a share of 0.3 to 1 is fresh, of another stage's,
  with chance 0.85, none. So lists are empty: fresh in most stages that read no table, rest where
  tasks are few, first where all are fresh; 0.50, 0.38, 0.05 of all lists (0.71, 0.37, 0.11). A list
  keeps at most 48.

The load is TPC-H's: a job has 1,175 tasks (1,155) and at least 625 executor-seconds of work (625),
tasks taken at the fastest of their waves and levels up to 50.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from netllm_gym.arrays import FloatArray, IntArray
from netllm_gym.data.cjs.workload import FIRST, FRESH, LEVELS, REST, JobTemplate, Waves, Workload

SIZES_GB = (2, 5, 10, 20, 50, 80, 100)
NUM_QUERIES = 22
MOST_LISTED = 48
LEAST_DURATION_MS, MOST_DURATION_MS = 3, 40_000
SOURCE_REST_MS, INNER_REST_MS, GROWTH = 1450, 40, 0.5
_SEED = 4  # its jobs have the mean work and the mean tasks of TPC-H's
_LEVELS = np.array(LEVELS)


class _Stage(NamedTuple):
    """What a stage is at every size; durations in ms."""

    tasks_per_gb: float  # 0: the number of tasks does not depend on the size
    num_tasks: int
    rest_ms: float  # of later tasks at 2 GB
    growth: float  # power of the size
    first_extra_ms: float
    fresh_extra_ms: float
    level_power: float
    rest_sigma: float
    fresh_share: float  # of the first wave


class _Query(NamedTuple):
    """What a query is at every size."""

    edges: list[tuple[int, int]]
    stages: list[_Stage]


@lru_cache(maxsize=1)  # nobody can write to a workload, so all may share it
def generate() -> Workload:
    """Generate the workload; with one numpy it is always the same."""
    jobs = []
    for number in range(NUM_QUERIES):
        rng = np.random.default_rng([_SEED, number])
        # Even steps instead of draws: 22 draws would leave the mean to luck.
        query = _query(rng, round(2 + 16 * (number / (NUM_QUERIES - 1)) ** 1.25))
        jobs += [_job(rng, f"s{number + 1}-{size_gb}g", query, size_gb) for size_gb in SIZES_GB]
    return Workload.of_jobs("synthetic", jobs, (NUM_QUERIES, len(SIZES_GB)))


def _query(rng: np.random.Generator, num_stages: int) -> _Query:
    edges = _graph(rng, num_stages)
    inner = {child for _, child in edges}
    largest = min(set(range(num_stages)) - inner)  # the source that reads the largest table
    stages = [
        _inner_stage(rng, stage == num_stages - 1)
        if stage in inner
        else _source(rng, stage == largest)
        for stage in range(num_stages)
    ]
    return _Query(edges, stages)


def _graph(rng: np.random.Generator, num_stages: int) -> list[tuple[int, int]]:
    """Draw (parent, child) with one sink, the last stage."""
    edges: list[tuple[int, int]] = []
    parents = [0] * num_stages
    for stage in range(num_stages - 2, -1, -1):
        later = range(stage + 1, num_stages)
        bare = [each for each in later if parents[each] == 0]
        single = [each for each in later if parents[each] == 1]
        branches = single and len(bare) < 8 and rng.random() < 0.45
        children = [int(rng.choice(single if branches else bare))]
        others = [each for each in later if each not in children and 1 <= parents[each] < 3]
        if others and rng.random() < 0.04:
            children.append(int(rng.choice(others)))
        for child in children:
            edges.append((stage, child))
            parents[child] += 1
    return sorted(edges)


def _source(rng: np.random.Generator, reads_largest: bool) -> _Stage:
    """Draw a stage that reads a table."""
    low, high = (5.0, 6.0) if reads_largest or rng.random() < 0.25 else (0.02, 2.0)
    tasks_per_gb = float(np.exp(rng.uniform(np.log(low), np.log(high))))
    return _stage(rng, tasks_per_gb, 2, SOURCE_REST_MS * rng.lognormal(0, 0.4), 0.0, 1.0)


def _inner_stage(rng: np.random.Generator, is_sink: bool) -> _Stage:
    """Draw a stage that reads what other stages wrote."""
    kind = rng.random()
    if is_sink:
        num_tasks = 1 if kind < 0.6 else int(rng.integers(2, 7)) if kind < 0.9 else 200
    else:
        num_tasks = 200 if kind < 0.94 else int(rng.integers(1, 21))
    return _stage(rng, 0.0, num_tasks, INNER_REST_MS * rng.lognormal(0, 0.9), GROWTH, 0.15)


def _stage(
    rng: np.random.Generator,
    tasks_per_gb: float,
    num_tasks: int,
    rest_ms: float,
    growth: float,
    fresh_chance: float,
) -> _Stage:
    """Draw what all stages have."""
    return _Stage(
        tasks_per_gb=tasks_per_gb,
        num_tasks=num_tasks,
        rest_ms=rest_ms,
        growth=growth,
        first_extra_ms=180 * rng.lognormal(0, 0.6),
        fresh_extra_ms=900 * rng.lognormal(0, 0.6),
        level_power=rng.uniform(0.0, 0.25),
        rest_sigma=rng.uniform(0.1, 0.6),
        fresh_share=rng.uniform(0.3, 1.0) if rng.random() < fresh_chance else 0.0,
    )


def _job(rng: np.random.Generator, name: str, query: _Query, size_gb: int) -> JobTemplate:
    """Draw the durations of a query at one size."""
    num_tasks = [
        max(stage.num_tasks, round(stage.tasks_per_gb * size_gb)) for stage in query.stages
    ]
    durations, rough_ms = [], []
    for stage, tasks in zip(query.stages, num_tasks, strict=True):
        drawn_ms = _drawn(rng, stage, size_gb)
        in_first = np.minimum(_LEVELS, tasks)
        fresh = np.rint(stage.fresh_share * in_first).astype(np.int64)
        counts = np.stack([fresh, in_first - fresh, tasks - in_first])  # (3, 8)
        # As in TPC-H the mean over all tasks that ran, which the short lists would not give.
        rough_ms.append(float(np.average(drawn_ms.mean(axis=2), weights=counts)))
        durations.append(
            Waves(*(_by_level(drawn_ms[wave], counts[wave]) for wave in (FRESH, FIRST, REST)))
        )
    return JobTemplate(name, num_tasks, query.edges, durations, rough_ms)


def _drawn(rng: np.random.Generator, stage: _Stage, size_gb: int) -> FloatArray:
    """Draw durations in ms, (3, 8, MOST_LISTED) by wave and level."""
    rest_ms = stage.rest_ms * (size_gb / SIZES_GB[0]) ** stage.growth
    first_ms = 1.15 * rest_ms + stage.first_extra_ms
    medians_ms = np.array([first_ms + stage.fresh_extra_ms, first_ms, rest_ms])
    powers = stage.level_power * np.array([0.25, 0.5, 1.0])
    sigmas = np.array([0.08, 0.16, stage.rest_sigma])
    by_level_ms = medians_ms[:, None] * (_LEVELS / 50) ** powers[:, None]  # (3, 8)
    noise = np.exp(sigmas[:, None, None] * rng.standard_normal((3, len(LEVELS), MOST_LISTED)))
    drawn_ms = np.rint(by_level_ms[:, :, None] * noise)
    return np.asarray(np.clip(drawn_ms, LEAST_DURATION_MS, MOST_DURATION_MS), np.float64)


def _by_level(drawn_ms: FloatArray, counts: IntArray) -> dict[int, FloatArray]:
    return {
        level: row[: min(count, MOST_LISTED)]
        for level, row, count in zip(LEVELS, drawn_ms, counts, strict=True)
    }
