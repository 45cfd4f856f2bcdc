"""Made-up decisions of a cluster: jobs that arrive, whose stages shrink and vanish."""

import numpy as np

from netllm_gym.envs.cjs.observation import ClusterView
from netllm_gym.pools.episode import Episode


class _Job:
    def __init__(self, rng, number, now_ms, most_stages):
        self.number, self.arrival_ms = number, now_ms
        n = int(rng.integers(1, most_stages + 1))
        self.edges = [(i, j) for j in range(n) for i in range(j) if rng.random() < 1.5 / n]
        self.tasks = rng.integers(1, 60, n)
        self.remaining = self.tasks.copy()
        self.promised = np.zeros(n, np.int64)
        self.duration_ms = rng.uniform(50.0, 4000.0, n).astype(np.float32)
        self.work_ms = np.float32((self.tasks * self.duration_ms).sum())
        self.done = np.zeros(n, bool)
        self.supply = 0


def made_view(seed=0, num_steps=30, num_executors=20, num_jobs=6, most_stages=9):
    """Return the decisions of a made-up episode and a teacher's actions for them, (T, 2)."""
    rng = np.random.default_rng([seed, num_steps, num_jobs])
    jobs, rows, actions, now_ms = [], [], [], 0.0
    waiting = list(range(num_jobs))
    while len(rows) < num_steps:
        while waiting and (not jobs or rng.random() < 2.0 * num_jobs / num_steps):
            jobs.append(_Job(rng, waiting.pop(0), now_ms, most_stages))
        if not jobs:  # all done: more of them, so that there is something to decide
            jobs.append(_Job(rng, num_jobs + len(rows), now_ms, most_stages))
        row, action = _decide(rng, jobs, now_ms, num_executors)
        rows.append(row)
        actions.append(action)
        if rng.random() < 0.5:  # else another decision at the same moment
            now_ms += float(rng.exponential(500.0))
            _advance(rng, jobs)
            jobs = [job for job in jobs if not job.done.all()]
    return ClusterView.concatenate(rows), np.array(actions, np.int64)


def made_cluster_episode(seed=0, policy="fair", **shape):
    """Return a made-up episode; rewards are minus job-seconds, 0 where no time passed."""
    view, actions = made_view(seed, **shape)
    passed_s = np.diff(view.clock_ms, append=view.clock_ms[-1] + 1000.0) / 1000.0
    return Episode(
        observations=view,
        actions=actions,
        rewards=-passed_s * view.num_jobs,
        terminated=True,
        truncated=False,
        policy=policy,
        seed=seed,
        case={"arrival_seed": seed},
    )


def assert_equal_views(found, expected):
    """Compare all fields, bit for bit."""
    for name, values in vars(expected).items():
        if isinstance(values, np.ndarray) and not name.endswith(("_ptr", "_row")):
            np.testing.assert_array_equal(getattr(found, name), values, strict=True, err_msg=name)


def _decide(rng, jobs, now_ms, num_executors):
    """Return the view of one decision and a random teacher's answer."""
    stages, edges, num_edges = [], [], 0
    for place, job in enumerate(jobs):
        first = len(stages)
        active = np.flatnonzero(~job.done)
        at = {int(stage): first + i for i, stage in enumerate(active)}
        stages += [(place, job, int(stage)) for stage in active]
        edges += [(at[i], at[j]) for i, j in sorted(job.edges) if i in at and j in at]
    num_edges = len(edges)
    demand = np.array([job.remaining[s] - job.promised[s] for _, job, s in stages])
    can = (demand > 0) & (rng.random(len(stages)) < 0.5)
    committable = int(rng.integers(1, num_executors + 1))
    view = ClusterView(
        clock_ms=np.array([now_ms]),
        committable=np.array([committable], np.int32),
        source_job=rng.integers(-1, len(jobs), 1).astype(np.int32),
        num_executors=np.array([num_executors], np.int32),
        num_stages=np.array([len(stages)], np.int32),
        num_jobs=np.array([len(jobs)], np.int32),
        num_edges=np.array([num_edges], np.int32),
        remaining=np.array([job.remaining[s] for _, job, s in stages], np.int32),
        demand=demand.astype(np.int32),
        duration_ms=np.array([job.duration_ms[s] for _, job, s in stages], np.float32),
        schedulable=can,
        stage_id=np.array([s for _, _, s in stages], np.int32),
        stage_job=np.array([place for place, _, _ in stages], np.int32),
        num_tasks=np.array([job.tasks[s] for _, job, s in stages], np.int32),
        job_id=np.array([job.number for job in jobs], np.int32),
        supply=np.array([job.supply for job in jobs], np.int32),
        arrival_ms=np.array([job.arrival_ms for job in jobs]),
        work_ms=np.array([job.work_ms for job in jobs], np.float32),
        edges=np.array(edges, np.int32).reshape(-1, 2),
    )
    chosen, executors = -1, 0
    if can.any() and rng.random() < 0.9:
        chosen = int(rng.choice(np.flatnonzero(can)))
        executors = int(rng.integers(0, num_executors))
        _, job, stage = stages[chosen]
        given = min(executors + 1, committable, int(demand[chosen]))
        job.promised[stage] += given
        job.supply += given
    return view, (chosen, executors)


def _advance(rng, jobs):
    for job in jobs:
        for stage in np.flatnonzero(~job.done):
            if any(not job.done[i] for i, j in job.edges if j == stage):
                continue
            begun = min(int(job.promised[stage]) + int(rng.integers(0, 3)), job.remaining[stage])
            if begun and rng.random() < 0.6:
                job.remaining[stage] -= begun
                job.promised[stage] = int(rng.integers(-1, 2)) * (job.remaining[stage] > 0)
                job.duration_ms[stage] = np.float32(rng.integers(20, 9000))
            elif job.remaining[stage] == 0 and rng.random() < 0.5:
                job.done[stage] = True
        job.supply = max(0, job.supply - int(rng.integers(0, 3)))
