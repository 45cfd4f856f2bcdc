"""Proximal policy optimisation of a network over native vector environments.

One loop for every problem: what the network sees and does is its own affair (`networks.py`), which
episodes an update plays is said by an `EpisodeSource`, and how good each decision was by the
network's own expectation (generalised advantage estimation) or by a function of the episodes.

An update plays new episodes whose seeds follow from the run's seed and its number, then learns
from them, so `run.py` resumes it between any two updates.

The network that plays changes from update to update with the luck of its episodes; the mean of its
weights over the last updates does not. That mean is the policy: it is validated and kept.

Where returns are mostly chance (a link that fails for minutes), advantages are large and say
little. A network that knows how far returns usually are from what it expects has them divided by
that, so that states with quiet returns count, too.

Source: Schulman et al., Proximal Policy Optimization Algorithms (2017), with the clipped objective;
advantages are those of Schulman et al., High-Dimensional Continuous Control Using Generalized
Advantage Estimation (ICLR 2016).
"""

import copy
import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

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
from netllm_gym.policies.neural.networks import (
    ActionEvaluation,
    Network,
    remembered,
    together,
)
from netllm_gym.policies.policy import TrainedPolicyFactory
from netllm_gym.pools.episode import Episode
from netllm_gym.training.config import PPOConfig
from netllm_gym.training.run import Learner, TrainingRun, TrainResult, cpu_threads

MOST_JUDGED = 16384  # decisions of one forward pass without gradients
SPREAD_WEIGHT = 0.1  # of the error of the spread of returns

Advantages = Callable[[Sequence[Episode]], Sequence[FloatArray]]
"""Given episodes, (T,) of each: how much better than expected the return of each decision was."""


