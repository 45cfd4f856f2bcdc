"""What a problem is: one row that names everything that belongs to it.

A row is data, so that it can be pickled and listed without importing anything heavy. Code that
belongs to a problem (its environment, its language-model parts, its pictures) is named as
"module:attribute" and imported when it is first used.
"""

import importlib
import inspect
import re
import shlex
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol

import gymnasium as gym

from netllm_gym.arrays import BoolArray, FloatArray
from netllm_gym.configs import from_text, in_words, options_of, without_none
from netllm_gym.envs.plan import PlannedEpisode
from netllm_gym.errors import InputError

# Names of the options that commands have themselves, so that no part of a case can have them.
RESERVED = {
    *("problem", "policies", "episodes", "out", "seed", "workers", "lookahead", "expert", "versus"),
    *("device", "json_file", "time_limit_s", "config_file", "help_all", "pool", "validate_on"),
}
PolicyFactory = Callable[[Any], Any]  # an environment -> its policy; windows -> their predictor


class ControlEnv(Protocol):
    """What rollouts, collection, evaluation and training need of a native vector environment.

    N rows play independent episodes in one call. The environment is a Gymnasium vector environment
    that is made with `autoreset_mode="Disabled"`: a row whose episode is over stays as it is, with
    reward 0, until `reset` names it. What else it offers, such as the video of ABR, is known only
    to the policies and parts of its own problem.

    Attributes:
        num_envs: N, the number of rows.
        single_observation_space: Space of the observation of one row.
        single_action_space: Space of the action of one row.
    """

    num_envs: int
    single_observation_space: gym.Space[Any]
    single_action_space: gym.Space[Any]

    @property
    def loaded(self) -> dict[str, Any]:
        """Arguments of `make_env` that make a second environment without reading the data again."""

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        """Begin new episodes.

        Args:
            seed: N seeds, one per row, None for the rows that do not begin.
            options: `reset_mask`, (N,) bool, the rows that begin; and for each option of the
                planned episodes (N,) int64 with its value in each row.

        Returns:
            (N, ...) observations of all rows, and infos: columns (N,) by name.
        """

    def step(self, actions: Any) -> tuple[Any, FloatArray, BoolArray, BoolArray, dict[str, Any]]:
        """Take one step in every row.

        Args:
            actions: (N,) or (N, parts) int64; those of finished rows are ignored.

        Returns:
            (N, ...) observations, (N,) float64 rewards, (N,) bool terminated, (N,) bool truncated,
            and infos: columns (N,) by name, among them the problem's metric and its components.
        """

    def case(self, row: int) -> dict[str, str | int]:
        """Describe the episode that a row plays.

        Two fields are needed: the one that `interval_over` of the problem names, which says what
        recording is played, and `content`, which is equal for equal recordings of other names.
        """

    def evaluation_plan(self, at_least: int = 1) -> list[PlannedEpisode]:
        """Return the episodes of an evaluation, the same for every policy; there may be more."""

    def training_plan(self, seeds: Sequence[int]) -> list[PlannedEpisode]:
        """Return one training episode for each seed; no evaluation contains them."""

    def provenance(self, plan: Sequence[PlannedEpisode]) -> dict[str, Any]:
        """Describe the data behind planned episodes, as JSON values.

        The names are those of tables and training records: the problem's dataset option with the
        name of the data set, `recordings` with the sorted names of all recordings, by which leaks
        from training to test are found, and `sha256` of everything that is played.
        """


class PolicyEntry(NamedTuple):
    """Where the factory of a named policy is."""

    # "module:attribute", or a folder of weights that is part of the package. A registered policy
    # may also be an object that no other process can import.
    target: Any
    by_name: bool = False  # whether the attribute makes the factory from the name
    learned: bool = False  # whether the policy was trained
    trained_on: str = ""  # what a published policy is known to have been trained on
    # whether the policy was registered, and so is built as any user's policy is
    is_custom: bool = False

    @property
    def is_folder(self) -> bool:
        """Whether the target is a folder of weights, as a training run writes it."""
        return not self.is_custom and ":" not in self.target


