"""Plain clusters: the slow obvious simulator of `shared/bench/plain_cjs.py`, seen as a view."""

import gzip
import importlib.util
import json
import os
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest

from netllm_gym.envs.cjs.observation import ClusterView

SHARED = Path(os.environ.get("NETLLM_GYM_DATA", "")).parent
needs_plain = pytest.mark.skipif(
    not (SHARED / "bench/plain_cjs.py").is_file() or "NETLLM_GYM_DATA" not in os.environ,
    reason="NETLLM_GYM_DATA must name a folder beside bench/plain_cjs.py",
)


@lru_cache(maxsize=1)
def plain():
    spec = importlib.util.spec_from_file_location("plain_cjs", SHARED / "bench/plain_cjs.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def view_of(sims):
    """Return what the schedulers of plain simulators see, one row each; None is a finished row."""
    rows = [_row_of(sim) for sim in sims]
    return ClusterView.concatenate(rows)


def _row_of(sim):
    jobs = [] if sim is None else sim.active
    stages = [(j, stage) for j, job in enumerate(jobs) for stage in job.active]
    place = {stage.key: i for i, (_, stage) in enumerate(stages)}
    offered = set() if sim is None else {stage.key for stage in sim.schedulable()}
    edges = [
        (place["S", job.id, a], place["S", job.id, b])
        for job in jobs
        for a, b in sorted(job.edges)
        if ("S", job.id, a) in place and ("S", job.id, b) in place
    ]
    source = None if sim is None else sim.pj(sim.src)

    def ints(values):
        return np.array(values, np.int32)

    return ClusterView(
        clock_ms=np.array([0.0 if sim is None else sim.now]),
        committable=ints([0 if sim is None else sim.C()]),
        source_job=ints([jobs.index(source) if source in jobs else -1]),
        num_executors=ints([1 if sim is None else sim.E]),
        num_stages=ints([len(stages)]),
        num_jobs=ints([len(jobs)]),
        num_edges=ints([len(edges)]),
        remaining=ints([stage.rem for _, stage in stages]),
        demand=ints([stage.rem - stage.moving - stage.cto for _, stage in stages]),
        duration_ms=np.array([stage.mrd for _, stage in stages], np.float32),
        schedulable=np.array([stage.key in offered for _, stage in stages], np.bool_),
        stage_id=ints([stage.s for _, stage in stages]),
        stage_job=ints([j for j, _ in stages]),
        num_tasks=ints([stage.N for _, stage in stages]),
        job_id=ints([job.id for job in jobs]),
        supply=ints([job.sup for job in jobs]),
        arrival_ms=np.array([job.t for job in jobs], np.float64),
        work_ms=np.array(
            [sum(stage.N * stage.data.rough for stage in job.stages) for job in jobs], np.float32
        ),
        edges=ints(edges).reshape(-1, 2),
    )


def plain_action(sim, action):
    """Return a row's action as the plain simulator wants it: place among the offers, executors."""
    stage, executors = (int(part) for part in action)
    if stage < 0:
        return -1, sim.C()
    stages = [stage for job in sim.active for stage in job.active]
    offered = [offer.key for offer in sim.schedulable()]
    return offered.index(stages[stage].key), max(1, min(executors + 1, sim.C()))


def golden(name):
    """Return a golden run."""
    path = SHARED / "golden/cjs" / f"{name}.json.gz"
    return json.loads(gzip.decompress(path.read_bytes()))


def replay(run):
    """Return a plain simulator that plays the tasks of a golden run."""
    columns = run["tasks"]["columns"]
    rows = [dict(zip(columns, row, strict=True)) for row in run["tasks"]["rows"]]
    duration_ms = {(row["job_id"], row["stage_id"], row["k"]): row["duration_ms"] for row in rows}
    arrivals = [(row[3], row[1], row[2]) for row in run["arrivals"]["rows"]]  # time, query, size
    return plain().Sim(
        arrivals,
        run["env"]["num_executors"],
        lambda sim, executor, stage: duration_ms[stage.j.id, stage.s, stage.k],
    )
