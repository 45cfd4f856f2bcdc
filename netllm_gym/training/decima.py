"""How Decima learns: it clones a rule while it plays, then plays the same arrivals again and again.

Arrivals differ so much that a return says little of a decision. So several rollouts share each
arrival seed, and a decision is judged by how its return compares with those of the other rollouts
at the same simulated time.

Sources: Decima's input-dependent baseline (Mao et al., SIGCOMM 2019, `spec/cjs.md` 5.2); cloning
under the learner's own states is DAgger (Ross, Gordon, Bagnell, AISTATS 2011).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from netllm_gym.arrays import FloatArray, IntArray
from netllm_gym.configs import to_json
from netllm_gym.envs.cjs.observation import ClusterView
from netllm_gym.envs.cjs.vector_env import FIRST_TRAINING_SEED, CJSVectorEnv
from netllm_gym.envs.plan import PlannedEpisode
from netllm_gym.errors import InputError
from netllm_gym.evaluation.rollout import rollout
from netllm_gym.policies.baselines.cjs import SRPT, TunedSRPT
from netllm_gym.policies.neural.cjs import Choice, Decima, cluster_graph
from netllm_gym.policies.neural.networks import Network
from netllm_gym.policies.policy import Policy, TrainedPolicyFactory
from netllm_gym.pools.episode import Episode
from netllm_gym.randomness import EpisodeDraws
from netllm_gym.training.config import DecimaConfig, PPOConfig
from netllm_gym.training.ppo import earned, episode_seeds

LAST_TRAINING_SEED = 2**31  # of the arrivals that are drawn from `FIRST_TRAINING_SEED` on
_CLONING, _PLAYING = 0, 1  # streams of arrival seeds
_TEACHERS: Mapping[str, Callable[[CJSVectorEnv], Policy]] = {
    "tuned_srpt": TunedSRPT,
    "srpt": SRPT,
}
_LEFT_OUT = -1e30  # logit of what does not count; finite, so that 0 times it is 0


class _Arrivals:
    """Draws arrivals, and keeps the environment of the newest number of jobs."""

    def __init__(self, case: Mapping[str, Any], num_rows: int, stream: int, seed: int) -> None:
        self._case, self._num_rows, self._stream, self._seed = case, num_rows, stream, seed
        self._env: CJSVectorEnv | None = None

    def episodes(
        self, update: int, num_jobs: int, rollouts: int
    ) -> tuple[CJSVectorEnv, list[PlannedEpisode]]:
        """Return the environment and a plan of a row each, rollouts of equal arrivals together."""
        if self._env is None or self._env.num_jobs != num_jobs:
            case = {**self._case, "num_jobs": num_jobs}
            self._env = CJSVectorEnv(
                self._num_rows, **case, padded=False, autoreset_mode="Disabled"
            )
        rng = np.random.default_rng([self._seed, update, self._stream])
        drawn = rng.integers(FIRST_TRAINING_SEED, LAST_TRAINING_SEED, self._num_rows // rollouts)
        seeds = episode_seeds(self._seed, update, self._num_rows)
        return self._env, [
            PlannedEpisode(seed, {"arrival_seed": arrival})
            for seed, arrival in zip(
                seeds.tolist(), np.repeat(drawn, rollouts).tolist(), strict=True
            )
        ]


class ArrivalEpisodes:
    """Several rollouts of each of an update's arrivals, none of any evaluation: an `EpisodeSource`.

    Args:
        case: Workload, executors and jobs.
        decima: How often the arrivals are played, and for how many jobs.
        ppo: Says how many episodes an update plays, how many updates there are, and the seed.

    Raises:
        InputError: If the episodes of an update cannot be shared out evenly.
    """

    def __init__(self, case: Mapping[str, Any], decima: DecimaConfig, ppo: PPOConfig) -> None:
        if ppo.episodes % decima.rollouts:
            raise InputError(
                f"episodes must be a multiple of the {decima.rollouts} rollouts of each arrival "
                f"seed, got {ppo.episodes}"
            )
        self.settings: Mapping[str, Any] = {**case, **to_json(decima)}
        self._most_jobs, self._decima = case["num_jobs"], decima
        self._updates = ppo.updates - decima.clone_updates
        self._arrivals = _Arrivals(case, ppo.episodes, _PLAYING, ppo.seed)

    def episodes(
        self, update: int, policy: Callable[[], TrainedPolicyFactory]
    ) -> tuple[CJSVectorEnv, list[PlannedEpisode]]:
        """Return the environment and the plan of an update."""
        first, last = self._decima.first_jobs, self._decima.last_jobs
        num_jobs = round(first + (last - first) * update / max(1, self._updates - 1))
        return self._arrivals.episodes(
            update, min(num_jobs, self._most_jobs), self._decima.rollouts
        )

    def state(self) -> dict[str, Any]:
        """Return nothing: an update's number decides its arrivals."""
        return {}

    def restore(self, state: Mapping[str, Any], path: Path) -> None:
        """Put nothing back."""


