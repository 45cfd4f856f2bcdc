"""Online RL in CJS: Decima's network, and several rollouts of the same arrivals.

Arrivals differ so much that a return alone says little about a decision. So several episodes share
each arrival seed, and a decision is compared with those of the others at the same simulated time.

Source: Decima (Mao et al., SIGCOMM 2019).
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from netllm_gym.arrays import FloatArray
from netllm_gym.envs.cjs.vector_env import FIRST_TRAINING_SEED, CJSVectorEnv
from netllm_gym.envs.plan import PlannedEpisode
from netllm_gym.policies.neural.cjs import Decima, DecimaNetworkConfig
from netllm_gym.policies.neural.networks import Network
from netllm_gym.policies.policy import TrainedPolicyFactory
from netllm_gym.pools.episode import Episode
from netllm_gym.problems.problem import ControlProblem
from netllm_gym.training.advantages import RolloutAdvantages
from netllm_gym.training.online import OnlineParts
from netllm_gym.training.online_config import DecimaConfig, PPOConfig
from netllm_gym.training.ppo import EpisodeSource, episode_seeds

if TYPE_CHECKING:
    from netllm_gym.policies.llm.model import LLMModel

LAST_TRAINING_SEED = 2**31  # arrivals are drawn with seeds from `FIRST_TRAINING_SEED` up to this
_PRETRAINING, _PPO = 0, 1  # streams of arrival seeds


class CJSOnline(OnlineParts):
    """What PPO needs of CJS; with a `DecimaConfig`, episodes grow longer."""

    default_baseline = "rollouts"
    only_with_critic = ("gamma", *OnlineParts.only_with_critic)  # rollouts discount by time

    def __init__(self, problem: ControlProblem, case: Mapping[str, Any], config: PPOConfig) -> None:
        super().__init__(problem, case, config)
        self.arguments["num_jobs"] = self.env.num_jobs

    def new_network(self, seed: int) -> Decima:
        """Return a network of Decima's shape."""
        return Decima(DecimaNetworkConfig(seed=seed))

    def language_model(self, model: "LLMModel", critic: Network | None) -> Network:
        """Return a language model that chooses stages and executors; see the base."""
        from netllm_gym.training.cjs_llm import ClusterLLM

        return ClusterLLM(model, critic)

    def episode_source(self) -> "ArrivalEpisodes":
        """Return several rollouts of each of an update's arrivals."""
        return ArrivalEpisodes(self.loaded_arguments, self.config)

    def pretraining_source(self) -> "ArrivalEpisodes":
        """Return one episode of each of an update's arrivals."""
        return ArrivalEpisodes(self.loaded_arguments, self.config, pretraining=True)

    def advantages(self) -> RolloutAdvantages | None:
        """Return what compares rollouts at the same simulated time."""
        return None if self.baseline == "critic" else arrival_advantages(self.config)

    def trained_on(self) -> dict[str, Any]:
        """Return the workload. Its arrivals are drawn anew, unless they are a recording."""
        plan = self.env.evaluation_plan() if self.env.workload.is_recording else []
        return dict(self.env.provenance(plan))


def arrival_advantages(config: PPOConfig) -> RolloutAdvantages:
    """Return what compares rollouts at the same simulated time, which discounts rewards, too."""
    horizon_s = (config if isinstance(config, DecimaConfig) else DecimaConfig).horizon_s

    def discount(gaps_s: FloatArray) -> FloatArray:
        return np.asarray(np.exp(-gaps_s / horizon_s))

    return RolloutAdvantages(config.rollouts, _times_s, discount)


def _times_s(episode: Episode) -> FloatArray:
    """Return (T,) simulated times of an episode's decisions."""
    return np.asarray(episode.observations.clock_ms / 1000.0)


class ArrivalEpisodes(EpisodeSource):
    """Episodes with arrivals of no evaluation, drawn anew for every update.

    Those of pretraining have one rollout of each arrival seed.
    """

    def __init__(
        self, case: Mapping[str, Any], config: PPOConfig, *, pretraining: bool = False
    ) -> None:
        self._case, self._seed = case, config.seed
        self._first_jobs = self._last_jobs = case["num_jobs"]
        if isinstance(config, DecimaConfig):
            self._first_jobs = config.last_jobs if pretraining else config.first_jobs
            self._last_jobs = config.last_jobs
        self._updates = config.updates - config.pretrain_updates
        self._num_rows = config.pretrain_episodes if pretraining else config.episodes
        self._rollouts = 1 if pretraining else config.rollouts
        self._stream = _PRETRAINING if pretraining else _PPO
        self._env: CJSVectorEnv | None = None

    def episodes(
        self, update: int, policy: Callable[[], TrainedPolicyFactory]
    ) -> tuple[CJSVectorEnv, list[PlannedEpisode]]:
        """Return the environment and the plan of an update, rollouts of an arrival together."""
        growth = (self._last_jobs - self._first_jobs) * update / max(1, self._updates - 1)
        num_jobs = min(round(self._first_jobs + growth), self._case["num_jobs"])
        if self._env is None or self._env.num_jobs != num_jobs:
            case = {**self._case, "num_jobs": num_jobs}
            self._env = CJSVectorEnv(
                self._num_rows, **case, padded=False, autoreset_mode="Disabled"
            )
        rng = np.random.default_rng([self._seed, update, self._stream])
        num_arrivals = self._num_rows // self._rollouts
        drawn = rng.integers(FIRST_TRAINING_SEED, LAST_TRAINING_SEED, num_arrivals)
        arrivals = np.repeat(drawn, self._rollouts).tolist()
        seeds = episode_seeds(self._seed, update, self._num_rows).tolist()
        return self._env, [
            PlannedEpisode(seed, {"arrival_seed": arrival})
            for seed, arrival in zip(seeds, arrivals, strict=True)
        ]
