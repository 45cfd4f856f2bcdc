"""The index of the house: one row per problem, naming what belongs to it in every layer.

Rows are data. What is heavy (torch, a kernel) is named as "module:attribute" and imported when it
is asked for.
"""

import difflib
import importlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import gymnasium as gym

from netllm_gym.data.episode import Episode
from netllm_gym.errors import InputError, MissingDataError

PolicyFactory = Callable[[Any], Any]  # an environment -> its policy; windows -> their predictor


class PolicyEntry(NamedTuple):
    """Where a named policy's factory is."""

    target: str  # "module:attribute", or a folder of weights that came with the package
    by_name: bool = False  # the attribute makes the factory from the name
    learned: bool = False
    trained_on: str = ""  # what a published policy is known to have been trained on

    @property
    def is_folder(self) -> bool:
        """Whether it was trained here, and lies in the package as it lies in a run's folder."""
        return ":" not in self.target


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
        worlds: Which of these names the worlds that are split into training, validation and test.
        validation: Worlds to train on -> worlds to choose the best policy on, no recording shared.
        test_worlds: What `bench` takes when it is not told.
        policies: Name -> entry.
        default_policies: What `bench` runs when it is not told.
        case_options: Parts of a case that a command may set -> their type.
        bound: Name of the policy that no other can beat; empty where there is none.
        higher_is_better: Of two values of the metric.
        groups: In words, what intervals are bootstrapped over.
        sample: What the metric is of, in a word.
    """

    name: str
    title: str
    metric: str
    metric_unit: str
    components: tuple[str, ...]
    default_case: Mapping[str, Any]
    worlds: str
    validation: Mapping[str, str]
    test_worlds: str
    policies: Mapping[str, PolicyEntry]
    default_policies: tuple[str, ...]
    case_options: Mapping[str, type]
    bound: str = ""
    higher_is_better: bool = True
    groups: str = ""
    sample: str = "episode"

    def goodness(self, value: float) -> float:
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
            kind = self.case_options[name]
            try:
                arguments[name] = kind(text)
            except ValueError:
                raise InputError(f"{name} must be {kind.__name__}, got {text!r}") from None
        return arguments

    def validation_worlds(self, arguments: Mapping[str, Any], named: str | None) -> str:
        """Return the worlds to validate on that are named, else those of what is trained on.

        Altered worlds (`NAME~12`) have the same as those that were altered.

        Raises:
            InputError: If none are named and what is trained on has none of its own.
        """
        if named is not None:
            return named
        trained_on = str(arguments.get(self.worlds, self.default_case[self.worlds]))
        plain = trained_on if trained_on in self.validation else trained_on.partition("~")[0]
        if plain not in self.validation:
            raise InputError(
                f"validate_on must name {self.worlds}, since {trained_on} has no validation list "
                f"of its own, as {', '.join(self.validation)} have"
            )
        return self.validation[plain]


@dataclass(frozen=True, kw_only=True)
class ControlProblem(Problem):
    """A problem that is played: policies act in an environment.

    The metric is a column of the environment's info, and so are the components.

    Attributes:
        env_id: Of its environment.
        interval_over: Field of an episode's case within which episodes are not independent.
        native: Arguments of the vector environment in which our own policies play.
        validation_case: Arguments of the case that validation sets.
        validation_episodes: That a policy is chosen on, at least.
        shard_episodes: That a pool keeps in one file.
        metric_over: Which number of an episode's column: its mean or the last one.
    """

    env_id: str
    interval_over: str
    native: Mapping[str, Any] = field(default_factory=dict)
    validation_case: Mapping[str, Any] = field(default_factory=dict)
    validation_episodes: int = 100
    shard_episodes: int = 250
    metric_over: Literal["mean", "last"] = "mean"

    def __post_init__(self) -> None:
        object.__setattr__(self, "groups", self.interval_over.removesuffix("s") + "s")

    def metric_of(self, episode: Episode) -> float:
        """Return what an episode counts for in a table."""
        return self.value_of(self.metric, episode)

    def value_of(self, name: str, episode: Episode) -> float:
        """Return what a column of an episode's infos counts for in a table."""
        column = episode.infos[name]
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
        return _imported(self.windows)(**{**self.default_case, **arguments})

    def score(self, predictions: Any, windows: Any) -> Any:
        """Return the `PredictionScores` of predictions."""
        return _imported(self.scorer)(predictions, windows)


