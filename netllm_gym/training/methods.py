"""The ways to train: one row per method, from which command line and `train` are made.

A row names the method's config, a frozen dataclass with all of its options, and the function that
trains with it. No other module asks for a method by its name.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from netllm_gym.errors import InputError
from netllm_gym.problems.problem import ControlProblem, PredictionProblem, Problem, imported

if TYPE_CHECKING:  # torch is loaded when training begins
    from netllm_gym.training.run import TrainResult

Progress = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True, kw_only=True)
class TrainRequest:
    """What is to be trained, whatever the method.

    Attributes:
        problem: The problem.
        method: Name of the method.
        out: Folder of the run; `out/best` and `out/last` are policies that `load_policy` reads.
        case: Parts of the case that is trained on, for methods that play or learn from windows.
        pools: Folders of experience pools, for methods that learn from them.
        policies: Whose episodes of the pools to learn from; None takes the method's choice.
        validate_on: Data set on which the best policy is chosen; None takes the one that belongs to
            what is trained on.
        on_progress: Told the metrics of each update and each validation.
    """

    problem: Problem
    method: str
    out: Path
    case: Mapping[str, Any] = field(default_factory=dict)
    pools: Sequence[Path] = ()
    policies: Sequence[str] | None = None
    validate_on: str | None = None
    on_progress: Progress | None = None


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
        problems: Names of the problems that it can learn; empty for all that have what it needs.
        shown: Metric that a progress line shows.
        example: A command, without `netllm-gym train`.
    """

    name: str
    title: str
    learns_from: Literal["pool", "playing", "windows"]
    config: str
    run: str
    problems: tuple[str, ...] = ()
    shown: str = "loss"
    example: str = ""
