"""`NetLLM-CJS-v0`: the scalar environment of CJS. The dynamics are in `simulator.py`."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Unpack

from netllm_gym.arrays import BoolArray, IntArray
from netllm_gym.data.cjs.workload import Workload
from netllm_gym.envs.cjs.batch import ClusterArguments, ClusterBatch, WorkloadLike
from netllm_gym.envs.cjs.playback import Playback
from netllm_gym.envs.cjs.rendering import Painter, cluster_text
from netllm_gym.envs.rows import RowEnv

Observation = dict[str, NDArray[Any]]


class CJSEnv(RowEnv[Observation, IntArray]):
    """Choose which stage of which job gets how many executors of a cluster.

    ## Description
    Jobs arrive at a cluster like Spark's. A job is a graph of stages; a stage may begin when its
    parents are complete, and its tasks are all alike. An executor runs one task at a time. Whenever
    executors are free, or work at a stage whose tasks have all begun, the scheduler commits them to
    stages, one decision after the other. Executors that it does not commit become or stay idle. An
    executor that changes its job needs 2 s to move, and its first task takes longer. The dynamics
    are those of the simulator that NetLLM (SIGCOMM 2024) uses, an early version of spark-sched-sim
    after Decima (SIGCOMM 2019), to the bit where durations are replayed.

    Some of its properties are unusual. They are kept, because published results depend on them:

    - Between two executor levels with known durations, the durations of the level that is further
      away are drawn more often. `ClusterConfig(interpolation="linear")` prefers the nearer level.
    - Idle executors of the common pool are offered again only when a job arrives.
      `ClusterConfig(reoffer_idle=True)` offers them after every completion of a task.
    - Executors that went back to the common pool still count as the supply of their last job.
      `ClusterConfig(supply_forgets_idle=True)` takes them off.
    - An executor whose stage has no task left turns to the last schedulable stage.
      `ClusterConfig(backup="first")` takes the first.
    - An executor leaves a job that still has tasks to begin only by a commitment to another job; a
      round of decisions can open at a source that an earlier event left behind; an executor that
      waits in its job's pool after it found no other stage does not warm up again.

    Corrected: durations and policies do not share random numbers; the makespan is the time of the
    last completion; an episode in which all executors stay idle for ever ends.

    ## Action Space
    `MultiDiscrete([max_stages + 1, num_executors])`. The first number is the place of a stage in
    the observation, or `max_stages` for "no stage", which leaves the remaining executors where they
    are or sends them to the common pool. The second is the largest number of executors, less one;
    executors that cannot be committed or used are not taken. A stage that is not schedulable counts
    as "no stage" and sets `info["invalid_action"]`; with `strict_actions=True` it raises an error
    that names the legal stages. `action_masks()` returns the masks of both parts in one array, as
    `MaskablePPO` of sb3-contrib expects them. It allows "no stage" only where another decision
    follows, so that an episode whose actions keep to the masks is never truncated.

    ## Observation Space
    A `Dict` of `Box`es whose sizes do not depend on the number of jobs. It shows the unfinished
    stages of jobs that have arrived, jobs in order of arrival; -1 marks empty places. Jobs that do
    not fit are hidden, the newest first, and counted in `info["hidden_stages"]`.

    | part | shape | what |
    | --- | --- | --- |
    | stages | (max_stages, 3) float32 | tasks not begun; executors it can still use; seconds that its last task took |
    | stage_job | (max_stages,) int32 | position of the stage's job |
    | edges | (max_edges, 2) int32 | parent and child: places of stages |
    | job_executors | (max_jobs,) int32 | executors that the job has or has been promised |
    | committable | (1,) int32 | executors to be committed now |
    | source_job | (1,) int32 | job that they belong to |
    | stage_mask | (max_stages,) int32 | 1 where a stage is schedulable |
    | executor_mask | (num_executors,) int32 | 1 up to the number that can be committed |

    ## Rewards
    Minus the job-seconds spent in the system since the last decision. The sum over an episode is
    minus the sum of the job completion times in seconds. The last decision of a truncated episode
    costs so much that the sum is that of all jobs completing at a time by which every schedule has
    completed them: all tasks one after the other, with the longest durations that are listed. No
    schedule of the same arrivals has a smaller return. A time limit (`max_episode_steps`) truncates
    without such a cost.

    ## Starting State
    All executors are idle in the common pool, and the first job has just arrived. `reset(seed=s)`
    draws jobs and arrivals from s, as NetLLM does; `reset(options={"arrival_seed": a})` chooses
    them independently of the seed. Durations are keyed by `duration_seed`, the arrival seed, the
    job, the stage and the number of the stage's tasks that began before, so all policies face the
    same durations.

    ## Episode End
    The episode terminates when all jobs are complete. It is truncated when nothing will ever happen
    again (a deadlock), which only answers of "no stage" can bring about; `info["deadlock"]` is
    then 1.

    ## Information
    Floats: `clock_s`, `jobs_in_system`, `hidden_stages`, `invalid_action`. Known at the end: `jct_s`
    (mean job completion time; inf if a job is unfinished, and before the end), `jct_p95_s` and
    `makespan_s` (last completion) likewise, the array `jct_list_s` likewise, `utilisation` (share
    of executor time in which tasks ran; 0 before the end), `deadlock`.

    ## Arguments
    - `workload`: `"synthetic"` (generated, the default), `"tpch"`, a file or folder
      (`docs/formats.md`) or a `Workload`.
    - `num_executors`: of the cluster. Default: 50.
    - `num_jobs`: of an episode. Default: 200, or all of a recording, which has no more.
    - `mean_gap_s`: mean time between two arrivals. Default: 25 s.
    - `cluster`: delays and the switches above. Default: `ClusterConfig()`.
    - `duration_seed`: of the durations. Default: 0.
    - `max_stages`, `max_jobs`, `max_edges`: sizes of the observation. Default: 1024, 256, and twice
      `max_stages`.
    - `strict_actions`: raise an error for a stage that the masks do not allow. Default: False.
    - `render_mode`: `"ansi"` renders the cluster as it is now as a few lines of text, `"rgb_array"`
      the last ten minutes as a (480, 800, 3) uint8 picture (needs matplotlib, in the extra
      `report`): jobs in the system, arrivals and completions, and which executor ran tasks of which
      job. There is one frame per decision, and many decisions are made at the same time.

    ## Version History
    - v0: first release.

    Raises:
        InputError: If an argument breaks a rule; the message names it and the value.
    """  # noqa: E501  # a row of a table cannot be broken

    # A frame is a decision, and many decisions are made at the same time.
    metadata = {"render_modes": ["ansi", "rgb_array"], "render_fps": 10}  # noqa: RUF012
    batch: ClusterBatch

    def __init__(
        self,
        workload: WorkloadLike = "synthetic",
        *,
        render_mode: str | None = None,
        **arguments: Unpack[ClusterArguments],
    ) -> None:
        super().__init__(ClusterBatch(1, workload, padded=True, **arguments), render_mode)
        self.batch.notes_tasks = render_mode == "rgb_array"
        self._painter: Painter | None = None

    @property
    def workload(self) -> Workload:
        """What jobs are drawn from."""
        return self.batch.workload

    def action_masks(self) -> BoolArray:
        """Return (max_stages + 1 + num_executors,) what each part of an action may be."""
        return np.asarray(self.batch.action_masks()[0])

    def render_text(self) -> str:
        """Return the cluster as it is now as a few lines of text."""
        return cluster_text(self.batch)

    def render_frame(self) -> NDArray[np.uint8]:
        """Return (480, 800, 3) uint8 pixels of the last ten minutes."""
        self._painter = self._painter or Painter()
        return self._painter.paint(Playback.of(self.batch), self.workload.name)