_RULES, _MPC = "netllm_gym.policies.baselines.abr", "netllm_gym.policies.baselines.abr_mpc"
_SMOOTHED = "netllm_gym.policies.baselines.abr_throughput"
_SCHEDULERS = "netllm_gym.policies.baselines.cjs"
_PREDICTORS = "netllm_gym.policies.baselines.vp"
_ACTORS = PolicyEntry(
    "netllm_gym.policies.neural.abr:reference_actor",
    by_name=True,
    learned=True,
    trained_on="unknown (published weights)",
)

PACKAGE = Path(__file__).parent
FOLDER_READERS = {  # schema of a trained policy's config.json -> what reads its folder
    "netllm-gym policy 1": "netllm_gym.policies.llm.checkpoint:load_llm_policy",
    "netllm-gym network 1": "netllm_gym.policies.neural.checkpoint:load_network_policy",
    "netllm-gym offline policy 1": "netllm_gym.policies.offline.policy:load_offline_policy",
}

PROBLEMS: dict[str, Problem] = {
    "abr": ControlProblem(
        name="abr",
        title="adaptive bitrate streaming",
        env_id="NetLLM-ABR-v0",
        metric="qoe",
        metric_unit="Mbit/s per chunk",
        components=("bitrate_mbps", "rebuffer_s", "smoothness_mbps"),
        default_case={"traces": "synthetic", "video": "synthetic"},
        worlds="traces",
        validation={
            "synthetic": "synthetic-valid",
            "synthetic-uniform": "synthetic-uniform-valid",
            "synthetic-markov": "synthetic-markov-valid",
            "clean-train": "clean-valid",
            "clean-train-fcc": "clean-valid-fcc",
            "clean-train-norway": "clean-valid-norway",
        },
        test_worlds="synthetic-test",
        interval_over="recording",
        policies={
            "lowest": PolicyEntry(f"{_RULES}:Lowest"),
            "random": PolicyEntry(f"{_RULES}:Random"),
            "rate_based": PolicyEntry(f"{_RULES}:RateBased"),
            "throughput_rule": PolicyEntry(f"{_SMOOTHED}:ThroughputRule"),
            "festive": PolicyEntry(f"{_SMOOTHED}:Festive"),
            "bba": PolicyEntry(f"{_RULES}:BBA"),
            "bola": PolicyEntry(f"{_RULES}:BOLA"),
            "robust_mpc": PolicyEntry(f"{_MPC}:RobustMPC"),
            "netllm_mpc": PolicyEntry(f"{_MPC}:NetLLMMPC"),
            "genet_reference": _ACTORS,
            "udr_1_reference": _ACTORS,
            "udr_2_reference": _ACTORS,
            "udr_3_reference": _ACTORS,
            "udr_real_reference": _ACTORS,
            "ppo": PolicyEntry("weights/abr/ppo", learned=True),
            "genet": PolicyEntry("weights/abr/genet", learned=True),
            "netllm": PolicyEntry("weights/abr/netllm", learned=True),
            "optimum": PolicyEntry("netllm_gym.policies.baselines.abr_optimum:OptimumPolicy"),
        },
        bound="optimum",
        case_options={"traces": str, "video": str, "noise": bool},
        validation_case={"noise": False},
        default_policies=(
            *("lowest", "random", "rate_based", "bba", "bola", "robust_mpc", "optimum"),
        ),
    ),
    "cjs": ControlProblem(
        name="cjs",
        title="cluster job scheduling",
        env_id="NetLLM-CJS-v0",
        metric="jct_s",
        metric_unit="seconds from arrival to completion, mean over jobs",
        components=("jct_p95_s", "makespan_s", "utilisation"),
        default_case={"workload": "synthetic", "num_executors": 50, "num_jobs": 200},
        worlds="workload",
        validation={"synthetic": "synthetic-valid", "tpch": "tpch-valid"},
        test_worlds="synthetic",
        interval_over="arrivals",
        policies={
            "random": PolicyEntry(f"{_SCHEDULERS}:Random"),
            "fifo": PolicyEntry(f"{_SCHEDULERS}:FIFO"),
            "fifo_half": PolicyEntry(f"{_SCHEDULERS}:FIFOHalf"),
            "fair": PolicyEntry(f"{_SCHEDULERS}:Fair"),
            "weighted_fair": PolicyEntry(f"{_SCHEDULERS}:WeightedFair"),
            "sjf_cp": PolicyEntry(f"{_SCHEDULERS}:SJFCP"),
            "srpt": PolicyEntry(f"{_SCHEDULERS}:SRPT"),
            "tuned_srpt": PolicyEntry(f"{_SCHEDULERS}:TunedSRPT"),
            "decima_reference": PolicyEntry(
                "netllm_gym.policies.neural.cjs:decima_reference",
                by_name=True,
                learned=True,
                trained_on="tpch (published weights)",
            ),
            "decima": PolicyEntry("weights/cjs/decima", learned=True),
            "netllm": PolicyEntry("weights/cjs/netllm", learned=True),
            "bound": PolicyEntry(f"{_SCHEDULERS}_bounds:Bound"),
            "bound_sure": PolicyEntry(f"{_SCHEDULERS}_bounds:SureBound"),
        },
        bound="bound",
        case_options={"workload": str, "num_executors": int, "num_jobs": int},
        native={"padded": False},
        validation_episodes=10,
        shard_episodes=5,
        default_policies=(
            "random",
            "fifo_half",
            "fair",
            "weighted_fair",
            "sjf_cp",
            "srpt",
            "tuned_srpt",
            "bound",
        ),
        metric_over="last",
        higher_is_better=False,
    ),
    "vp": PredictionProblem(
        name="vp",
        title="viewport prediction",
        metric="mae_deg",
        metric_unit="degrees, mean over future samples and roll, pitch, yaw",
        components=("mae_published_deg", "rmse_deg", "great_circle_deg"),
        default_case={"dataset": "synthetic", "history": 10, "future": 20, "trim_tail": 30},
        worlds="dataset",
        validation={
            "synthetic": "synthetic-valid",
            "jin2022-train": "jin2022-valid",
            "wu2017-train": "wu2017-valid",
        },
        test_worlds="synthetic-test",
        policies={
            "hold_last": PolicyEntry(f"{_PREDICTORS}:HoldLast"),
            "damped_velocity": PolicyEntry(f"{_PREDICTORS}:DampedVelocity"),
            "velocity": PolicyEntry(f"{_PREDICTORS}:Velocity"),
            "velocity_unwrapped": PolicyEntry(f"{_PREDICTORS}:VelocityUnwrapped"),
            "linear_regression": PolicyEntry(f"{_PREDICTORS}:LinearRegression"),
            "linear_regression_unwrapped": PolicyEntry(f"{_PREDICTORS}:LinearRegressionUnwrapped"),
        },
        default_policies=("hold_last", "damped_velocity", "velocity", "linear_regression"),
        case_options={
            "dataset": str,
            "history": int,
            "future": int,
            "trim_head": int,
            "trim_tail": int,
            "stride": int,
            "euler_order": str,
            "features": str,
        },
        higher_is_better=False,
        groups="videos and users",
        sample="window",
        windows="netllm_gym.data.viewport_sets:load_windows",
        scorer="netllm_gym.prediction:score_viewports",
        step_s=0.2,
    ),
}