class CaseOption(NamedTuple):
    """One part of a case that the command line can set."""

    kind: Any  # type of its value: str, bool, int, float or a tuple of one of these
    help: str  # what it is, for `--help`
    is_advanced: bool = False  # whether the short help of `train` leaves it out
    title: str = ""  # what its named values are, in the plural, for `netllm-gym data list`
    # function that lists its named values, as "module:attribute"; it returns pairs of a name and
    # what is known of it on this machine. Empty if there are no named values.
    names: str = ""
    takes_path: bool = False  # whether a path is a value, too
    # whether a policy is trained for one value; a table says where it is played with another one
    is_rule: bool = False

    def value(self, name: str, given: Any) -> Any:
        """Return the value that was given; a text says it as the command line and tables do."""
        if not isinstance(given, str) or self.kind is str:
            return given
        try:
            return from_text(self.kind, given)
        except ValueError:
            raise InputError(f"{name} must be {in_words(self.kind)}, got {given!r}") from None


def case_options_of(config: Any, *, is_rule: bool = False) -> dict[str, CaseOption]:
    """Return the fields of a config as parts of a case, with their help."""
    return {
        name: CaseOption(without_none(each.kind), each.help, is_advanced=True, is_rule=is_rule)
        for name, each in options_of(config).items()
    }


class DemoRun(NamedTuple):
    """A training run of a demonstration."""

    method: str  # training method
    options: Mapping[str, Any]  # options of the method that differ from their defaults