class ArrivalAdvantages:
    """How much better a decision did than the other rollouts of its arrivals.

    The return of decision k is r[k] + exp(-(t[k+1] - t[k]) / horizon) times that of decision k + 1,
    t being the simulated time. Expected is the mean of the other rollouts' returns at t[k], between
    their decisions in a line, after their last one 0.

    Args:
        decima: Rollouts and horizon.
    """

    def __init__(self, decima: DecimaConfig) -> None:
        self._rollouts, self._horizon_s = decima.rollouts, decima.horizon_s

    def __call__(self, episodes: Sequence[Episode]) -> list[FloatArray]:
        """Return (T,) of each episode, the rollouts of equal arrivals side by side."""
        found: list[FloatArray] = []
        for first in range(0, len(episodes), self._rollouts):
            found += self._of_equal_arrivals(episodes[first : first + self._rollouts])
        return found

    def _of_equal_arrivals(self, episodes: Sequence[Episode]) -> list[FloatArray]:
        times_s = [episode.observations.clock_ms / 1000.0 for episode in episodes]
        returns = [
            discounted_returns(episode.rewards, time_s, self._horizon_s)
            for episode, time_s in zip(episodes, times_s, strict=True)
        ]
        found = []
        for own, (time_s, of_own) in enumerate(zip(times_s, returns, strict=True)):
            others = [
                np.interp(time_s, times_s[other], returns[other], right=0.0)
                for other in range(len(episodes))
                if other != own
            ]
            found.append(of_own - np.mean(others, axis=0))
        return found


def discounted_returns(rewards: FloatArray, time_s: FloatArray, horizon_s: float) -> FloatArray:
    """Return (T,) returns that are discounted by simulated time.

    Args:
        rewards: (T,) of each decision, up to the next one.
        time_s: (T,) when it was made.
        horizon_s: Rewards this far ahead count 1 / e.
    """
    kept = np.exp(-np.diff(time_s, append=time_s[-1]) / horizon_s)
    found, ahead = np.empty(len(rewards)), 0.0
    for step in reversed(range(len(rewards))):
        ahead = rewards[step] + kept[step] * ahead
        found[step] = ahead
    return found


class Cloning:
    """A network learns what a rule would do wherever it gets to: a `Pretraining`.

    The rule plays at first; from update to update the network takes over more of the decisions, and
    from half of the updates on makes all of them. Every step of the clusters is one step of Adam.

    Args:
        case: Workload, executors and jobs.
        decima: Teacher and schedule.
        seed: Of arrivals and draws.
    """

    def __init__(self, case: Mapping[str, Any], decima: DecimaConfig, seed: int) -> None:
        self.updates = decima.clone_updates
        self._decima = decima
        self._num_jobs = min(case["num_jobs"], decima.last_jobs)
        self._arrivals = _Arrivals(case, decima.clone_episodes, _CLONING, seed)

    def update(
        self, number: int, network: Network, optimizer: torch.optim.Optimizer
    ) -> dict[str, Any]:
        """Play and learn at once."""
        assert isinstance(network, Decima)
        decima = self._decima
        env, plan = self._arrivals.episodes(number, self._num_jobs, rollouts=1)
        rate = decima.clone_learning_rate * (1.0 - (number + 0.5) / self.updates)
        for group in optimizer.param_groups:
            group["lr"] = rate
        teacher = _TEACHERS[decima.teacher](env)
        teacher_share = max(0.0, 1.0 - 2.0 * number / self.updates)
        apprentice = _Apprentice(
            network, optimizer, teacher, teacher_share, decima.clone_max_grad_norm, env.num_envs
        )
        episodes = rollout(apprentice, env, plan, keep_observations=False).episodes
        return {
            **earned(episodes),
            **apprentice.told(),
            "teacher_share": teacher_share,
            "learning_rate": rate,
        }