def find_problem(name: str) -> Problem:
    """Return a problem by its short name."""
    if name not in PROBLEMS:
        raise InputError(f"problem must be one of {', '.join(PROBLEMS)}, got {name!r}")
    return PROBLEMS[name]


def find_control(name: str) -> ControlProblem:
    """Return a problem that is played by its short name."""
    problem = find_problem(name)
    if not isinstance(problem, ControlProblem):
        played = [each.name for each in PROBLEMS.values() if isinstance(each, ControlProblem)]
        raise InputError(
            f"problem must be one that is played, {' or '.join(played)}, got {name!r}, "
            "of which there are only predictions"
        )
    return problem


class LoadedPolicy(NamedTuple):
    """A policy that can be built for any environment, or windows, of its problem."""

    name: str  # as asked for; tables use the built policy's own name
    factory: PolicyFactory
    learned: bool
    trained_on: str  # in words
    recordings: frozenset[str]  # that its training saw, and their contents, as far as is known
    selected_on: frozenset[str] = frozenset()  # recordings on which it was chosen as the best
    sha256: str = ""  # of a trained policy's files


def check_names(names: Iterable[str]) -> None:
    """Refuse equal names: results are told apart by them."""
    for name, count in Counter(names).items():
        if count > 1:
            raise InputError(
                f"policies must have different names, got {name!r} {count} times; "
                "a trained policy has the name of its folder"
            )