@dataclass(frozen=True, kw_only=True)
class Demo:
    """What `netllm-gym demo` runs: a few minutes' work on two cores."""

    runs: Mapping[str, DemoRun]  # name of each policy that is trained -> how
    # options of the methods that all runs share
    options: Mapping[str, Any] = field(default_factory=dict)
    # parts of the case that differ from the problem's default
    case: Mapping[str, Any] = field(default_factory=dict)
    # for control problems: policies whose episodes make the pool that is learned from
    teachers: tuple[str, ...] = ()
    episodes: int = 0  # episodes of each teacher


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One problem in all layers: what control and prediction problems have in common.

    Attributes:
        name: Short name, an identifier, the same in every layer.
        title: Name in a few words.
        metric: What tables rank by; one number per episode or window.
        metric_unit: Unit of the metric.
        components: Further numbers that tables report.
        default_case: The default case: the data set and the sizes of the environment.
        dataset_option: Which part of a case names the data set.
        validation: Data set to train on -> data set on which the best policy is chosen. The two
            share no recording.
        test_dataset: Data set that `bench` takes by default.
        policies: Name -> entry of each named policy.
        default_policies: Policies that `bench` runs by default.
        case_options: Name -> each part of a case that a command can set.
        measure_option: Which part of a case gives the metric another measure, without the unit;
            empty if there is one measure.
        bound: Name of the policy that no other can beat; empty if there is none.
        higher_is_better: Whether a higher metric is better.
        groups: What confidence intervals are bootstrapped over, in words.
        sample: What one value of the metric belongs to, in a word.
        networks: Kind of a small network, as policies on disk name it -> its class, as
            "module:Class".
        language_model: Class with the language model's parts for this problem, a subclass of
            `ProblemParts` or `PredictionParts` of `policies/llm/parts.py`; empty if it has none.
        pictures: Class that replays an episode or window for a report, a subclass of `Pictures` of
            `report/replay.py`; empty if reports show tables only.
        demo: What `netllm-gym demo` runs; None if there is no demonstration.
        how_to_split: How a validation data set is made of a data set, with {} for the data set;
            empty if no command makes one.
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
    measure_option: str = ""
    bound: str = ""
    higher_is_better: bool = True
    groups: str = ""
    sample: str = "episode"
    networks: Mapping[str, str] = field(default_factory=dict)
    language_model: str = ""
    pictures: str = ""
    demo: Demo | None = None
    how_to_split: str = ""
    method_defaults: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        named = [*self.default_policies, *([self.bound] if self.bound else [])]
        reserved = [each for each in self.case_options if each in RESERVED]
        for rule, wrong in (
            ("name must be an identifier", [] if self.name.isidentifier() else [self.name]),
            (
                "default_case must name parts of case_options",
                _absent(self.default_case, self.case_options),
            ),
            ("case_options must not have the names of options of the commands", reserved),
            (
                "dataset_option must be part of default_case",
                _absent([self.dataset_option], self.default_case),
            ),
            ("default_policies and bound must be among policies", _absent(named, self.policies)),
        ):
            if wrong:
                raise InputError(f"problem {self.name}: {rule}, got {wrong[0]!r}")

    @property
    def test_case(self) -> dict[str, Any]:
        """Return the case that policies are compared on unless another one is named."""
        return {**self.default_case, self.dataset_option: self.test_dataset}

    def unit_in(self, case: Mapping[str, str]) -> str:
        """Return the unit of the metric in a case, or what takes its place."""
        measure = case.get(self.measure_option)
        _, per, sample = self.metric_unit.partition(" per ")
        return self.metric_unit if measure is None else f"the measure {measure}{per}{sample}"

    def score(self, value: float) -> float:
        """Return a number that grows as the metric gets better."""
        return value if self.higher_is_better else -value

    @property
    def one_sample(self) -> str:
        """What one value of the metric belongs to, with its article."""
        return f"{'an' if self.sample[0] in 'aeiou' else 'a'} {self.sample}"

    @property
    def component_of(self) -> str:
        """What the components are means of, with its article."""
        return self.one_sample

    def checked_case(self, **options: Any) -> dict[str, Any]:
        """Return the options that were given (not None), typed; refuse those of another problem."""
        given = {name: value for name, value in options.items() if value is not None}
        for name in given:
            if name not in self.case_options:
                known = ", ".join(each.replace("_", "-") for each in self.case_options)
                raise InputError(
                    f"{name.replace('_', '-')} must be left out for {self.name}, "
                    f"which has {known}, got {given[name]!r}"
                )
        return {name: self.case_options[name].value(name, it) for name, it in given.items()}

    def case_from_text(self, case: Mapping[str, str]) -> dict[str, Any]:
        """Return a case whose values were written as text, as tables do, with their own types."""
        return {name: self.case_options[name].value(name, text) for name, text in case.items()}

    def validation_dataset(self, arguments: Mapping[str, Any], named: str | None) -> str:
        """Return the data set on which the best policy is chosen: the named one, or its own.

        An altered data set (`NAME~12`) has the validation data set of the one that was altered.

        Raises:
            InputError: If none is named and what is trained on has none of its own.
        """
        if named == "":
            raise InputError("validate_on must name a data set, got an empty text")
        if named is not None:
            return named
        option = self.dataset_option
        trained_on = str(arguments.get(option, self.default_case[option]))
        plain = trained_on if trained_on in self.validation else trained_on.partition("~")[0]
        if plain not in self.validation:
            hint = f"; {self.how_to_split.format(shlex.quote(plain))}" if self.how_to_split else ""
            raise InputError(
                f"--validate-on must name a data set, as --{option.replace('_', '-')} does, since "
                f"{plain} has none of its own for validation{hint}"
            )
        return self.validation[plain]

    def part(self, name: str, kind: type, *arguments: Any) -> Any:
        """Return an instance of the class that the row names in one of its fields.

        Raises:
            InputError: If the field is empty, or does not name a complete subclass of `kind`.
        """
        target: str = getattr(self, name, "")
        if not target:
            raise InputError(f"problem must be one whose row names {name}, got {self.name!r}")
        found = imported(target)
        whose, base = f"{name} of the problem {self.name}", f"{kind.__module__}.{kind.__name__}"
        if not (inspect.isclass(found) and issubclass(found, kind)):
            raise InputError(f"{whose} must name a subclass of {base}, got {target!r}")
        if missing := sorted(getattr(found, "__abstractmethods__", ())):
            raise InputError(f"{whose} must define {', '.join(missing)} of {base}, got {target!r}")
        return found(*arguments)


