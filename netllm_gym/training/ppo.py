"""Proximal policy optimisation (PPO) of a network in native vector environments.

The loop serves every control problem: the network says what it observes and does, an
`EpisodeSource` says which episodes an update plays, and advantages come from the network's critic
or from a function of the episodes.

Each update plays new episodes, whose seeds follow from the run's seed and the update's number, and
learns from them. So `run.py` can resume a run between any two updates.

The policy that is validated and kept has an average of the weights over the last updates, which
depends less on the luck of single episodes than the newest weights do.

Where returns are mostly chance (a link that fails for minutes), advantages are large and carry
little information. A network that estimates the deviation of returns has its advantages divided by
a power of it, so that states with less noise count as well.

Source: Schulman et al., Proximal Policy Optimization Algorithms (2017), with the clipped objective.
"""

import copy
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from netllm_gym.arrays import FloatArray, IntArray
from netllm_gym.configs import to_json
from netllm_gym.envs.plan import PlannedEpisode
from netllm_gym.errors import InputError
from netllm_gym.evaluation.rollout import rollout
from netllm_gym.policies.checkpoint import check_tensors
from netllm_gym.policies.neural.networks import ActionEvaluation, Network, concatenated, remembered
from netllm_gym.policies.policy import Policy, TrainedPolicyFactory
from netllm_gym.pools.episode import Episode
from netllm_gym.training.advantages import (
    Advantages,
    compressed,
    generalised_advantages,
    scaled,
    standardised,
)
from netllm_gym.training.methods import TrainResult
from netllm_gym.training.online_config import PPOConfig
from netllm_gym.training.run import Learner, TrainingRun, check_finite, kept_of

MAX_AT_ONCE = 16384  # decisions of one forward pass without gradients
RETURN_STD_COEF = 0.1  # weight of the loss of the estimated deviation of returns


class EpisodeSource:
    """Which episodes each update plays; here nothing that later updates need of earlier ones."""

    def episodes(
        self, update: int, policy: Callable[[], TrainedPolicyFactory]
    ) -> tuple[Any, Sequence[PlannedEpisode]]:
        """Return a vector environment, autoreset disabled, and the plan of an update.

        Args:
            update: Number of the update; the first is 0.
            policy: Returns the policy that would be kept now, for a curriculum.
        """
        raise NotImplementedError

    def state(self) -> dict[str, Any]:
        """Return what later updates need of earlier ones, as JSON values."""
        return {}

    def restore(self, state: Mapping[str, Any], path: Path) -> None:
        """Check and take over what `state` returned; `path` is where it was read."""


class Shown:
    """A policy that is shown a part of the observations, without what is for a critic alone."""

    def __init__(self, policy: Policy, part: Callable[[Any], Any]) -> None:
        self.name, self._policy, self._part = policy.name, policy, part

    def reset(self, rows: IntArray, seeds: IntArray) -> None:
        """Begin new episodes in these rows."""
        self._policy.reset(rows, seeds)

    def act(self, observations: Any, rewards: FloatArray, infos: Mapping[str, Any]) -> Any:
        """Return (N, ...) actions."""
        return self._policy.act(self._part(observations), rewards, infos)

    def end(self, rows: IntArray, observations: Any) -> None:
        """Tell the policy that episodes ended, if it wants to know."""
        if hasattr(self._policy, "end"):
            self._policy.end(rows, self._part(observations))


@dataclass(frozen=True)
class PPOTask:
    """What PPO trains, and on which episodes."""

    network: Network  # with its initial weights; it is trained itself
    source: EpisodeSource  # which episodes are played
    # returns the advantages of episodes; None uses the network's critic
    advantages: Advantages | None = None
    # makes the first `pretrain_updates` updates of the config in another way than PPO, and returns
    # their metrics; the others begin with a new optimizer
    pretraining: Callable[[int, Network, torch.optim.Optimizer], dict[str, Any]] | None = None
    # what else decides the training, as JSON values; a run is resumed with equal ones
    settings: Mapping[str, Any] = field(default_factory=dict)
    # whether the network was trained before. It is then validated, and kept if it stays the best,
    # before the first update, unless validation is left to the end.
    warm_start: bool = False