class EpisodeSource(Protocol):
    """Which episodes each update plays."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """What decides them, as JSON values."""

    def episodes(
        self, update: int, policy: Callable[[], TrainedPolicyFactory]
    ) -> tuple[Any, Sequence[PlannedEpisode]]:
        """Return the environment, autoreset disabled, and the plan of an update.

        Args:
            update: Its number, the first is 0.
            policy: Returns what would be kept now, for a curriculum to look at.
        """

    def state(self) -> dict[str, Any]:
        """Return what updates leave for later ones, as JSON values."""

    def restore(self, state: Mapping[str, Any], path: Path) -> None:
        """Put back what `state` gave, once checked; `path` is where it was read."""


class Pretraining(Protocol):
    """What a network learns otherwise before it learns by playing.

    What decides it stands in the settings of the episode_source.
    """

    @property
    def updates(self) -> int:
        """The first ones of the run, which are its own."""

    def update(
        self, number: int, network: Network, optimizer: torch.optim.Optimizer
    ) -> dict[str, Any]:
        """Make update `number`, the first is 0, and return its metrics."""


def train_ppo(
    make_network: Callable[[], Network],
    episode_source: EpisodeSource,
    config: PPOConfig,
    run: TrainingRun,
    *,
    advantages: Advantages | None = None,
    pretraining: Pretraining | None = None,
    warm_start: bool = False,
) -> TrainResult:
    """Train a network and keep the best and the last.

    Args:
        make_network: Makes it, with its initial weights.
        episode_source: Which episodes are played.
        config: How.
        run: Where it is kept, and how the best is found.
        advantages: Of the decisions of episodes; None takes the network's expected returns.
        pretraining: Makes the first of the updates; the others begin with a fresh optimizer.
        warm_start: The network was trained before: it is scored, and kept, before it changes,
            unless validation is left to the end.

    Raises:
        InputError: If the run's folder holds something else, or a resumed run's settings or origin
            differ; nothing is written then.
    """
    last = run.open()
    network, kept = make_network(), None
    asked = to_json(network.config)
    if last is not None:
        network, values = network.read(last)
        kept = {"config": to_json(network.config), "trained_on": values["trained_on"]}
    with cpu_threads(config.threads):
        learner = _PPO(network, asked, episode_source, config, advantages, pretraining, warm_start)
        return run.train(learner, kept, config)


class _Batch(NamedTuple):
    """Decisions of an update from which something can be learned."""

    observations: Any  # (D, ...) an array or a ragged view
    actions: IntArray  # (D, ...)
    log_probs: Tensor  # (D,) under the policy that made them
    advantages: Tensor  # (D,) standardised
    returns: Tensor | None  # (D,) scaled, where the network expects any


class _PPO(Learner):
    """The network, its optimizer and its episode_source; `average` has the mean of its weights."""

    network: Network

    def __init__(
        self,
        network: Network,
        config: Mapping[str, Any],
        episode_source: EpisodeSource,
        ppo: PPOConfig,
        advantages: Advantages | None,
        pretraining: Pretraining | None,
        warm_start: bool,
    ) -> None:
        self.network, self.config, self.episode_source, self.warm_start = (
            network,
            config,
            episode_source,
            warm_start,
        )
        self.ppo, self.advantages, self.pretraining = ppo, advantages, pretraining
        self.settings = {"train": to_json(ppo), "episode_source": dict(episode_source.settings)}
        self.first = 0  # update that plays
        if pretraining is not None:
            self.first = pretraining.updates
            if self.first >= ppo.updates:
                raise InputError(
                    f"updates must be above the {self.first} that clone first, got {ppo.updates}"
                )
        self.optimizer = torch.optim.Adam(network.parameters(), ppo.learning_rate, fused=True)
        self.average = copy.deepcopy(network).requires_grad_(False)
        self.trained = [name for name, each in network.named_parameters() if each.requires_grad]

    def update(self, number: int) -> dict[str, Any]:
        """Play, then learn from it."""
        if self.pretraining is not None and number < self.first:
            told = self.pretraining.update(number, self.network, self.optimizer)
        else:
            told = self._play(number)
        self._follow(number - self.first)
        return told

    def _play(self, number: int) -> dict[str, Any]:
        if number == self.first:
            self.optimizer.state.clear()
        played, ppo = number - self.first, self.ppo
        done = played / max(1, ppo.updates - self.first - 1)
        rate = ppo.learning_rate * (1.0 + (ppo.final_fraction - 1.0) * done)
        entropy = ppo.entropy_coef + (ppo.final_entropy_coef - ppo.entropy_coef) * done
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        env, plan = self.episode_source.episodes(played, lambda: self.policy({}))
        player = self.network.player(env.num_envs, sampled=True)
        episodes = rollout(player, env, plan).episodes
        rng = np.random.default_rng([ppo.seed, number])
        batch = self._batch(episodes)
        told = self._learn(batch, entropy, rng, number)
        return {
            **earned(episodes),
            "decisions": len(batch.actions),
            **told,
            "entropy_weight": entropy,
            "learning_rate": rate,
        }

    def _follow(self, played: int) -> None:
        """Move the mean towards the network; the first updates that play are soon forgotten."""
        kept = min(self.ppo.ema_decay, max(0, played) / (max(0, played) + 10))
        with torch.no_grad():
            for name in self.trained:
                newest = self.network.get_parameter(name)
                self.average.get_parameter(name).lerp_(newest, 1.0 - kept)

    def _batch(self, episodes: Sequence[Episode]) -> _Batch:
        """Lay episodes end to end and say how good each decision was."""
        seen = remembered(self.network, [episode.observations for episode in episodes])
        observations = end_to_end(seen)
        actions = np.concatenate([episode.actions for episode in episodes])
        chosen = np.flatnonzero(self.network.chooses(observations))
        kept, of_kept = observations[chosen], actions[chosen]
        judged = self._judged(kept, of_kept)
        if self.advantages is not None:
            found = np.concatenate(self.advantages(episodes))[chosen]
        else:
            if judged.values is None:
                raise InputError("advantages must be given for a network without expected returns")
            values = np.zeros(len(actions))
            values[chosen] = judged.values.double().numpy()
            found = self._gains(episodes, values)[chosen]
        returns = None if judged.values is None else torch.from_numpy(found).float() + judged.values
        if judged.return_std is not None:
            # Of a state, not of what was done in it, so what is better there stays better.
            found = evened(
                found, judged.return_std.double().numpy(), self.ppo.advantage_scaling_power
            )
        advantages = torch.from_numpy(standardised(found, self.ppo.advantage_limit)).float()
        return _Batch(kept, of_kept, judged.log_probs, advantages, returns)

    def _judged(self, observations: Any, actions: IntArray) -> ActionEvaluation:
        """Judge (D,) decisions without gradients."""
        with torch.no_grad():
            steps = self.network.steps_together
            most = max(1, MOST_JUDGED // steps) * steps
            parts = [
                self.network.evaluate_actions(observations[rows], actions[rows])
                for rows in np.split(np.arange(len(actions)), range(most, len(actions), most))
            ]
        return together(parts)

    def _gains(self, episodes: Sequence[Episode], values: FloatArray) -> FloatArray:
        """Return (steps of all episodes,) generalised advantages of scaled rewards."""
        lengths = np.array([len(episode.rewards) for episode in episodes])
        played = np.arange(lengths.max()) < lengths[:, None]  # (E, T)
        rewards, expected = np.zeros(played.shape), np.zeros(played.shape)
        rewards[played] = np.concatenate([episode.rewards for episode in episodes])
        expected[played] = values
        rewards = compressed(rewards, self.ppo.reward_floor) * self.ppo.reward_scale
        found = generalised_advantages(rewards, expected, self.ppo.gamma, self.ppo.gae_lambda)
        return found[played]

    def _learn(
        self, batch: _Batch, entropy: float, rng: np.random.Generator, number: int
    ) -> dict[str, Any]:
        """Make the epochs of an update; return means over its optimizer steps."""
        ppo, count = self.ppo, len(batch.actions)
        told = defaultdict[str, list[float]](list)
        # What is judged together stays together: single decisions, or those of an episode.
        units = np.arange(count).reshape(-1, self.network.steps_together)
        parts = min(len(units), max(1, round(count / ppo.minibatch)))
        epochs = 0
        while epochs < ppo.epochs:
            kls = []
            for rows in map(np.ravel, np.array_split(rng.permutation(units), parts)):
                judged = self.network.evaluate_actions(
                    batch.observations[rows], batch.actions[rows]
                )
                index = torch.from_numpy(rows)
                gain, moved = batch.advantages[index], judged.log_probs - batch.log_probs[index]
                loss = clipped_loss(moved, gain, ppo.clip).mean()
                told["policy_loss"].append(float(loss.detach()))
                loss = loss - entropy * judged.entropies.mean()
                if judged.values is not None and batch.returns is not None:
                    # Beyond 1 the error counts as such, not squared: a stall of minutes would
                    # otherwise leave the policy nothing of the clipped gradient.
                    error = F.smooth_l1_loss(judged.values, batch.returns[index])
                    loss = loss + ppo.value_coef * error
                    if judged.return_std is not None:
                        off = (judged.values.detach() - batch.returns[index]).abs()
                        unlikely = laplace_loss(off, judged.return_std).mean()
                        loss = loss + SPREAD_WEIGHT * unlikely
                        told["spread_loss"].append(float(unlikely.detach()))
                    told["value_loss"].append(float(error.detach()))
                self.optimizer.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]
                norms = [
                    float(nn.utils.clip_grad_norm_(tower.parameters(), ppo.max_grad_norm))
                    for tower in self.network.towers()
                ]
                norm = max(norms)
                if not math.isfinite(norm):
                    raise InputError(f"gradient must be finite, got {norm} in update {number + 1}")
                self.optimizer.step()
                with torch.no_grad():  # never below 0, unlike the plain mean of log-ratios
                    kls.append(float((moved.exp() - 1.0 - moved).mean()))
                told["entropy"].append(float(judged.entropies.detach().mean()))
                told["gradient_norm"].append(norm)
            epochs += 1
            told["kl"] = kls
            if 0 < ppo.target_kl < np.mean(kls):
                break
        return {"epochs": epochs, **{name: float(np.mean(each)) for name, each in told.items()}}

    def policy(self, trained_on: Mapping[str, Any]) -> TrainedPolicyFactory:
        """Return the factory of the policy as it would act now."""
        return self.average.factory(sampled=None, name="learner", trained_on=trained_on)

    def write(self, folder: Path, trained_on: Mapping[str, Any]) -> None:
        """Write the policy's files."""
        self.average.write(folder, trained_on)

    def optimizer_state(self) -> dict[str, Tensor]:
        """Return the optimizer's state and, since the files have their mean, the weights."""
        weights = {f"{name}|weight": self.network.get_parameter(name) for name in self.trained}
        return {**super().optimizer_state(), **weights}

    def load_optimizer_state(self, moments: Mapping[str, Tensor], path: Path) -> None:
        """Put back what `moments` gave."""
        weights = {
            key.removesuffix("|weight"): each
            for key, each in moments.items()
            if key.endswith("|weight")
        }
        wanted = {name: self.network.get_parameter(name) for name in self.trained}
        check_tensors(path, weights, wanted)
        with torch.no_grad():
            for name, each in wanted.items():
                each.copy_(weights[name])
        others = {key: each for key, each in moments.items() if not key.endswith("|weight")}
        super().load_optimizer_state(others, path)

    def state(self) -> dict[str, Any]:
        """Return what the episode_source carry on."""
        return self.episode_source.state()

    def restore(self, state: Mapping[str, Any], path: Path) -> None:
        """Put back what `state` gave."""
        self.episode_source.restore(state, path)


