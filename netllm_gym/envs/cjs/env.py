"""`NetLLM-CJS-v0`: the scalar face of the cluster simulator. No dynamics here."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from netllm_gym.arrays import BoolArray, IntArray
from netllm_gym.data.cjs.workload import Workload
from netllm_gym.envs.cjs.batch import ClusterBatch
from netllm_gym.envs.cjs.cluster import ClusterConfig
from netllm_gym.envs.cjs.padding import PaddedSize, observation_space
from netllm_gym.envs.cjs.playback import Playback
from netllm_gym.envs.cjs.public import PublicFace
from netllm_gym.envs.cjs.rendering import Painter, Snapshot, cluster_text
from netllm_gym.envs.drawing import check_can_draw
from netllm_gym.envs.rows import Outcome, row_of, scalar_info
from netllm_gym.errors import InputError

Observation = dict[str, NDArray[Any]]


class CJSEnv(gym.Env[Observation, IntArray]):
    """Choose which stage of which job gets how many executors of a cluster.

    ## Description
    Jobs arrive at a Spark-like cluster. A job is a graph of stages, and a stage, which may begin
    when its parents are complete, has tasks alike; an executor does one task at a time. Whenever
    executors are free, or are working at a stage whose tasks have all begun, the scheduler
    commits them to stages, one decision after the other; what it does not commit goes, or stays,
    idle. An executor that changes its job is away for 2 s, and its first task takes longer. The
    dynamics are those of the simulator that NetLLM (SIGCOMM 2024) uses, an early spark-sched-sim
    after Decima (SIGCOMM 2019), to the bit where durations are replayed.

    What looks odd there and is kept, because published numbers rest on it: between two known
    executor levels the duration of the further one is the likelier (`ClusterConfig.interpolation`);
    an executor can leave an unsaturated job only by a commitment to another job; idle executors of
    the common pool are offered again only when a job arrives (`ClusterConfig.reoffer_idle`);
    executors that went back to the common pool still count as their last job's supply
    (`ClusterConfig.supply_forgets_idle`); an executor whose stage has no task left turns to the
    last schedulable stage (`ClusterConfig.backup`); a round can open at a source that an earlier
    event left behind; an executor that waits in its job's pool after a failed backup does not warm
    up again. Mended: durations and policies do not share random numbers; makespan is the last
    completion; an episode in which everything stands idle for ever ends.

    ## Action Space
    `MultiDiscrete([max_stages + 1, num_executors])`: place of a stage in the observation, or the
    last index for "no stage", which leaves all executors that are left where they are or sends
    them to the common pool; and executors less one. Executors means at most: what cannot be
    committed or used is not taken. A stage that is not schedulable counts as "no stage" and sets
    `info["invalid_action"]`; with `strict_actions=True` it raises and names the legal ones.
    `action_masks()` returns both parts' masks in one row, as sb3-contrib's `MaskablePPO` reads.

    ## Observation Space
    A `Dict` of `Box`es whose sizes do not depend on the number of jobs. Unfinished stages of jobs
    that have arrived, jobs in order of arrival; -1 where there is nothing. Jobs that do not fit
    are left out, the newest first, and counted in `info["hidden_stages"]`.

    | part | shape | what |
    | --- | --- | --- |
    | stages | (max_stages, 3) float32 | tasks not begun, executors it can still use, seconds a task took last |
    | stage_job | (max_stages,) int32 | position of the stage's job |
    | edges | (max_edges, 2) int32 | parent, child: places of stages |
    | job_executors | (max_jobs,) int32 | executors that the job has or has been promised |
    | committable | (1,) int32 | executors to be committed now |
    | source_job | (1,) int32 | job that they belong to |
    | stage_mask | (max_stages,) int32 | 1 where a stage is schedulable |
    | executor_mask | (num_executors,) int32 | 1 up to what can be committed |

    ## Rewards
    Minus job-seconds spent in the system since the last decision. The sum over an episode is minus
    the sum of the job completion times.

    ## Starting State
    All executors idle in the common pool, the first job just arrived. `reset(seed=s)` draws jobs
    and arrivals from s, as NetLLM's does; `reset(options={"arrival_seed": a})` names them apart.
    Durations are keyed by `duration_seed`, arrival seed, job, stage and how many tasks of the stage
    began before, so all policies meet the same ones.

    ## Episode End
    Terminates when all jobs are complete. Truncates when nothing will ever happen again
    (`info["reason"]` says why), which only answers of "no stage" can bring about.

    ## Information
    Floats: `clock_s`, `jobs_in_system`, `hidden_stages`, `invalid_action`. At the end also
    `jct_s` (mean job completion time; inf if a job was left unfinished), `jct_p95_s`,
    `makespan_s` (last completion), `utilisation` (share of executor time in which tasks ran),
    `deadlock` and `jct_list_s`, an array.

    ## Arguments
    - `workload`: `"synthetic"` (generated, the default), `"tpch"`, a file or folder
      (`docs/formats.md`) or a `Workload`.
    - `num_executors`, `num_jobs` (200; a recording has no more than its own), `mean_gap_s` between arrivals.
    - `cluster`: delays and the switches above, `ClusterConfig(...)`.
    - `duration_seed`: of the durations.
    - `max_stages`, `max_jobs`, `max_edges`: size of the observation.
    - `strict_actions`: raise on a stage that is not schedulable.
    - `render_mode`: `"ansi"` gives the cluster now as a few lines of text, `"rgb_array"` the last
      ten minutes as a (480, 800, 3) uint8 picture (with matplotlib, of the extra `report`): jobs in
      the system, arrivals and completions, and which executor ran tasks of which job. One frame per
      decision, many of which stand at the same time.

    ## Version History
    - v0: first release.

    Raises:
        InputError: If an argument breaks a rule; the message names it and the value.
    """  # noqa: E501  # a table's row cannot be broken

    # Gymnasium reads a plain class attribute; a frame is a decision, and they come by the dozen.
    metadata = {"render_modes": ["ansi", "rgb_array"], "render_fps": 10}  # noqa: RUF012
    num_envs = 1

    def __init__(
        self,
        workload: str | Path | Workload = "synthetic",
        num_executors: int = 50,
        num_jobs: int | None = None,
        mean_gap_s: float = 25.0,
        cluster: ClusterConfig | None = None,
        duration_seed: int = 0,
        max_stages: int = 1024,
        max_jobs: int = 256,
        max_edges: int | None = None,
        strict_actions: bool = False,
        render_mode: str | None = None,
    ) -> None:
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise InputError(f"render_mode must be None, ansi or rgb_array, got {render_mode!r}")
        if render_mode == "rgb_array":
            check_can_draw()
        self.render_mode = render_mode
        self._painter: Painter | None = None
        self.batch = ClusterBatch(
            *(1, workload, num_executors, num_jobs, mean_gap_s, cluster, duration_seed)
        )
        self.batch.notes_tasks = render_mode == "rgb_array"
        self.face = PublicFace(
            self.batch, PaddedSize(max_stages, max_jobs, max_edges), strict_actions
        )
        self.observation_space: Any = observation_space(self.face.size, num_executors)
        self.action_space = self.face.action_space

    @property
    def workload(self) -> Workload:
        """What jobs are drawn from."""
        return self.batch.workload

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin an episode: by seed, by `options`, or the next of the last seed's chain."""
        super().reset(seed=seed)
        if options and "reset_mask" in options:
            raise InputError("options must be arrival_seed, got reset_mask")
        outcome = self.face.begin(np.ones(1, np.bool_), [seed], options, self.np_random)
        return row_of(outcome.observation, 0), self._info(outcome)

    def step(self, action: IntArray) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Commit executors to a stage, or none; time goes on when all are committed."""
        if self.batch.done[0]:
            raise InputError("step must follow reset, got a step after the episode's end")
        outcome = self.face.step(np.asarray(action)[None])
        return (
            row_of(outcome.observation, 0),
            float(outcome.reward[0]),
            bool(outcome.terminated[0]),
            bool(outcome.truncated[0]),
            self._info(outcome),
        )

    def action_masks(self) -> BoolArray:
        """Return (max_stages + 1 + num_executors,) what each part of an action may be now."""
        return np.asarray(self.face.action_masks()[0])

    def render(self) -> Any:
        """Return the cluster as `render_mode` says: text, or (480, 800, 3) uint8."""
        if self.render_mode is None:
            gym.logger.warn(
                "render gives nothing without a render_mode: "
                'gym.make("NetLLM-CJS-v0", render_mode="rgb_array")'
            )
            return None
        if not self.batch.has_begun(0):
            raise InputError("render must follow reset, got no episode to show")
        if self.render_mode == "ansi":
            return cluster_text(Snapshot.of(self.batch))
        self._painter = self._painter or Painter()
        return self._painter.paint(Playback.of(self.batch), self.workload.name)

    def _info(self, outcome: Outcome) -> dict[str, Any]:
        info = scalar_info(outcome)
        if outcome.truncated[0]:
            info["reason"] = "every executor idles and nothing is left to happen"
        return info
