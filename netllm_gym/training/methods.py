"""The ways to train: one row per method, from which command line and `train` are made.

A row names the method's config, a frozen dataclass with all of its options, and the function that
trains with it. No other module asks for a method by its name.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

from netllm_gym.configs import check, from_json, options_of, to_json, with_options
from netllm_gym.errors import InputError, nearest
from netllm_gym.files import locked
from netllm_gym.problems.index import find_problem
from netllm_gym.problems.problem import PredictionProblem, Problem, imported

Progress = Callable[[Mapping[str, Any]], None]  # told the metrics of an update or a validation


@dataclass(frozen=True, kw_only=True)
class TrainRequest:
    """What is to be trained, whatever the method; see the arguments of `train`."""

    problem: Problem
    method: str
    out: Path  # exists, and no other process writes to it
    case: Mapping[str, Any] = field(default_factory=dict)
    pools: Sequence[Path] = ()
    policies: Sequence[str] | None = None
    validate_on: str | None = None
    on_progress: Progress | None = None


@dataclass(frozen=True)
class TrainResult:
    """How a run ended."""

    updates: int  # updates made in all
    best_update: int | None  # update after which the best policy was kept; None without validation
    best_score: float | None  # score of the best policy in validation
    policy: Path  # folder of the policy to use: the best one, or the last one without validation


@dataclass(frozen=True, kw_only=True)
class Method:
    """A way to train.

    Attributes:
        name: Short name, as on the command line.
        title: What it is, in one sentence.
        learns_from: "pool": episodes that were collected; "playing": episodes that it plays itself;
            "windows": windows of a prediction problem.
        config: Its config class, as "module:Class"; every field is an option with a default.
        run: Function that takes a `TrainRequest` and the config and returns a `TrainResult`, as
            "module:function".
        needs: Field of a problem's row that must be filled; empty if the method needs none.
        problems: Names of the problems that it can learn; empty for all that have what it needs.
        without: Options of the config that have no effect here, and so must keep their defaults.
        shown: Metric that a progress line shows.
        example: A command, without `netllm-gym train`.
    """

    name: str
    title: str
    learns_from: Literal["pool", "playing", "windows"]
    config: str
    run: str
    needs: str = ""
    problems: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    shown: str = "loss"
    example: str = ""

    def suits(self, problem: Problem) -> bool:
        """Return whether a problem has what the method needs."""
        if self.problems and problem.name not in self.problems:
            return False
        is_prediction = isinstance(problem, PredictionProblem)
        if is_prediction != (self.learns_from == "windows"):
            return False
        return not self.needs or bool(getattr(problem, self.needs))

    def check_without(self, config: Any, problem: Problem) -> None:
        """Refuse options that have no effect with this method."""
        given, usual = options_of(config), options_of(self.default_config(problem))
        for name in self.without:
            value = given[name].default
            rule = f"be left out for the method {self.name} of {problem.name}"
            check(value == usual[name].default, name, rule, value)

    def default_config(self, problem: Problem | None = None) -> Any:
        """Return the config with its defaults, where a problem has other ones with those."""
        config = imported(self.config)()
        defaults = {} if problem is None else problem.method_defaults.get(self.name, {})
        return with_options(config, defaults)


_TRAINING = "netllm_gym.training"
_offline = partial(
    Method, learns_from="pool", needs="offline", run=f"{_TRAINING}.offline:train_offline"
)
_online = partial(
    Method,
    learns_from="playing",
    needs="online",
    shown="reward",
    run=f"{_TRAINING}.online:train_online",
)
_viewport = partial(
    Method,
    learns_from="windows",
    problems=("vp",),
    run=f"{_TRAINING}.viewport:train_viewport_network",
)
_OFFLINE_CONFIG = "netllm_gym.policies.offline.config"

METHODS: list[Method] = [
    Method(
        name="llm",
        title="Adapt a language model to the episodes of experience pools.",
        learns_from="pool",
        config=f"{_TRAINING}.llm_config:LLMTraining",
        run=f"{_TRAINING}.llm:train_llm",
        needs="language_model",
        example="llm abr --pool pools/first --backbone minilm --out runs/first",
    ),
    Method(
        name="llm",
        title="Adapt a language model to windows of a prediction problem.",
        learns_from="windows",
        config=f"{_TRAINING}.llm_config:LLMViewportTraining",
        run=f"{_TRAINING}.llm:train_llm_on_windows",
        needs="language_model",
        # The layout follows from the windows, and there are no returns.
        without=(
            *("layout", "context_steps", "objective", "returns", "return_gamma"),
            *("return_baseline", "reward_clip", "target_quantile", "target_factor"),
            *("return_center", "return_scale", "target_return"),
        ),
        example="llm vp --dataset jin2022-train --backbone minilm --out runs/vp",
    ),
    _offline(
        name="bc",
        title="Behaviour cloning of the episodes of experience pools, by d3rlpy.",
        config=f"{_OFFLINE_CONFIG}:BCTraining",
        example="bc abr --pool pools/first --out runs/bc",
    ),
    _offline(
        name="cql",
        title="Conservative Q-learning on the episodes of experience pools, by d3rlpy.",
        config=f"{_OFFLINE_CONFIG}:CQLTraining",
        example="cql abr --pool pools/first --policies robust_mpc,bba --out runs/cql",
    ),
    _offline(
        name="dt",
        title="A decision transformer on the episodes of experience pools, by d3rlpy.",
        config=f"{_OFFLINE_CONFIG}:DTTraining",
        example="dt abr --pool pools/first --policies robust_mpc,bba --out runs/dt",
    ),
    _online(
        name="ppo",
        title="Proximal policy optimisation, from new weights or a trained policy (--init-from).",
        config=f"{_TRAINING}.online_config:PPOConfig",
        example="ppo abr --traces clean-train~12 --video video1 --out runs/ppo-first",
    ),
    _online(
        name="udr",
        title="PPO over links and players that are drawn anew for each episode.",
        config=f"{_TRAINING}.online_config:UDRConfig",
        problems=("abr",),
        example="udr abr --difficulty 2 --out runs/udr",
    ),
    _online(
        name="genet",
        title="PPO with GENET's curriculum of the links on which a rule is farthest ahead.",
        config=f"{_TRAINING}.online_config:GenetConfig",
        problems=("abr",),
        example="genet abr --difficulty 2 --out runs/genet-first",
    ),
    _online(
        name="decima",
        title="PPO for Decima: it clones a rule, then learns from rollouts of the same arrivals.",
        config=f"{_TRAINING}.online_config:DecimaConfig",
        problems=("cjs",),
        example="decima cjs --workload tpch --out runs/decima-first",
    ),
    _viewport(
        name="gru",
        title="A recurrent network that predicts viewports.",
        config=f"{_TRAINING}.viewport_config:GRUTraining",
        example="gru vp --dataset jin2022-train --out runs/gru",
    ),
    _viewport(
        name="track",
        title="TRACK, a recurrent encoder and decoder that predicts viewports.",
        config=f"{_TRAINING}.viewport_config:TrackTraining",
        example="track vp --dataset jin2022-train --out runs/track",
    ),
]


def register_method(method: Method) -> None:
    """Add a way to train, so that `train` and the command line of this process offer it.

    Raises:
        InputError: If a method of that name already learns from the same.
    """
    for known in METHODS:
        if (known.name, known.learns_from) == (method.name, method.learns_from):
            raise InputError(f"method must have a name that is not taken, got {method.name!r}")
    METHODS.append(method)


def find_method(name: str, problem: Problem) -> Method:
    """Return the method of a name that suits a problem."""
    suitable = {each.name: each for each in METHODS if each.suits(problem)}
    if name not in suitable:
        known, hint = ", ".join(suitable), nearest(name, suitable)
        raise InputError(f"method must be one of {known} for {problem.name}, got {name!r}{hint}")
    return suitable[name]


def train(
    problem: str,
    method: str,
    out: Path | str,
    *,
    config: Any = None,
    case: Mapping[str, Any] | None = None,
    pool: Path | str | Sequence[Path | str] | None = None,
    policies: Sequence[str] | None = None,
    validate_on: str | None = None,
    on_progress: Progress | None = None,
) -> TrainResult:
    """Train a policy by any method; run again after an interruption, it is resumed.

    Args:
        problem: Short name of the problem.
        method: Short name of the method; `netllm-gym train --help` lists them.
        out: Folder of the run; `out/best` and `out/last` are policies that `load_policy` reads.
        config: The method's config, or some of its options by their names, such as
            `{"updates": 300}`; None takes the defaults of the method and the problem.
        case: Parts of the case that is trained on (traces, workload, data set, ...), for a method
            that plays or learns from windows.
        pool: Folder of an experience pool, or of several, for a method that learns from pools.
        policies: Whose episodes of the pools to learn from; None takes those of the highest mean
            return, or of all policies where an expert was asked and is imitated.
        validate_on: Data set on which the best policy is chosen; None takes the one that belongs to
            what is trained on.
        on_progress: Told the metrics of each update and each validation.

    Raises:
        InputError: If an argument breaks a rule, or an earlier run in `out` does not fit.
    """
    row = find_problem(problem)
    found = find_method(method, row)
    if config is None or isinstance(config, Mapping):
        config = with_options(found.default_config(row), config or {})
    elif type(config) is imported(found.config):
        config = from_json(type(config), to_json(config))  # values of wrong types are refused
    else:
        wanted = found.config.partition(":")[2]
        raise InputError(
            f"config must be a {wanted} or a mapping of its options, got a {type(config).__name__}"
        )
    found.check_without(config, row)
    policies = [policies] if isinstance(policies, str) else policies
    check(policies is None or len(policies) > 0, "policies", "name at least one", policies)
    learns_from_pool = found.learns_from == "pool"
    if learns_from_pool and pool is None:
        raise InputError(f"pool must be given for the method {method}, got none")
    for name, value, belongs in (
        ("pool", pool, learns_from_pool),
        ("policies", policies, learns_from_pool),
        ("case", case, not learns_from_pool),
    ):
        if value is not None and not belongs:
            source = {"pool": "pools", "playing": "episodes that it plays", "windows": "windows"}
            raise InputError(
                f"{name} must be left out for the method {method}, which learns from "
                f"{source[found.learns_from]}, got {value!r}"
            )
    folders = [pool] if isinstance(pool, Path | str) else pool or ()
    out = Path(out)
    if out.resolve().name in row.policies and not (out / "last").exists():
        raise InputError(
            f"out must have another name than the policies of {problem}, since a table calls a "
            f"trained policy by the name of its folder, got {out}"
        )
    request = TrainRequest(
        problem=row,
        method=method,
        out=out,
        case=row.checked_case(**(case or {})),
        pools=tuple(Path(each) for each in folders),
        policies=policies,
        validate_on=validate_on,
        on_progress=on_progress,
    )
    with locked(request.out):
        result: TrainResult = imported(found.run)(request, config)
    return result
