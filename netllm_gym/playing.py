"""Train a policy by playing: which worlds, which validation, and what is remembered of both."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from netllm_gym.envs.abr.traces import Trace, load_trace_set
from netllm_gym.envs.abr.video import load_video
from netllm_gym.errors import InputError
from netllm_gym.evaluation import score
from netllm_gym.policies.configs import to_json
from netllm_gym.policies.neural.config import (
    AugmentConfig,
    GenetConfig,
    PPOConfig,
    UDRConfig,
    WorldsConfig,
)
from netllm_gym.problems import find_problem
from netllm_gym.training import validation_on

if TYPE_CHECKING:  # torch is loaded when training begins, not when this is imported
    from netllm_gym.policies.neural.ppo import Worlds
    from netllm_gym.policies.runs import TrainResult

METHODS: dict[str, type[WorldsConfig]] = {  # method -> what its worlds are made by
    "ppo": AugmentConfig,
    "udr": UDRConfig,
    "genet": GenetConfig,
}


def train_by_playing(
    problem: str,
    method: str,
    out: Path | str,
    case: Mapping[str, Any] | None = None,
    worlds: WorldsConfig | None = None,
    schedule: PPOConfig | None = None,
    validate_on: str | None = None,
    on_progress: Callable[[Mapping[str, Any]], None] | None = None,
) -> "TrainResult":
    """Train a small network by letting it play; run again after an interruption, it goes on.

    Args:
        problem: Short name; abr.
        method: `ppo` plays over the case's traces and what is put around them; `udr` over
            generated links and players, and the case's traces if it names any; `genet` likewise,
            with a curriculum.
        out: Folder of the run; `out/best` and `out/last` are policies that `load_policy` reads.
        case: Traces and video that are trained on.
        worlds: What is played, of the kind in `METHODS`.
        schedule: How it is trained.
        validate_on: Traces to choose the best policy on; None takes those that belong to the
            case's.
        on_progress: Told the metrics of each update and each validation.

    Raises:
        InputError: If the case, the validation or an earlier run in `out` does not fit.
    """
    row = find_problem(problem)
    if method not in METHODS:
        raise InputError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
    if problem != "abr":
        raise InputError(f"problem must be abr for the method {method}, got {problem!r}")
    config = METHODS[method]() if worlds is None else worlds
    if not isinstance(config, METHODS[method]):
        wanted = METHODS[method].__name__
        raise InputError(f"worlds must be a {wanted} for {method}, got {config!r}")
    schedule = schedule or PPOConfig()
    case = row.checked_case(**(case or {}))
    if "noise" in case:
        raise InputError(f"noise must be left out for {method}, got {case['noise']!r}")
    if method == "ppo":
        case = {**row.default_case, **case}
    arguments = {**row.default_case, **case}
    validation = validation_on(row, arguments, validate_on)
    traces = load_trace_set(case["traces"]).traces if "traces" in case else ()
    video = load_video(arguments["video"])
    from netllm_gym.policies.neural.abr_mlp import ABRNetwork, ABRNetworkConfig
    from netllm_gym.policies.neural.abr_worlds import FORESIGHT
    from netllm_gym.policies.neural.ppo import train_ppo

    ladder_mbps = tuple(video.ladder_mbps.tolist())
    network = ABRNetworkConfig(ladder_mbps, foresight=FORESIGHT, seed=schedule.seed)
    named = row.make_env(1, **arguments).provenance([]) if traces else {}
    return train_ppo(
        lambda: ABRNetwork(network),
        _worlds(config, traces, video, schedule),
        schedule,
        out,
        validate=lambda factory: row.goodness(score(row, factory, validation.env, validation.plan)),
        trained_on={
            "recordings": [],  # of generated links there are none
            **named,
            "video": video.name,
            "traces": _in_words(method, config, str(named.get("traces", ""))),
            "method": method,
            "generated": to_json(config),
            **validation.provenance(),
        },
        progress=on_progress,
        resume=True,
    )


def _worlds(
    config: WorldsConfig, traces: tuple[Trace, ...], video: Any, schedule: PPOConfig
) -> "Worlds":
    from netllm_gym.policies.neural.abr_links import GenetWorlds, UDRWorlds
    from netllm_gym.policies.neural.abr_worlds import TraceWorlds

    if isinstance(config, AugmentConfig):
        return TraceWorlds(traces, video, config, schedule)
    if isinstance(config, UDRConfig):
        return UDRWorlds(traces, video, config, schedule)
    return GenetWorlds(traces, video, config, schedule)


def _in_words(method: str, config: WorldsConfig, named: str) -> str:
    """Say in a table's words what was trained on."""
    if not isinstance(config, AugmentConfig):
        return f"{named} + generated links" if named else "generated links"
    if not config.copies:
        return named
    return f"{named} x {config.copies + 1} + {config.generated} generated"
