"""What a problem is: one row that names everything that belongs to it.

A row is data. What is heavy (an environment's kernel, torch) is named as "module:attribute" and
imported when it is first used.
"""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import gymnasium as gym

from netllm_gym.arrays import FloatArray
from netllm_gym.errors import InputError

PolicyFactory = Callable[[Any], Any]  # an environment -> its policy; windows -> their predictor


class PolicyEntry(NamedTuple):
    """Where a named policy's factory is.

    Attributes:
        target: "module:attribute", or a folder of weights that came with the package. A registered
            policy may also be an object that no other process can import.
        by_name: Whether the attribute makes the factory from the name.
        learned: Whether it was trained.
        trained_on: What a published policy is known to have been trained on.
        is_custom: Whether it was registered, and so is built as the policy of any user is.
    """

    target: Any
    by_name: bool = False
    learned: bool = False
    trained_on: str = ""
    is_custom: bool = False

    @property
    def is_folder(self) -> bool:
        """Whether it was trained here, and lies in the package as it lies in a run's folder."""
        return not self.is_custom and ":" not in self.target


class CaseOption(NamedTuple):
    """A part of a case that a command line may set."""

    kind: type
    help: str
    is_advanced: bool = False  # a short help of `train` leaves it out


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One problem in all layers: what those that are played and those that are not both have.

    Attributes:
        name: Short name, the same in every layer.
        title: What it is, in a few words.
        metric: What a table ranks by, one number per episode or window.
        metric_unit: Its unit.
        components: What is reported beside it.
        default_case: What makes a case, as trained on by default.
        dataset_option: Which of these names the data set (traces, workload, head movements).
        validation: Data set to train on -> data set to choose the best policy on; the two share no
            recording.
        test_dataset: What `bench` takes when it is not told.
        policies: Name -> entry.
        default_policies: What `bench` runs when it is not told.
        case_options: Parts of a case that a command may set, by their names.
        bound: Name of the policy that no other can beat; empty where there is none.
        higher_is_better: Of two values of the metric.
        groups: In words, what intervals are bootstrapped over.
        sample: What the metric is of, in a word.
        language_model: Class with the language model's parts for this problem, a `ProblemParts` or
            `PredictionParts` of `policies/llm/parts.py`; empty if it has none.
        pictures: Class that replays an episode or window for a report, a `Pictures` of
            `report/replay.py`; empty if a report shows tables only.
        demo: What `netllm-gym demo` runs, an attribute that is a `Demo` of `cli/demo.py`; empty if
            there is no demo.
        method_defaults: Training method -> fields of its config that have another default here.
    """

    name: str
    title: str
    metric: str
    metric_unit: str
    components: tuple[str, ...]
    default_case: Mapping[str, Any]
    dataset_option: str
    validation: Mapping[str, str]
    test_dataset: str
    policies: Mapping[str, PolicyEntry]
    default_policies: tuple[str, ...]
    case_options: Mapping[str, CaseOption]
    bound: str = ""
    higher_is_better: bool = True
    groups: str = ""
    sample: str = "episode"
    language_model: str = ""
    pictures: str = ""
    demo: str = ""
    method_defaults: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def test_case(self) -> dict[str, Any]:
        """Return the case that policies are compared on unless another one is named."""
        return {**self.default_case, self.dataset_option: self.test_dataset}

    def score(self, value: float) -> float:
        """Return a number that grows as the metric gets better."""
        return value if self.higher_is_better else -value

    @property
    def one_sample(self) -> str:
        """Return what the metric is of, with its article."""
        return f"{'an' if self.sample[0] in 'aeiou' else 'a'} {self.sample}"

    @property
    def component_of(self) -> str:
        """Say what the components are means of."""
        return self.one_sample

    def checked_case(self, **options: Any) -> dict[str, Any]:
        """Return the options that were given, not None; refuse those of other problems."""
        given = {name: value for name, value in options.items() if value is not None}
        for name in given:
            if name not in self.case_options:
                known = ", ".join(
                    each.replace("_", "-") for each in self.case_options if each in options
                )
                raise InputError(
                    f"{name.replace('_', '-')} must be left out for {self.name}, "
                    f"which has {known}, got {given[name]!r}"
                )
        return given

    def case_from_text(self, case: Mapping[str, str]) -> dict[str, Any]:
        """Return the arguments of a case that was written down as text, as a table does."""
        arguments: dict[str, Any] = {}
        for name, text in case.items():
            kind = self.case_options[name].kind
            try:
                arguments[name] = kind(text)
            except ValueError:
                raise InputError(f"{name} must be {kind.__name__}, got {text!r}") from None
        return arguments

    def validation_dataset(self, arguments: Mapping[str, Any], named: str | None) -> str:
        """Return the worlds to validate on that are named, else those of what is trained on.

        Altered worlds (`NAME~12`) have the same as those that were altered.

        Raises:
            InputError: If none are named and what is trained on has none of its own.
        """
        if named is not None:
            return named
        option = self.dataset_option
        trained_on = str(arguments.get(option, self.default_case[option]))
        plain = trained_on if trained_on in self.validation else trained_on.partition("~")[0]
        if plain not in self.validation:
            raise InputError(
                f"validate_on must name {option}, since {trained_on} has no validation list of its "
                f"own, as {', '.join(self.validation)} have"
            )
        return self.validation[plain]


@dataclass(frozen=True, kw_only=True)
class ControlProblem(Problem):
    """A problem that is played: policies act in an environment.

    The metric is a column of the environment's info, and so are the components.

    Attributes:
        env_id: Of its environment.
        interval_over: Field of an episode's case within which episodes are not independent.
        native: Arguments of the vector environment in which our own policies play. Where they
            change what is observed, it has the methods `public_env`, `public_observations` and
            `native_actions` (see `CJSVectorEnv`), so that policies of users can play in it too.
        validation_case: Arguments of the case that validation sets.
        validation_episodes: That a policy is chosen on, at least.
        shard_episodes: That a pool keeps in one file.
        metric_over: Which number of an episode's column: its mean or the last one.
        codec: Object that turns observations into columns of a pool and back, a `Codec` of
            `pools/shard.py`; empty for observations that are arrays of one shape.
        offline: Class with what the offline methods of d3rlpy need, a `ProblemParts` of
            `policies/offline/parts.py`; empty if they cannot learn this problem.
        online: Class with what online RL needs, an `OnlineParts` of `training/online.py`; empty if
            it cannot learn this problem.
    """

    env_id: str
    interval_over: str
    native: Mapping[str, Any] = field(default_factory=dict)
    validation_case: Mapping[str, Any] = field(default_factory=dict)
    validation_episodes: int = 100
    shard_episodes: int = 250
    metric_over: Literal["mean", "last"] = "mean"
    codec: str = ""
    offline: str = ""
    online: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "groups", self.interval_over.removesuffix("s") + "s")

    def metric_of(self, infos: Mapping[str, FloatArray]) -> float:
        """Return what an episode with these infos counts for in a table."""
        return self.value_of(self.metric, infos)

    def value_of(self, name: str, infos: Mapping[str, FloatArray]) -> float:
        """Return what a column of an episode's infos counts for in a table."""
        column = infos[name]
        return float(column.mean() if self.metric_over == "mean" else column[-1])

    @property
    def component_of(self) -> str:
        """Say what the components are means of."""
        return "a step" if self.metric_over == "mean" else self.one_sample

    def make_env(self, num_envs: int, **arguments: Any) -> Any:
        """Make the native vector environment that rollouts use: autoreset disabled."""
        return gym.make_vec(
            self.env_id,
            num_envs=num_envs,
            autoreset_mode="Disabled",
            **{**self.native, **arguments},
        ).unwrapped


@dataclass(frozen=True, kw_only=True)
class PredictionProblem(Problem):
    """A supervised problem: predictors are shown windows' histories and asked for their futures.

    Attributes:
        windows: Function that makes the windows of a case, as "module:attribute".
        scorer: Function that scores predictions of windows, as "module:attribute".
        step_s: From one future sample to the next.
    """

    windows: str
    scorer: str
    step_s: float

    def make_windows(self, **arguments: Any) -> Any:
        """Make the windows of a case; left-out parts are those of the default case."""
        return imported(self.windows)(**{**self.default_case, **arguments})

    def score_predictions(self, predictions: Any, windows: Any) -> Any:
        """Return the `PredictionScores` of predictions."""
        return imported(self.scorer)(predictions, windows)


def imported(target: str) -> Any:
    """Return what "module:attribute" names."""
    module, _, attribute = target.partition(":")
    return getattr(importlib.import_module(module), attribute)
