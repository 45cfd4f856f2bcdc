"""Views written down by hand."""

from typing import NamedTuple

import numpy as np

from netllm_gym.envs.cjs.observation import ClusterView


class MadeStage(NamedTuple):
    remaining: int
    duration_ms: float = 1000.0
    schedulable: bool = False


class MadeJob(NamedTuple):
    stages: list
    edges: list = ()
    supply: int = 0
    work_ms: float = 1.0


def made_row(jobs=(), committable=10, source=-1, num_executors=10):
    """Return a view of one row; `source` is the place of the source's job."""
    stages = [stage for job in jobs for stage in job.stages]
    begins = np.cumsum([0] + [len(job.stages) for job in jobs])
    edges = [(begins[j] + a, begins[j] + b) for j, job in enumerate(jobs) for a, b in job.edges]

    def ints(values):
        return np.array(values, np.int32)

    return ClusterView(
        clock_ms=np.zeros(1),
        committable=ints([committable]),
        source_job=ints([source]),
        num_executors=ints([num_executors]),
        num_stages=ints([len(stages)]),
        num_jobs=ints([len(jobs)]),
        num_edges=ints([len(edges)]),
        remaining=ints([stage.remaining for stage in stages]),
        demand=ints([stage.remaining for stage in stages]),
        duration_ms=np.array([stage.duration_ms for stage in stages], np.float32),
        schedulable=np.array([stage.schedulable for stage in stages], np.bool_),
        stage_id=ints([i for job in jobs for i in range(len(job.stages))]),
        stage_job=ints([j for j, job in enumerate(jobs) for _ in job.stages]),
        num_tasks=ints([stage.remaining for stage in stages]),
        job_id=ints(range(len(jobs))),
        supply=ints([job.supply for job in jobs]),
        arrival_ms=np.arange(len(jobs), dtype=np.float64),
        work_ms=np.array([job.work_ms for job in jobs], np.float32),
        edges=ints(edges).reshape(-1, 2),
    )


FINISHED = made_row(committable=0)


def scattered_rows(num_rows, seed=0, num_executors=10):
    """Return rows drawn at random, some finished, some with nothing to choose from."""
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(num_rows):
        jobs = []
        for _ in range(rng.integers(0, 5)):
            num_stages = int(rng.integers(1, 6))
            edges = [
                (a, b)
                for a in range(num_stages)
                for b in range(a + 1, num_stages)
                if rng.random() < 0.4
            ]
            stages = [
                MadeStage(int(rng.integers(0, 50)), rng.gamma(2.0, 500.0), rng.random() < 0.4)
                for _ in range(num_stages)
            ]
            supply = int(rng.integers(0, num_executors))
            jobs.append(MadeJob(stages, edges, supply, rng.gamma(1.0, 1e5)))
        source = int(rng.integers(-1, len(jobs)))
        committable = int(rng.integers(1, num_executors + 1)) if jobs else 0
        rows.append(made_row(jobs, committable, source, num_executors))
    return ClusterView.concatenate(rows)