class _Apprentice:
    """Acts as the network or its teacher would, and teaches the network with every decision."""

    name = "apprentice"

    def __init__(
        self,
        network: Decima,
        optimizer: torch.optim.Optimizer,
        teacher: Policy,
        teacher_share: float,
        max_grad_norm: float,
        num_rows: int,
    ) -> None:
        self._network, self._optimizer, self._teacher = network, optimizer, teacher
        self._teacher_share, self._clip_norm = teacher_share, max_grad_norm
        self._draws = EpisodeDraws(num_rows)
        self._loss = self._agreed = 0.0
        self._decisions = 0

    def reset(self, rows: IntArray, seeds: IntArray) -> None:
        """Start the rows anew."""
        self._teacher.reset(rows, seeds)
        self._draws.reset(rows, seeds)

    def act(self, view: ClusterView, rewards: FloatArray, infos: Mapping[str, Any]) -> IntArray:
        """Return (N, 2) actions, and learn from what the teacher would do."""
        labels = np.array(self._teacher.act(view, rewards, infos))
        *draws, of_teacher = [self._draws.draw() for _ in range(3)]
        rows = np.flatnonzero(self._network.chooses(view))
        if not len(rows):
            return labels
        seen = view.take(rows)
        graph = cluster_graph(seen)
        embedded = self._network.embed(graph)
        with torch.no_grad():
            drawn = torch.from_numpy(np.stack(draws)[:, rows])
            own = self._network.choose(graph, embedded, drawn).actions
        wanted = torch.from_numpy(labels[rows])
        told = wanted[:, 0] >= 0  # the others are left where they are, which is no choice here
        targets = torch.where(told[:, None], wanted, own)
        choice = self._network.choose(graph, embedded, actions=targets)
        begins = torch.cumsum(graph.num_offered, 0) - graph.num_offered
        likeliest = graph.offered[begins + choice.stage_log_probs.argmax(1)] - graph.stage_begin
        self._agreed += int((likeliest == targets[:, 0])[told].sum())
        demand = torch.from_numpy(seen.demand.astype(np.int64))
        demanded = demand[graph.stage_begin + targets[:, 0]]
        self._learn(cloning_loss(choice, demanded)[told])
        actions = labels
        plays = of_teacher[rows] >= self._teacher_share
        actions[rows[plays]] = own.numpy()[plays]
        return actions

    def _learn(self, losses: Tensor) -> None:
        if not len(losses):
            return
        self._optimizer.zero_grad(set_to_none=True)
        losses.mean().backward()  # type: ignore[no-untyped-call]
        norm = float(nn.utils.clip_grad_norm_(self._network.parameters(), self._clip_norm))
        if not math.isfinite(norm):
            raise InputError(f"gradient must be finite, got {norm} while cloning")
        self._optimizer.step()
        self._loss += float(losses.detach().sum())
        self._decisions += len(losses)

    def told(self) -> dict[str, float]:
        """Return the mean loss, the share of equal stages and the number of decisions."""
        count = max(1, self._decisions)
        return {
            "decisions": self._decisions,
            "cloning_loss": self._loss / count,
            "agreement": self._agreed / count,
        }


def cloning_loss(choice: Choice, demand: Tensor) -> Tensor:
    """Return (B,) how unlikely a teacher's actions are, in nats.

    The environment gives a stage no more executors than it demands, so where the teacher gives that
    many or more, every number from the demand up is right.

    Args:
        choice: What the network says of the teacher's (B, 2) actions.
        demand: (B,) executors that the chosen stages demand.
    """
    given, of_executors = choice.actions[:, 1:], choice.executor_log_probs  # (B, 1), (B, X)
    columns = torch.arange(of_executors.shape[1])
    enough = demand[:, None] - 1
    right = torch.where(given >= enough, columns >= enough, columns == given)
    of_stage = choice.log_prob - of_executors.gather(1, given)[:, 0]
    return -of_stage - of_executors.masked_fill(~right, _LEFT_OUT).logsumexp(1)