def earned(episodes: Sequence[Episode]) -> dict[str, float]:
    """Return the mean reward of a decision and the mean return of an episode."""
    steps = sum(len(episode.rewards) for episode in episodes)
    rewards = sum(float(episode.rewards.sum()) for episode in episodes)
    return {"reward": rewards / steps, "return": rewards / len(episodes)}


def compressed(rewards: FloatArray, floor: float) -> FloatArray:
    """Return rewards of which what lies below the floor counts a tenth."""
    return np.asarray(np.maximum(rewards, floor + 0.1 * (rewards - floor)))


def evened(
    advantages: FloatArray, return_std: FloatArray, advantage_scaling_power: float
) -> FloatArray:
    """Return advantages in parts of what returns are usually off by, raised to a power."""
    return np.asarray(advantages / return_std**advantage_scaling_power)


def standardised(advantages: FloatArray, limit: float) -> FloatArray:
    """Return advantages of mean 0 and deviation 1, those beyond the limit as at it."""
    standard = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
    return np.asarray(standard.clip(-limit, limit))


def clipped_loss(moved: Tensor, advantages: Tensor, clip: float) -> Tensor:
    """Return (B,) PPO's clipped objective, negated.

    Args:
        moved: (B,) log of the probability now over that when the decision was made.
        advantages: (B,) how much better than expected it was.
        clip: Farthest that the ratio is rewarded to move from 1.
    """
    ratio = moved.exp()
    return -torch.minimum(ratio * advantages, ratio.clamp(1.0 - clip, 1.0 + clip) * advantages)


