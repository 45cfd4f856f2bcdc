"""Train a policy by online RL: PPO in any control problem.

A control problem names a subclass of `OnlineParts`, which says what PPO needs of it. `train_online`
reads everything else from the request and the config, for every method and problem.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from netllm_gym.arrays import FloatArray
from netllm_gym.collection.collect import check_answers_anywhere, named_arguments
from netllm_gym.configs import check, to_json
from netllm_gym.envs.plan import PlannedEpisode
from netllm_gym.errors import InputError
from netllm_gym.files import errors_begin_with
from netllm_gym.policies.checkpoint import policy_sha256, read_schema
from netllm_gym.policies.loading import resolve_policy, weights_folder
from netllm_gym.policies.neural.checkpoint import SCHEMA, load_network
from netllm_gym.policies.neural.networks import Network
from netllm_gym.policies.policy import TrainedPolicyFactory
from netllm_gym.pools.episode import Episode
from netllm_gym.problems.problem import ControlProblem, PolicyFactory
from netllm_gym.training.advantages import Advantages, RolloutAdvantages
from netllm_gym.training.behaviour_cloning import BehaviourCloning
from netllm_gym.training.methods import TrainRequest, TrainResult
from netllm_gym.training.online_config import PPOConfig
from netllm_gym.training.ppo import EpisodeSource, PPOTask, episode_seeds, train_ppo
from netllm_gym.training.validation import validation_on

if TYPE_CHECKING:  # transformers are loaded only where a language model is trained
    from netllm_gym.policies.llm.model import LLMModel


class OnlineParts(ABC):
    """What PPO needs of a control problem, made anew for each run.

    A problem's `online` names a subclass as "module:Class". It must say which network begins; all
    other methods have a default that fits a problem whose environment draws training episodes from
    seeds.

    Args:
        problem: The problem.
        case: Parts of the case that are given; the problem's default case has the others.
        config: Options of PPO.

    Attributes:
        arguments: Of the environment that is trained in.
        env: An environment of one row, to read constants from.
        default_baseline: Baseline of returns if the config names none.
        only_with_critic: Options that have no effect with the baseline rollouts.
        default_critic: Name of the network whose critic a language model uses if the config names
            none; None takes the critic of a new network.
    """

    default_baseline: ClassVar[Literal["critic", "rollouts"]] = "critic"
    default_critic: ClassVar[str | None] = None
    only_with_critic: ClassVar[tuple[str, ...]] = (
        "gae_lambda",
        "value_coef",
        "advantage_scaling_power",
        "reward_scale",
        "reward_floor",
    )

    def __init__(self, problem: ControlProblem, case: Mapping[str, Any], config: PPOConfig) -> None:
        self.problem, self.config = problem, config
        self.baseline = config.baseline or self.default_baseline
        fits = self.baseline == "critic" or config.episodes % config.rollouts == 0
        rule = f"be a multiple of the {config.rollouts} rollouts"
        check(fits, "episodes", rule, config.episodes)
        self.arguments = {**problem.default_case, **case}
        self.env = problem.make_env(1, **self.arguments)

    @abstractmethod
    def new_network(self, seed: int) -> Network:
        """Return a network with random weights for `env`."""

    def check_network(self, network: Network, role: str) -> None:
        """Refuse a trained network that cannot be trained further here.

        `role` is what an error calls it: init_from or critic.
        """
        with errors_begin_with(f"{role} must fit the case"):
            network.check_env(self.env)

    def language_model(self, model: "LLMModel", critic: Network | None) -> Network:
        """Return a language model, and the network whose critic it uses, as one network."""
        from netllm_gym.training.llm_ppo import EpisodeLLM

        return EpisodeLLM(model, critic)

    @property
    def loaded_arguments(self) -> dict[str, Any]:
        """The arguments, with the data of `env` in place of their names."""
        return {**self.arguments, **self.env.loaded}

    def make_env(self, num_envs: int) -> Any:
        """Make an environment to train in, of the same data as `env`."""
        return self.problem.make_env(num_envs, **self.loaded_arguments)

    def episode_source(self) -> EpisodeSource:
        """Return which episodes each update plays."""
        rollouts = self.config.rollouts if self.baseline == "rollouts" else 1
        return TrainingEpisodes(self.make_env(self.config.episodes), self.config.seed, rollouts)

    def pretraining_source(self) -> EpisodeSource:
        """Return which episodes each update of pretraining plays."""
        env = self.make_env(self.config.pretrain_episodes)
        return TrainingEpisodes(env, self.config.seed, first_update=self.config.updates)

    def pretraining_teacher(self, teacher: PolicyFactory) -> PolicyFactory:
        """Return the teacher so that it sees no more than policies may see.

        That matters where the environments of `pretraining_source` show the critic more.
        """
        return teacher

    def advantages(self) -> Advantages | None:
        """Return what finds the advantages of episodes; None uses the network's critic."""
        if self.baseline == "critic":
            return None
        return RolloutAdvantages(self.config.rollouts, _steps, lambda gaps: self.config.gamma**gaps)

    def trained_on(self) -> dict[str, Any]:
        """Return which data is trained on, as JSON values, with the names of `recordings`."""
        return dict(self.env.provenance([]))


