"""Small workloads that no file holds."""

import numpy as np

from netllm_gym.data.cjs.workload import JobTemplate, Waves, Workload


def made_workload(seed, num_jobs=6, most_stages=4, most_tasks=5):
    """Return jobs with random graphs; whole seconds, so that many events come at one time."""
    rng = np.random.default_rng(seed)

    def listed(least):
        return (1000 * rng.integers(1, 6, rng.integers(least, 4))).tolist()

    jobs = []
    for number in range(num_jobs):
        stages = int(rng.integers(1, most_stages + 1))
        edges = [
            (parent, child)
            for parent in range(stages)
            for child in range(parent + 1, stages)
            if rng.random() < 0.4
        ]
        durations = [
            Waves(*({level: listed(least) for level in (5, 10)} for least in (0, 1, 0)))
            for _ in range(stages)
        ]
        tasks = rng.integers(1, most_tasks + 1, stages).tolist()
        jobs.append(JobTemplate(f"job {number}", tasks, edges, durations))
    return Workload.of_jobs("made", jobs)


def recorded(*jobs):
    """Return a recording of jobs (arrival in s, [durations of each stage's tasks in s], edges)."""
    templates = [
        JobTemplate(
            f"job {number}",
            [len(tasks_s) for tasks_s in stages_s],
            edges,
            [[1000.0 * task_s for task_s in tasks_s] for tasks_s in stages_s],
        )
        for number, (_, stages_s, edges) in enumerate(jobs)
    ]
    return Workload.of_jobs("recorded", templates, arrival_ms=[1000.0 * job[0] for job in jobs])
