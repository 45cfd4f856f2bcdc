"""An episode of two jobs and two executors, known second by second.

Job 0 has three tasks of 4, 2 and 1 s, then one of 1 s; job 1 arrives at 5 s and has one of 3 s.
Both executors are sent to job 0 and are there at 2 s. Executor 0 begins the task of 4 s, executor 1
those of 2 s and 1 s, and is free at 5 s: asked then, the scheduler promises one executor to job 1
and one to the last stage of job 0. Executor 1 leaves and is there at 7 s; executor 0 ends at 6 s
and goes on with job 0's last task until 7 s. Job 1 is complete at 10 s.
"""

from netllm_gym.data.cjs.workload import JobTemplate, Workload

MADE = Workload.of_jobs(
    "made",
    [
        JobTemplate("pair", [3, 1], [(0, 1)], [[4000.0, 2000.0, 1000.0], [1000.0]]),
        JobTemplate("lone", [1], [], [[3000.0]]),
    ],
    arrival_ms=[0.0, 5000.0],
)
# Stage in view and executors less one; the last two both at 5 s.
ACTIONS = ((0, 1), (2, 0), (1, 0))
