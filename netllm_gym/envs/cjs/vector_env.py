"""`gym.make_vec("NetLLM-CJS-v0", num_envs=N)`: N clusters in one call, equal to N scalar ones."""

import copy
import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode
from numpy.typing import ArrayLike, NDArray
from typing_extensions import Unpack

from netllm_gym.arrays import BoolArray, FloatArray, IntArray
from netllm_gym.data.cjs.named import VALID
from netllm_gym.data.cjs.workload import Workload
from netllm_gym.envs.cjs.batch import DEFAULT_GAP_S, ClusterArguments, ClusterBatch, WorkloadLike
from netllm_gym.envs.cjs.observation import ClusterView
from netllm_gym.envs.plan import PlannedEpisode
from netllm_gym.envs.rows import RowVectorEnv
from netllm_gym.errors import InputError

# Arrival seeds for training, validation and tests, which do not overlap.
FIRST_TRAINING_SEED = 10_000
VALIDATION_SEEDS = range(1_000, FIRST_TRAINING_SEED)
# The first six are the reference's.
TEST_SEEDS = (666, *(seed for seed in range(1, VALIDATION_SEEDS.start) if seed != 666))
DEFAULT_TEST_SEEDS, DEFAULT_VALIDATION_SEEDS = 6, 10


class CJSVectorEnv(RowVectorEnv):
    """Choose which stages of which jobs get how many executors, in N independent clusters.

    ## Description
    N independent `CJSEnv` in one call of the simulator. Row i of `reset(seed=s)` plays the episodes
    of `CJSEnv.reset(seed=s + i)`, bit for bit, whatever the other rows do.

    ## Action Space
    (N, 2) whole numbers: in each row the action of `CJSEnv`, a stage and the largest number of
    executors, less one. With `padded=False` the stage is its place in the `ClusterView`, or -1 for
    no stage.

    ## Observation Space
    A `Dict` of `Box`es: the observations of N `CJSEnv`, stacked. With `padded=False` observations
    are a `ClusterView` instead, which hides nothing; the package's own policies use it.

    ## Rewards
    (N,) float64, minus the job-seconds spent in each row's system since its last decision; 0 in
    rows that take no step.

    ## Starting State
    As in `CJSEnv`. `reset` takes one seed, or a sequence of N seeds, and
    `options={"arrival_seed": (N,), "reset_mask": (N,) bool}`; with a mask only these rows begin an
    episode.

    ## Episode End
    As in `CJSEnv`, in each row. `autoreset_mode` says what happens then, see `RowVectorEnv`.

    ## Arguments
    - `num_envs`: N.
    - `padded`: False for observations that are a `ClusterView`. Default: True.
    - `autoreset_mode`: `NEXT_STEP` (default), `SAME_STEP` or `DISABLED`.
    - `max_episode_steps`: steps after which an episode is truncated. Default: None.
    - `render_mode`: only None. To render, make scalar environments with
      `gym.make_vec(..., vectorization_mode="sync", render_mode="rgb_array")`.
    - All others: as in `CJSEnv`, the same for all rows.

    ## Version History
    - v0: first release.
    """

    batch: ClusterBatch

    def __init__(
        self,
        num_envs: int = 1,
        workload: WorkloadLike = "synthetic",
        *,
        padded: bool = True,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        render_mode: str | None = None,
        max_episode_steps: int | None = None,
        **arguments: Unpack[ClusterArguments],
    ) -> None:
        self.padded = padded
        batch = ClusterBatch(num_envs, workload, padded=padded, **arguments)
        super().__init__(batch, autoreset_mode, render_mode, max_episode_steps)

    @property
    def workload(self) -> Workload:
        """What jobs are drawn from."""
        return self.batch.workload

    @property
    def loaded(self) -> dict[str, Any]:
        """Arguments that make another environment of the same data without reading it again."""
        return {"workload": self.workload}

    @property
    def remarks(self) -> tuple[str, ...]:
        """Sentences on what was left out or assumed when the workload was read."""
        return self.workload.remarks

    @property
    def num_executors(self) -> int:
        """Number of executors of each cluster."""
        return self.batch.num_executors

    @property
    def num_jobs(self) -> int:
        """Number of jobs of each episode."""
        return self.batch.num_jobs

    def public_env(self) -> "CJSVectorEnv":
        """Return this environment as policies are built for that use the padded observation.

        It has the same clusters and `action_masks`. It is not meant to be stepped where this
        environment has `padded=False`.
        """
        self.batch.size.check_holds(self.workload)
        public = copy.copy(self)
        public.padded = True
        return self if self.padded else public

    def public_observations(
        self, view: ClusterView
    ) -> tuple[dict[str, NDArray[Any]], dict[str, FloatArray]]:
        """Return the padded observations of a view, and the info columns that come with them."""
        padded = self.batch.padded_view(view)
        return padded.observation, {"hidden_stages": padded.hidden_stages.astype(np.float64)}

    def native_actions(self, actions: ArrayLike) -> IntArray:
        """Return (N, 2) actions for `padded=False` that decide what (N, 2) padded ones do.

        A stage that is not schedulable becomes -1, "no stage", which is what it counts as.
        """
        return self.batch.native_actions(actions, illegal=-1)

    def action_masks(self) -> BoolArray:
        """Return (N, max_stages + 1 + num_executors) what each part of an action may be."""
        if not self.padded:
            raise InputError("padded must be True where masks are asked for, got False")
        return self.batch.action_masks()

    def case(self, row: int) -> dict[str, str | int]:
        """Describe the episode that a row plays."""
        arrivals = self._arrivals(int(self.batch.arrival_seeds[row]))
        return {
            "arrivals": arrivals,
            "content": arrivals,
            "workload": self.workload.name,
            "num_executors": self.num_executors,
            "num_jobs": self.num_jobs,
        }

    def evaluation_plan(self, at_least: int = 1) -> list[PlannedEpisode]:
        """Return the episodes of an evaluation: one per arrival seed, common to all policies.

        Args:
            at_least: Episodes; a recording has one.

        Raises:
            InputError: If there are not so many arrival seeds that nothing is trained on.
        """
        if self.workload.is_recording:
            return self._plan([0])
        seeds: Sequence[int] = TEST_SEEDS
        count = max(at_least, DEFAULT_TEST_SEEDS)
        if self.workload.name.endswith(VALID):
            seeds, count = VALIDATION_SEEDS, max(at_least, DEFAULT_VALIDATION_SEEDS)
        if count > len(seeds):
            raise InputError(
                f"episodes must be at most {len(seeds)}, the arrival seeds of {self.workload.name} "
                f"that nothing else is played with, got {count}"
            )
        return self._plan(seeds[:count])

    def training_plan(self, seeds: Sequence[int]) -> list[PlannedEpisode]:
        """Return training episodes, whose arrivals no evaluation plays."""
        return [
            PlannedEpisode(seed, {"arrival_seed": FIRST_TRAINING_SEED + seed}) for seed in seeds
        ]

    def provenance(self, plan: Sequence[PlannedEpisode]) -> dict[str, Any]:
        """Describe where planned episodes come from, as JSON: their arrivals."""
        arrivals = sorted(
            {self._arrivals(int(planned.options["arrival_seed"])) for planned in plan}
        )
        digest = hashlib.sha256("".join([self.workload.content, *arrivals]).encode())
        return {
            "workload": self.workload.name,
            "recordings": arrivals,
            "sha256": digest.hexdigest(),
        }

    def _plan(self, arrival_seeds: Sequence[int]) -> list[PlannedEpisode]:
        return [
            PlannedEpisode(number, {"arrival_seed": seed})
            for number, seed in enumerate(arrival_seeds)
        ]

    def _arrivals(self, seed: int) -> str:
        """Name the arrivals of a seed; the same templates under another name are the same."""
        content = self.workload.content[:12]
        if self.workload.is_recording:
            return f"{content}-0"
        gap_s = self.batch.mean_gap_s
        return f"{content}-{seed}" + (f"-{gap_s:g}s" if gap_s != DEFAULT_GAP_S else "")
