"""Recorded runs as recordings: the durations of all tasks, to be played again."""

import gzip
import json
from functools import lru_cache

from netllm_gym.data.cjs.workload import JobTemplate, Workload


@lru_cache(maxsize=1)  # a test that needs both the run and its recording parses the file once
def read_golden(path):
    """Return a golden run of the reference, `shared/golden/cjs/*.json.gz`."""
    with gzip.open(path) as file:
        return json.load(file)


def recording_of_golden(path):
    """Return the workload that plays a golden run again."""
    run = read_golden(path)
    jobs = [
        (arrival_ms, tasks, edges, rough_ms)
        for (_, _, _, arrival_ms, tasks, edges), rough_ms in zip(
            run["arrivals"]["rows"], run["arrivals"]["rough_duration"], strict=True
        )
    ]
    columns = [
        run["tasks"]["columns"].index(name) for name in ("job_id", "stage_id", "k", "duration_ms")
    ]
    return recording_of(jobs, [[row[column] for column in columns] for row in run["tasks"]["rows"]])


def recording_of_made(case):
    """Return the workload that plays a case of `made_workloads.json` again."""
    jobs = [
        (job["arrival_ms"], job["tasks"], job["edges"], job["rough_ms"]) for job in case["jobs"]
    ]
    return recording_of(jobs, case["durations"])


def recording_of(jobs, durations):
    """Return a recording of (arrival, tasks, edges, rough) and (job, stage, k, duration) rows."""
    listed = [[[None] * count for count in tasks] for _, tasks, _, _ in jobs]
    for job, stage, k, duration_ms in durations:
        assert listed[job][stage][k] is None
        listed[job][stage][k] = duration_ms
    templates = [
        JobTemplate(f"job {job}", tasks, [tuple(edge) for edge in edges], listed[job], rough_ms)
        for job, (_, tasks, edges, rough_ms) in enumerate(jobs)
    ]
    return Workload.of_jobs("recorded", templates, arrival_ms=[job[0] for job in jobs])