def train_ppo(task: PPOTask, config: PPOConfig, run: TrainingRun) -> TrainResult:
    """Train a network and keep the best and the last policy; see `TrainingRun.train`."""
    asked = to_json(task.network.config)

    def begin(last: Path | None) -> Learner:
        network, values = (task.network, None) if last is None else task.network.read(last)
        learner = _PPO(network, task, config)
        learner.config = asked
        learner.kept = None if values is None else kept_of(network, values)
        return learner

    return run.train(begin, config)


class _Batch(NamedTuple):
    """Decisions of an update from which something can be learned."""

    observations: Any  # (D, ...) an array or a ragged view
    actions: IntArray  # (D, ...)
    log_probs: Tensor  # (D,) under the policy that made them
    advantages: Tensor  # (D,) standardised
    returns: Tensor | None  # (D,) scaled; None without a critic


class _PPO(Learner):
    """The network that plays, its optimizer, and `average`, with the average of its weights."""

    network: Network

    def __init__(self, network: Network, task: PPOTask, config: PPOConfig) -> None:
        self.network, self.task, self.ppo = network, task, config
        self.warm_start = task.warm_start
        self.settings = {"train": _train_settings(config), **task.settings}
        self.first = 0 if task.pretraining is None else config.pretrain_updates
        self.optimizer = torch.optim.Adam(
            network.parameters(), config.first_learning_rate, fused=True
        )
        self.average = copy.deepcopy(network).requires_grad_(False)
        self.trained = [name for name, each in network.named_parameters() if each.requires_grad]

    def update(self, number: int) -> dict[str, Any]:
        pretraining = self.task.pretraining
        if pretraining is not None and number < self.first:
            metrics = pretraining(number, self.network, self.optimizer)
        else:
            metrics = self._play_and_learn(number)
        self._move_average(max(0, number - self.first))
        return metrics

    def _play_and_learn(self, number: int) -> dict[str, Any]:
        if number == self.first:
            self.optimizer.state.clear()
        ppo, played = self.ppo, number - self.first
        progress = played / max(1, ppo.updates - self.first - 1)
        rate = ppo.first_learning_rate * (1.0 + (ppo.final_fraction - 1.0) * progress)
        first_coef = ppo.first_entropy_coef
        entropy_coef = first_coef + (ppo.final_entropy_coef - first_coef) * progress
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        env, plan = self.task.source.episodes(played, lambda: self.policy({}))
        player = self.network.player(env.num_envs, sampled=True)
        episodes = rollout(player, env, plan).episodes
        rng = np.random.default_rng([ppo.seed, number])
        batch = self._batch(episodes)
        return {
            **mean_rewards(episodes),
            "decisions": len(batch.actions),
            **self._learn(batch, entropy_coef, rng, number),
            "entropy_coef": entropy_coef,
            "learning_rate": rate,
        }

    def _move_average(self, played: int) -> None:
        """Move the average towards the network; the first updates are soon forgotten."""
        decay = min(self.ppo.ema_decay, played / (played + 10))
        with torch.no_grad():
            for name in self.trained:
                newest = self.network.get_parameter(name)
                self.average.get_parameter(name).lerp_(newest, 1.0 - decay)

    def _batch(self, episodes: Sequence[Episode]) -> _Batch:
        """Concatenate episodes and find the advantages of their decisions."""
        self._check_lengths(episodes)
        read = remembered(self.network, [episode.observations for episode in episodes])
        observations = end_to_end(read)
        actions = np.concatenate([episode.actions for episode in episodes])
        chosen = np.flatnonzero(self.network.chooses(observations))
        observations, chosen_actions = observations[chosen], actions[chosen]
        evaluation = self._evaluate(observations, chosen_actions)
        returns = None
        if self.task.advantages is not None:
            advantages = np.concatenate(self.task.advantages(episodes))[chosen]
        elif evaluation.values is None:
            raise InputError("advantages must be given for a network without a critic, got none")
        else:
            values = np.zeros(len(actions))
            values[chosen] = evaluation.values.double().numpy()
            advantages = self._generalised(episodes, values)[chosen]
            returns = torch.from_numpy(advantages).float() + evaluation.values
            if evaluation.return_std is not None:
                # The deviation belongs to the state, so the order of its actions stays the same.
                return_std = evaluation.return_std.double().numpy()
                advantages = scaled(advantages, return_std, self.ppo.advantage_scaling_power)
        standard = torch.from_numpy(standardised(advantages, self.ppo.advantage_limit)).float()
        return _Batch(observations, chosen_actions, evaluation.log_probs, standard, returns)

    def _check_lengths(self, episodes: Sequence[Episode]) -> None:
        steps = self.network.steps_together
        for length in {len(episode.rewards) for episode in episodes} if steps > 1 else ():
            if length != steps:
                raise InputError(f"episodes must have {steps} decisions each, got {length}")

    def _evaluate(self, observations: Any, actions: IntArray) -> ActionEvaluation:
        """Evaluate (D,) decisions without gradients."""
        steps = self.network.steps_together
        most = max(1, MAX_AT_ONCE // steps) * steps
        with torch.no_grad():
            parts = [
                self.network.evaluate_actions(observations[rows], actions[rows])
                for rows in np.split(np.arange(len(actions)), range(most, len(actions), most))
            ]
        return concatenated(parts)

    def _generalised(self, episodes: Sequence[Episode], values: FloatArray) -> FloatArray:
        """Return (steps of all episodes,) generalised advantages of scaled rewards."""
        lengths = np.array([len(episode.rewards) for episode in episodes])
        played = np.arange(lengths.max()) < lengths[:, None]  # (E, T)
        rewards, expected = np.zeros(played.shape), np.zeros(played.shape)
        rewards[played] = np.concatenate([episode.rewards for episode in episodes])
        expected[played] = values
        rewards = compressed(rewards, self.ppo.reward_floor) * self.ppo.reward_scale
        gamma, gae_lambda = self.ppo.gamma, self.ppo.gae_lambda
        return generalised_advantages(rewards, expected, gamma, gae_lambda)[played]

    def _learn(
        self, batch: _Batch, entropy_coef: float, rng: np.random.Generator, number: int
    ) -> dict[str, Any]:
        """Make the epochs of an update; return means over its optimizer steps."""
        ppo, count = self.ppo, len(batch.actions)
        metrics = defaultdict[str, list[float]](list)
        # What is evaluated together stays together: single decisions, or those of an episode.
        units = np.arange(count).reshape(-1, self.network.steps_together)
        parts = min(len(units), max(1, round(count / ppo.minibatch)))
        epochs = 0
        while epochs < ppo.epochs:
            metrics["kl"] = []
            for rows in map(np.ravel, np.array_split(rng.permutation(units), parts)):
                loss = self._loss(batch, rows, entropy_coef, metrics)
                self.optimizer.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]
                norms = [
                    float(nn.utils.clip_grad_norm_(tower.parameters(), ppo.max_grad_norm))
                    for tower in self.network.towers()
                ]
                check_finite("gradient", max(norms), number)
                self.optimizer.step()
                metrics["gradient_norm"].append(max(norms))
            epochs += 1
            if 0 < ppo.target_kl < np.mean(metrics["kl"]):
                break
        return {"epochs": epochs, **{name: float(np.mean(each)) for name, each in metrics.items()}}

    def _loss(
        self,
        batch: _Batch,
        rows: IntArray,
        entropy_coef: float,
        metrics: Mapping[str, list[float]],
    ) -> Tensor:
        """Return the loss of a minibatch, and add its parts to the metrics."""
        evaluation = self.network.evaluate_actions(batch.observations[rows], batch.actions[rows])
        index = torch.from_numpy(rows)
        log_ratios = evaluation.log_probs - batch.log_probs[index]
        loss = clipped_loss(log_ratios, batch.advantages[index], self.ppo.clip).mean()
        metrics["policy_loss"].append(float(loss.detach()))
        loss = loss - entropy_coef * evaluation.entropies.mean()
        metrics["entropy"].append(float(evaluation.entropies.detach().mean()))
        if batch.returns is not None and evaluation.values is not None:
            # The error counts linearly beyond 1. Squared, that of a stall of minutes would leave
            # the policy nothing of the clipped gradient.
            error = F.smooth_l1_loss(evaluation.values, batch.returns[index])
            loss = loss + self.ppo.value_coef * error
            metrics["value_loss"].append(float(error.detach()))
            if evaluation.return_std is not None:
                distances = (evaluation.values.detach() - batch.returns[index]).abs()
                std_loss = laplace_loss(distances, evaluation.return_std).mean()
                loss = loss + RETURN_STD_COEF * std_loss
                metrics["return_std_loss"].append(float(std_loss.detach()))
        with torch.no_grad():  # an estimate that is never below 0, unlike the mean of log-ratios
            metrics["kl"].append(float((log_ratios.exp() - 1.0 - log_ratios).mean()))
        return loss

    def policy(self, trained_on: Mapping[str, Any]) -> TrainedPolicyFactory:
        return self.average.factory(sampled=None, name="learner", trained_on=trained_on)

    def write(self, folder: Path, trained_on: Mapping[str, Any]) -> None:
        self.average.write(folder, trained_on)

    def optimizer_state(self) -> dict[str, Tensor]:
        """Return the optimizer's state and the newest weights, since the files have the average."""
        weights = {f"{name}|weight": self.network.get_parameter(name) for name in self.trained}
        return {**super().optimizer_state(), **weights}

    def load_optimizer_state(self, tensors: Mapping[str, Tensor], path: Path) -> None:
        others = dict(tensors)
        ours = [key for key in tensors if key.endswith("|weight")]
        weights = {key.removesuffix("|weight"): others.pop(key) for key in ours}
        wanted = {name: self.network.get_parameter(name) for name in self.trained}
        check_tensors(path, weights, wanted)
        with torch.no_grad():
            for name, each in wanted.items():
                each.copy_(weights[name])
        super().load_optimizer_state(others, path)

    def state(self) -> dict[str, Any]:
        return self.task.source.state()

    def restore(self, state: Mapping[str, Any], path: Path) -> None:
        self.task.source.restore(state, path)