def load_policy(name_or_folder: str, problem: str = "abr", device: str = "cpu") -> LoadedPolicy:
    """Find a policy by its name, or read the folder of a trained one.

    `:sampled` behind either makes a network draw its actions, `:greedy` take the likeliest; without
    it does as is usual for the problem. A trained policy, of a folder or of the package, runs on
    `device`.

    Raises:
        InputError: If there is neither; the sentence names the nearest names.
    """
    row = find_problem(problem)
    plain, _, decoding = name_or_folder.partition(":")
    if plain in row.policies:
        entry = row.policies[plain]
        if decoding and not entry.learned:
            raise InputError(
                f"policy {plain} must be named without :{decoding}, it decodes nothing"
            )
        if entry.is_folder:
            return _read_policy(weights_folder(plain, row), plain, row, decoding, device)
        found = _imported(entry.target)
        factory = found(name_or_folder) if entry.by_name else found
        return LoadedPolicy(name_or_folder, factory, entry.learned, entry.trained_on, frozenset())
    if Path(plain).is_dir():
        return _trained_policy(Path(plain), row, decoding, device)
    nearest = difflib.get_close_matches(plain, row.policies, n=3, cutoff=0.4)
    hint = f"; did you mean {', '.join(nearest)}?" if nearest else ""
    raise InputError(
        f"policy must be a folder or one of {', '.join(row.policies)}, got {name_or_folder!r}{hint}"
    )


def _imported(target: str) -> Any:
    """Return what "module:attribute" names."""
    module, _, attribute = target.partition(":")
    return getattr(importlib.import_module(module), attribute)


def weights_folder(name_or_folder: str, problem: Problem, role: str = "policy") -> Path:
    """Return where the weights of a trained policy are: of the package, of a folder or of a run.

    Args:
        name_or_folder: Of the policy.
        problem: That it is of.
        role: What an error calls it.

    Raises:
        InputError: If there is no such folder and the package has no weights of that name.
        MissingDataError: If the package lacks weights that it should have.
    """
    entry = problem.policies.get(name_or_folder)
    if entry is not None and entry.is_folder:
        folder = PACKAGE / entry.target
        if not folder.is_dir():
            raise MissingDataError(
                f"{role} {name_or_folder} must have its weights in {folder}, got none: install "
                "netllm-gym anew"
            )
        return folder
    folder = Path(name_or_folder)
    if not folder.is_dir():
        named = [name for name, each in problem.policies.items() if each.is_folder]
        raise InputError(
            f"{role} must be a folder or one of {', '.join(named)}, got {name_or_folder!r}"
        )
    return _kept_in(folder)


def _kept_in(folder: Path) -> Path:
    """Return the best (else the last) policy of a training run's folder, or a policy's own."""
    parts = [folder / part for part in ("best", "last") if (folder / part).is_dir()]
    return parts[0] if parts else folder


def _trained_policy(folder: Path, problem: Problem, decoding: str, device: str) -> LoadedPolicy:
    """Read a policy's folder, or the best (else the last) policy of a training run's."""
    plain = folder.resolve().name
    if plain in problem.policies:
        raise InputError(
            f"{folder} must not have the name of the policy {plain} of {problem.name}, "
            "got a trained policy; rename the folder"
        )
    return _read_policy(_kept_in(folder), plain, problem, decoding, device)


def _read_policy(
    folder: Path, plain: str, problem: Problem, decoding: str, device: str
) -> LoadedPolicy:
    """Read a policy's folder, whatever kind it is of."""
    from netllm_gym.policies.checkpoint import policy_sha256, read_schema

    if decoding not in ("", "sampled", "greedy"):
        raise InputError(f"decoding must be greedy or sampled, got {decoding!r}")
    schema = read_schema(folder)
    if schema not in FOLDER_READERS:
        known = " or ".join(map(repr, FOLDER_READERS))
        raise InputError(f"{folder / 'config.json'} must have the schema {known}, got {schema!r}")
    read = _imported(FOLDER_READERS[schema])
    sampled = None if not decoding else decoding == "sampled"
    factory = read(folder, sampled=sampled, name=plain, device=device)
    if factory.sampled != factory.draws_by_default:  # a name says what is unusual
        factory.name = f"{plain}:{decoding}"
    if factory.config.problem != problem.name:
        raise InputError(
            f"{folder} must hold a policy for {problem.name}, got one for {factory.config.problem}"
        )
    provenance = factory.trained_on
    recordings = frozenset(provenance.get("recordings", ()))
    selected_on = frozenset(provenance.get("validation_recordings", ()))
    chosen = " (selected on its training recordings)" if recordings & selected_on else ""
    return LoadedPolicy(
        factory.name,
        factory,
        learned=True,
        trained_on=str(provenance.get(problem.worlds, "unknown")) + chosen,
        recordings=recordings,
        selected_on=selected_on,
        sha256=policy_sha256(folder),
    )