def laplace_loss(off: Tensor, return_std: Tensor) -> Tensor:
    """Return (B,) how unlikely distances are; least where the spread is their mean.

    Args:
        off: (B,) distances of returns from what was expected.
        return_std: (B,) what they were expected to be.
    """
    return off / return_std + return_std.log()


def generalised_advantages(
    rewards: FloatArray, values: FloatArray, gamma: float, gae_lambda: float
) -> FloatArray:
    """Return (E, T) generalised advantages of episodes that end within T steps.

    A cut episode (truncated) counts as ended: what it would have earned is not known.

    Args:
        rewards: (E, T), 0 after the end.
        values: (E, T) expected returns, 0 after the end.
        gamma: Discount.
        gae_lambda: Weight of longer views against the expectation.
    """
    found = np.zeros_like(rewards)
    ahead, expected = np.zeros(len(rewards)), np.zeros(len(rewards))
    for step in reversed(range(rewards.shape[1])):
        surprise = rewards[:, step] + gamma * expected - values[:, step]
        ahead = surprise + gamma * gae_lambda * ahead
        found[:, step], expected = ahead, values[:, step]
    return found


def end_to_end(parts: Sequence[Any]) -> Any:
    """Return (D, ...) what several parts see, one after the other."""
    if isinstance(parts[0], np.ndarray):
        return np.concatenate(parts)
    return type(parts[0]).concatenate(parts)


def episode_seeds(seed: int, update: int, count: int) -> IntArray:
    """Return (count,) seeds of an update's episodes, unlike those of other updates and runs."""
    drawn = np.random.SeedSequence([seed, update]).generate_state(count, np.uint64)
    return (drawn >> np.uint64(1)).astype(np.int64)