def _train_settings(config: PPOConfig) -> dict[str, Any]:
    """Return the options that decide the training, their defaults filled in.

    The policies that the run started from are left out: their hashes are in `trained_on`.
    """
    settings = to_json(config)
    del settings["init_from"], settings["critic"]
    settings["learning_rate"] = config.first_learning_rate
    settings["entropy_coef"] = config.first_entropy_coef
    return settings


def mean_rewards(episodes: Sequence[Episode]) -> dict[str, float]:
    """Return the mean reward of a decision and the mean return of an episode."""
    steps = sum(len(episode.rewards) for episode in episodes)
    rewards = sum(float(episode.rewards.sum()) for episode in episodes)
    return {"reward": rewards / steps, "return": rewards / len(episodes)}


def clipped_loss(log_ratios: Tensor, advantages: Tensor, clip: float) -> Tensor:
    """Return (B,) PPO's clipped objective, negated.

    The (B,) ratios are of the probability now to that when the decision was made.
    """
    ratio = log_ratios.exp()
    return -torch.minimum(ratio * advantages, ratio.clamp(1.0 - clip, 1.0 + clip) * advantages)


def laplace_loss(distances: Tensor, return_std: Tensor) -> Tensor:
    """Return (B,) negative log-likelihoods, up to a constant, of a Laplace distribution.

    For (B,) distances of returns from what was expected; least where `return_std` is their mean.
    """
    return distances / return_std + return_std.log()


def end_to_end(parts: Sequence[Any]) -> Any:
    """Return (D, ...) observations of several parts, one after the other."""
    if isinstance(parts[0], np.ndarray):
        return np.concatenate(parts)
    return type(parts[0]).concatenate(parts)


def episode_seeds(seed: int, update: int, count: int) -> IntArray:
    """Return (count,) seeds of an update's episodes, unlike those of other updates and runs."""
    drawn = np.random.SeedSequence([seed, update]).generate_state(count, np.uint64)
    return (drawn >> np.uint64(1)).astype(np.int64)