class TrainingEpisodes(EpisodeSource):
    """Episodes that an environment's `training_plan` draws from seeds.

    So many `rollouts` in a row have the same random input, and update 0 draws its seeds by the
    number `first_update`.
    """

    def __init__(self, env: Any, seed: int, rollouts: int = 1, first_update: int = 0) -> None:
        self._env, self._seed = env, seed
        self._rollouts, self._first_update = rollouts, first_update

    def episodes(
        self, update: int, policy: Callable[[], TrainedPolicyFactory]
    ) -> tuple[Any, list[PlannedEpisode]]:
        """Return the environment and the plan of an update."""
        number = self._first_update + update
        seeds = episode_seeds(self._seed, number, self._env.num_envs).tolist()
        plan = self._env.training_plan(seeds)
        if self._rollouts > 1:
            # Rollouts differ in their seeds, hence in the policy's draws, but not in their options.
            if not all(planned.options for planned in plan):
                raise InputError(
                    "baseline must be critic where the seed alone decides an episode, got rollouts"
                )
            options = [planned.options for planned in plan[:: self._rollouts]]
            plan = [
                PlannedEpisode(seed, options[index // self._rollouts])
                for index, seed in enumerate(seeds)
            ]
        return self._env, plan


def train_online(request: TrainRequest, config: PPOConfig) -> TrainResult:
    """Train a policy by PPO or an extension of it, in the episodes that it plays itself."""
    problem = request.problem
    if not isinstance(problem, ControlProblem) or not problem.online:
        raise InputError(f"problem must be a control problem with online RL, got {problem.name}")
    parts: OnlineParts = problem.part("online", OnlineParts, problem, request.case, config)
    if parts.baseline == "rollouts":
        where = f"with the baseline rollouts, where it has no effect in {problem.name}"
        defaults = problem.method_defaults.get(request.method, {})
        config.check_left_out(parts.only_with_critic, where, defaults)
    validation = validation_on(problem, parts.arguments, request.validate_on)
    start, pretraining = _initial_network(parts), None
    if config.pretrain_updates:
        teacher = resolve_policy(config.pretrain_teacher, problem)
        check_answers_anywhere("pretrain_teacher", teacher, parts.env)
        shown_less = parts.pretraining_teacher(teacher.factory)
        pretraining = BehaviourCloning(parts.pretraining_source(), shown_less, config).update
        start.sources.append({"recordings": teacher.recordings | teacher.selected_on})
        if teacher.sha256:
            start.sha256["pretrain_teacher_sha256"] = teacher.sha256
    trained_on = {
        **_origin(parts.trained_on(), start.sources, problem.case_options),
        **start.sha256,
        "method": request.method,
    }
    of_ppo = {each.name for each in fields(PPOConfig)}
    if own := {name: value for name, value in to_json(config).items() if name not in of_ppo}:
        trained_on["options"] = own
    task = PPOTask(
        start.network,
        parts.episode_source(),
        advantages=parts.advantages(),
        pretraining=pretraining,
        settings={"case": named_arguments(parts.arguments)},
        warm_start=config.init_from is not None,
    )
    return train_ppo(task, config, validation.run(request, trained_on))


@dataclass
class _Start:
    """The network with which training begins, and where it comes from."""

    network: Network
    sources: list[Mapping[str, Any]] = field(default_factory=list)  # `trained_on` of its policies
    sha256: dict[str, str] = field(default_factory=dict)  # role of a policy -> hash of its files


def _origin(
    trained_on: Mapping[str, Any], sources: Sequence[Mapping[str, Any]], joined: Iterable[str]
) -> dict[str, Any]:
    """Return where a policy comes from that was trained on several data sets in turn.

    The entries `joined` list the names of all; the others are those of the last data set.
    """
    recordings = set(trained_on["recordings"])
    for source in sources:
        recordings.update(source.get("recordings", ()), source.get("validation_recordings", ()))
    origin = {**trained_on, "recordings": sorted(recordings)}
    for key in joined:
        if key in trained_on:
            parts = [str(source.get(key, "")).split(" + ") for source in sources]
            names = [name for part in parts for name in part if name]
            origin[key] = " + ".join(dict.fromkeys([*names, str(trained_on[key])]))
    return origin


def _initial_network(parts: OnlineParts) -> _Start:
    """Return a new network, or the policy that the config names."""
    config = parts.config
    if config.init_from is None:
        return _Start(_with_critic(parts, parts.new_network(config.seed)))
    folder = weights_folder(config.init_from, parts.problem, "init_from")
    sha256, no_critic = {"init_from_sha256": policy_sha256(folder)}, config.critic is None
    if read_schema(folder) == SCHEMA:
        check(no_critic, "critic", "be left out for a network, which has its own", config.critic)
        network, trained_on = _trained_network(parts, "init_from", folder)
        return _Start(_with_critic(parts, network), [trained_on], sha256)
    model, trained_on = _trained_model(parts, folder)
    sources, critic = [trained_on], None
    name = config.critic or parts.default_critic
    if parts.baseline == "rollouts":
        check(no_critic, "critic", "be left out for the rollouts baseline", config.critic)
    elif name is None:
        critic = _with_critic(parts, parts.new_network(config.seed))
    else:
        of_critic = weights_folder(name, parts.problem, "critic")
        network, trained_on = _trained_network(parts, "critic", of_critic)
        critic = _with_critic(parts, network)
        sources.append(trained_on)
        sha256["critic_sha256"] = policy_sha256(of_critic)
    return _Start(parts.language_model(model, critic), sources, sha256)


def _with_critic(parts: OnlineParts, network: Network) -> Network:
    """Return a network, which must have a critic if the baseline needs one."""
    if parts.baseline == "critic" and network.critic_part() is None:
        raise InputError("baseline must be rollouts for a network without a critic, got 'critic'")
    return network


def _trained_network(
    parts: OnlineParts, role: str, folder: Path
) -> tuple[Network, Mapping[str, Any]]:
    """Return a trained network of the problem, and what it was trained on."""
    rule = f"{role} must be a network trained by online RL on {parts.problem.name}"
    if read_schema(folder) != SCHEMA:
        raise InputError(f"{rule}, got {folder}")
    network, values = load_network(folder)
    if not isinstance(network, Network) or network.config.problem != parts.problem.name:
        raise InputError(f"{rule}, got {folder}, a network for {network.config.problem}")
    parts.check_network(network, role)
    return network, values["trained_on"]


def _trained_model(parts: OnlineParts, folder: Path) -> tuple["LLMModel", Mapping[str, Any]]:
    """Return a trained language model of the problem, and what it was trained on."""
    from netllm_gym.policies.llm.checkpoint import SCHEMA as MODEL_SCHEMA
    from netllm_gym.policies.llm.checkpoint import load_model
    from netllm_gym.policies.llm.parts import parts_of

    if read_schema(folder) != MODEL_SCHEMA:
        raise InputError(
            "init_from must be a network trained by online RL or a language model, "
            f"got {folder}, a policy of another kind"
        )
    model, values = load_model(folder)
    config = model.config
    for rule, found, wanted in (
        (f"be a policy for {parts.problem.name}", config.problem, parts.problem.name),
        ("be given no returns, which are not known beforehand", config.returns.kind, "none"),
    ):
        if found != wanted:
            raise InputError(f"init_from must {rule}, got {found}")
    if (config.backbone.adapt, config.backbone.dtype) == ("full", "bfloat16"):
        raise InputError(
            "init_from must have weights of float32 where all of them are trained, got bfloat16"
        )
    with errors_begin_with("init_from must fit the case"):
        parts_of(config.problem).check_env(config, parts.env)
    return model, values["trained_on"]


def _steps(episode: Episode) -> FloatArray:
    """Return (T,) numbers of an episode's decisions."""
    return np.arange(len(episode.rewards), dtype=np.float64)
