"""Train bc, cql or dt on a pool's episodes: d3rlpy's updates in a run of ours.

A run that stops and resumes is equal, bit for bit, to one that does not: batches and dropout follow
from the seed and the number of the update, and beside the weights a run keeps Adam's moments, the
target network of "cql" and where "dt" stands in its schedule.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from netllm_gym.configs import to_json
from netllm_gym.errors import InputError
from netllm_gym.policies.offline.config import (
    BCTraining,
    DTTraining,
    OfflineConfig,
    OfflineTraining,
)
from netllm_gym.policies.offline.d3 import D3Algorithm
from netllm_gym.policies.offline.parts import parts_of
from netllm_gym.policies.offline.policy import (
    OfflineModel,
    OfflinePolicyFactory,
    for_acting,
    load_model,
    write_policy,
)
from netllm_gym.policies.returns import ReturnSpec
from netllm_gym.pools.windows import PaddedEpisodes
from netllm_gym.training.from_pools import training_data
from netllm_gym.training.methods import TrainRequest, TrainResult
from netllm_gym.training.offline_examples import Examples
from netllm_gym.training.run import Learner, TrainingRun, check_finite, kept_of

_SHAPE = ("hidden_units", "context_steps", "num_layers", "num_heads")  # of both configs
TARGET = "target|"  # before the names of the target network's weights in the optimizer's file


def train_offline(request: TrainRequest, config: OfflineTraining) -> TrainResult:
    """Learn from the episodes of experience pools by a method of d3rlpy."""
    told = config.returns if isinstance(config, DTTraining) else ReturnSpec(kind="none")
    if told.kind == "auto":
        told = replace(told, kind="return_to_go")
    data = training_data(request, told, imitates=isinstance(config, BCTraining))
    sizes = parts_of(request.problem.name).sizes(data.validation.env, data.episodes.mask.shape[1])
    shape = {name: getattr(config, name) for name in _SHAPE if hasattr(config, name)}
    policy = OfflineConfig(
        problem=request.problem.name,
        method=config.method,
        returns=data.returns,
        seed=config.seed,
        **sizes._asdict(),
        **shape,
    )
    return fit_offline(data.episodes, policy, config, data.run)


def fit_offline(
    episodes: PaddedEpisodes, config: OfflineConfig, schedule: OfflineTraining, run: TrainingRun
) -> TrainResult:
    """Train a policy on episodes and keep the best and the last.

    The constants of the `returns` in its config are fitted here if they are not yet, and what
    became of the pool's decisions is added to what the policy was trained on.

    Raises:
        InputError: If the episodes do not fit the config, or see `TrainingRun.train`.
    """
    if not config.returns.is_fitted:
        config = replace(config, returns=config.returns.fit(episodes))
    examples = Examples.of(episodes, config)
    trained_on = {**run.trained_on, "decisions": examples.counts._asdict()}

    def begin(last: Path | None) -> Learner:
        return _OfflineLearner(examples, config, schedule, last)

    return replace(run, trained_on=trained_on).train(begin, schedule)


class _OfflineLearner(Learner):
    """d3rlpy's algorithm, and the pool."""

    def __init__(
        self,
        examples: Examples,
        config: OfflineConfig,
        schedule: OfflineTraining,
        last: Path | None,
    ) -> None:
        self.examples, self.schedule = examples, schedule
        self.algorithm = D3Algorithm(config, schedule)
        self.network, self.optimizer = self.algorithm.network, self.algorithm.optimizer
        self.model = OfflineModel(config, self.algorithm.network).to(schedule.device)
        self.config = to_json(config)
        self.settings = {"train": to_json(schedule)}
        if last is None:
            self.model.normal.fit(examples.features)
        else:
            model, values = load_model(last)
            self.model.load_state_dict(model.state_dict())
            self.kept = kept_of(model, values)

    def update(self, number: int) -> dict[str, Any]:
        schedule, config = self.schedule, self.model.config
        batch = self.examples.batch(config, schedule.seed, number, schedule.batch_size)
        batch = {name: each.to(schedule.device) for name, each in batch.items()}
        metrics = self.algorithm.update(self.model.normalised(batch), number)
        check_finite("loss", metrics["loss"], number)
        return {**metrics, "learning_rate": self._learning_rate}

    @property
    def _learning_rate(self) -> float:
        return float(self.optimizer.param_groups[0]["lr"])

    def policy(self, trained_on: Mapping[str, Any]) -> OfflinePolicyFactory:
        return OfflinePolicyFactory(for_acting(self.model), trained_on=trained_on)

    def write(self, folder: Path, trained_on: Mapping[str, Any]) -> None:
        write_policy(folder, self.model, trained_on)

    def optimizer_state(self) -> dict[str, Tensor]:
        return super().optimizer_state() | {
            TARGET + name: each for name, each in self._target().items()
        }

    def load_optimizer_state(self, tensors: Mapping[str, Tensor], path: Path) -> None:
        target = self._target()
        for name, each in target.items():
            found = tensors.get(TARGET + name)
            if found is None or found.shape != each.shape:
                raise InputError(f"{path} must fit the policy, got no fitting {TARGET + name}")
            each.copy_(found)
        of_adam = {name: each for name, each in tensors.items() if not name.startswith(TARGET)}
        super().load_optimizer_state(of_adam, path)

    def _target(self) -> dict[str, Tensor]:
        """Return the target network's weights, nothing where there is none."""
        network = self.algorithm.networks.get("targ_q_funcs")
        return {} if network is None else dict(network.state_dict())

    def state(self) -> dict[str, Any]:
        """Return the number of tokens seen and the learning rate."""
        return {"tokens_seen": self.algorithm.tokens_seen, "learning_rate": self._learning_rate}

    def restore(self, state: Mapping[str, Any], path: Path) -> None:
        tokens_seen, rate = state.get("tokens_seen"), state.get("learning_rate")
        if type(tokens_seen) is not int or type(rate) is not float:
            raise InputError(
                f"{path} must have tokens_seen and learning_rate as numbers, "
                f"got {tokens_seen!r} and {rate!r}"
            )
        self.algorithm.recall(tokens_seen, rate)
