"""`gym.make_vec("NetLLM-CJS-v0", num_envs=N)`: N clusters a call, equal to N scalar envs."""

import copy
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from numpy.typing import ArrayLike, NDArray

from netllm_gym.arrays import BoolArray, FloatArray, IntArray
from netllm_gym.data.cjs.named import VALID
from netllm_gym.data.cjs.workload import Jobs, Workload
from netllm_gym.envs.cjs.batch import ClusterBatch
from netllm_gym.envs.cjs.cluster import ClusterConfig
from netllm_gym.envs.cjs.observation import ClusterView
from netllm_gym.envs.cjs.padding import PaddedSize, observation_space
from netllm_gym.envs.cjs.public import PublicFace
from netllm_gym.envs.plan import PlannedEpisode
from netllm_gym.envs.rows import Outcome, RowVectorEnv
from netllm_gym.errors import InputError

# Which arrival seeds are played for what, so that nothing is trained on what it is tested on.
FIRST_TRAINING_SEED = 10_000
VALIDATION_SEEDS = range(1_000, FIRST_TRAINING_SEED)
# The first six are the reference's.
TEST_SEEDS = (666, *(seed for seed in range(1, VALIDATION_SEEDS.start) if seed != 666))
DEFAULT_TEST_SEEDS, DEFAULT_VALIDATION_SEEDS = 6, 10


class CJSVectorEnv(RowVectorEnv):
    """N independent `CJSEnv` in one call; see `CJSEnv` for spaces, reward and arguments.

    Row i of `reset(seed=s)` plays the episodes of `CJSEnv.reset(seed=s + i)`, bit for bit, whatever
    the other rows do. `reset` takes `options={"arrival_seed": (N,), "reset_mask": (N,) bool}`; with
    a mask only those rows begin anew.

    Autoreset modes (`autoreset_mode`): `NEXT_STEP` resets a finished row in the next `step`,
    ignoring that action; `SAME_STEP` at once, with `final_obs` and `final_info` in the info;
    `DISABLED` leaves a finished row standing, reward 0, until `reset` names it.

    With `padded=False` observations are a `ClusterView`, which hides nothing, and an action's
    stage is its place there, -1 for none: what the package's own policies speak.
    """

    def __init__(
        self,
        num_envs: int = 1,
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
        padded: bool = True,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        render_mode: str | None = None,
    ) -> None:
        self._set_modes(num_envs, autoreset_mode, render_mode)
        self.clusters = ClusterBatch(
            *(num_envs, workload, num_executors, num_jobs, mean_gap_s, cluster, duration_seed)
        )
        self.face = PublicFace(
            self.clusters, PaddedSize(max_stages, max_jobs, max_edges), strict_actions
        )
        self.batch = self.face if padded else _Unpadded(self.clusters)
        self.single_observation_space = observation_space(self.face.size, num_executors)
        self.single_action_space = self.face.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

    @property
    def workload(self) -> Workload:
        """What jobs are drawn from."""
        return self.clusters.workload

    @property
    def loaded(self) -> dict[str, Any]:
        """Arguments that make another environment of the same worlds, without reading them."""
        return {"workload": self.workload}

    @property
    def num_executors(self) -> int:
        """Of each cluster."""
        return self.clusters.num_executors

    @property
    def num_jobs(self) -> int:
        """Of each episode."""
        return self.clusters.num_jobs

    @property
    def mean_gap_s(self) -> float:
        """Mean time between arrivals."""
        return self.clusters.mean_gap_s

    @property
    def cluster(self) -> ClusterConfig:
        """Delays and exchangeable rules."""
        return self.clusters.cluster

    def jobs(self, arrival_seed: int) -> Jobs:
        """Return the jobs of an episode."""
        return self.clusters.jobs(arrival_seed)

    def public_env(self) -> "CJSVectorEnv":
        """Return this environment with `padded=True`; both show the same clusters.

        Policies that speak Gymnasium are built for it, also where `padded` is False.
        """
        if self.batch is self.face:
            return self
        public = copy.copy(self)
        public.batch = self.face
        return public

    def public_observations(
        self, view: ClusterView
    ) -> tuple[dict[str, NDArray[Any]], dict[str, FloatArray]]:
        """Return the padded observations of a view, and the info columns that come with them."""
        padded = self.face.observe(view)
        return padded.observation, {"hidden_stages": padded.hidden_stages.astype(np.float64)}

    def native_actions(self, actions: ArrayLike) -> IntArray:
        """Return (N, 2) actions for `padded=False` that decide what (N, 2) padded ones do."""
        return self.face.native_actions(actions)

    def action_masks(self) -> BoolArray:
        """Return (N, max_stages + 1 + num_executors) what each part of an action may be now."""
        if self.batch is not self.face:
            raise InputError("padded must be True where masks are asked for, got False")
        return self.face.action_masks()

    def case(self, row: int) -> dict[str, str | int]:
        """Say what a row plays now."""
        arrivals = self._arrivals(int(self.clusters.arrival_seeds[row]))
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
        """Say which worlds the planned episodes are, as JSON."""
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
        return f"{self.workload.content[:12]}-{0 if self.workload.is_recording else seed}"


class _Unpadded:
    """A batch whose schedulers see everything."""

    def __init__(self, clusters: ClusterBatch) -> None:
        self._clusters = clusters

    @property
    def done(self) -> BoolArray:
        return self._clusters.done

    def begin(
        self,
        begins: BoolArray,
        seeds: Sequence[int | None],
        options: Mapping[str, Any] | None,
        generator: np.random.Generator,
    ) -> Outcome:
        outcome = self._clusters.begin(begins, seeds, options, generator)
        return outcome._replace(observation=self._clusters.view())

    def step(self, actions: ArrayLike) -> Outcome:
        return self._clusters.step(actions)._replace(observation=self._clusters.view())