@dataclass(frozen=True, kw_only=True)
class ControlProblem(Problem):
    """A control problem: policies act in an environment.

    The metric and its components are columns of the environment's infos.

    Attributes:
        env_id: Gymnasium id of the environment, whose vector environment is a `ControlEnv`.
        interval_over: Field of an episode's case; episodes that agree in it are not independent.
        native: Arguments of the vector environment in which policies of this package act. Where
            they change what is observed, it has the methods `public_env`, `public_observations` and
            `native_actions` (see `CJSVectorEnv`), so that policies of users can act in it too.
        validation_case: Parts of the case that validation sets.
        validation_episodes: Least number of episodes on which a policy is chosen.
        shard_episodes: Episodes of one file of a pool.
        metric_over: Whether an episode's metric is the mean of its column or the last value.
        codec: Object that turns observations into columns of a pool and back, a `Codec` of
            `pools/shard.py`; empty for observations that are arrays of one shape.
        offline: Class with what the offline methods of d3rlpy need, a subclass of `ProblemParts`
            of `policies/offline/parts.py`; empty if they cannot learn this problem.
        online: Class with what online RL needs, a subclass of `OnlineParts` of
            `training/online.py`; empty if it cannot learn this problem.
        online_without: Parts of the case that online RL refuses.
        action_meaning: Function that says in words what the actions and rewards of an environment
            mean, as "module:attribute"; empty if they mean the same in every case. Nothing learns
            from pools together in which they mean different things.
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
    online_without: tuple[str, ...] = ()
    action_meaning: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "groups", self.interval_over.removesuffix("s") + "s")

    def metric_of(self, infos: Mapping[str, FloatArray]) -> float:
        """Return the metric of an episode with these infos, (T,) each."""
        return self.value_of(self.metric, infos)

    def value_of(self, name: str, infos: Mapping[str, FloatArray]) -> float:
        """Return the value of a column for an episode with these infos, (T,) each."""
        column = infos[name]
        return float(column.mean() if self.metric_over == "mean" else column[-1])

    @property
    def component_of(self) -> str:
        """What the components are means of, with its article."""
        return "a step" if self.metric_over == "mean" else self.one_sample

    def make_env(self, num_envs: int, **arguments: Any) -> Any:
        """Make the `ControlEnv` that rollouts use: a vector environment without autoreset."""
        with _unknown_parts_refused(self.name):
            return gym.make_vec(
                self.env_id,
                num_envs=num_envs,
                autoreset_mode="Disabled",
                **{**self.native, **arguments},
            ).unwrapped


@dataclass(frozen=True, kw_only=True)
class PredictionProblem(Problem):
    """A prediction problem: predictors see the history of a window and predict its future.

    Attributes:
        windows: Function that makes the windows of a case, as "module:attribute".
        scorer: Function that scores predictions of windows, as "module:attribute".
        step_s: Time between two future samples, in seconds.
    """

    windows: str
    scorer: str
    step_s: float

    def make_windows(self, **arguments: Any) -> Any:
        """Make the windows of a case; parts that are left out are those of the default case."""
        with _unknown_parts_refused(self.name):
            return imported(self.windows)(**{**self.default_case, **arguments})

    def score_predictions(self, predictions: Any, windows: Any) -> Any:
        """Return the `PredictionScores` of predictions."""
        return imported(self.scorer)(predictions, windows)


def _absent(names: Iterable[str], known: Container[str]) -> list[str]:
    return [each for each in names if each not in known]


@contextmanager
def _unknown_parts_refused(problem: str) -> Iterator[None]:
    """Turn Python's complaint about an unknown part of a case into one of ours."""
    try:
        yield
    except TypeError as error:
        unknown = re.search(r"unexpected keyword argument '(\w+)'", str(error))
        if unknown is None:
            raise
        raise InputError(f"case must have parts that {problem} knows, got {unknown[1]!r}") from None


def imported(target: str) -> Any:
    """Return what "module:attribute" or "module" names.

    Raises:
        InputError: If there is no such module or attribute.
    """
    module, _, attribute = target.partition(":")
    absent = InputError(f"{target!r} must name a module or an attribute of one, got none")
    if not module:
        raise absent
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if not f"{module}.".startswith(f"{error.name}."):  # a package that the module needs
            raise
        raise absent from None
    if not hasattr(found, attribute or "__name__"):
        raise absent
    return getattr(found, attribute) if attribute else found
