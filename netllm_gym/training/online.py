"""Train a policy by online RL: which episodes, which validation, and what is remembered of both."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from netllm_gym.configs import to_json
from netllm_gym.data.abr.sets import load_trace_set
from netllm_gym.data.abr.traces import Trace
from netllm_gym.data.abr.video import load_video
from netllm_gym.errors import InputError
from netllm_gym.problems.index import find_control
from netllm_gym.problems.problem import ControlProblem
from netllm_gym.training.config import (
    DECIMA_SCHEDULE,
    DecimaConfig,
    EpisodesConfig,
    GenetConfig,
    PPOConfig,
    UDRConfig,
)
from netllm_gym.training.validation import validation_on

if TYPE_CHECKING:  # torch is loaded when training begins, not when this is imported
    from netllm_gym.training.ppo import EpisodeSource
    from netllm_gym.training.run import TrainResult


class Method(NamedTuple):
    """A way to train by playing."""

    problem: str
    episodes_config: (
        type[EpisodesConfig] | None
    )  # what its episodes_config are made by; None: a set of traces is all
    schedule: PPOConfig = PPOConfig()  # the default


# A policy that knows its trade learns little from an update, and would forget much at full rates.
STARTED_SCHEDULE = PPOConfig(learning_rate=1e-4, entropy_coef=0.004)

METHODS = {
    "ppo": Method("abr", None),
    "udr": Method("abr", UDRConfig),
    "genet": Method("abr", GenetConfig),
    "decima": Method("cjs", DecimaConfig, DECIMA_SCHEDULE),
}


def train_online(
    problem: str,
    method: str,
    out: Path | str,
    case: Mapping[str, Any] | None = None,
    episodes_config: EpisodesConfig | None = None,
    schedule: PPOConfig | None = None,
    validate_on: str | None = None,
    on_progress: Callable[[Mapping[str, Any]], None] | None = None,
    *,
    start: str | None = None,
    critic: str | None = None,
) -> "TrainResult":
    """Train a policy by letting it play; run again after an interruption, it goes on.

    Args:
        problem: Short name: abr for the first three methods, cjs for `decima`.
        method: `ppo` plays over the case's traces; `udr` over
            generated links and players, and the case's traces if it names any; `genet` likewise,
            with a curriculum; `decima` over arrivals drawn anew from the case's workload.
        out: Folder of the run; `out/best` and `out/last` are policies that `load_policy` reads.
        case: Traces and video, or workload, executors and jobs, that are trained on.
        episodes_config: What is played, of the kind in `METHODS`.
        schedule: How it is trained; None takes the method's own, with a start `STARTED_SCHEDULE`.
        validate_on: Traces or workload to choose the best policy on; None takes what belongs to
            the case.
        on_progress: Told the metrics of each update and each validation.
        start: `ppo`: folder, or name in the package, of the policy that goes on learning: a network
            or a language model; None begins with a network of random weights.
        critic: Likewise of the network whose critic judges a language model's decisions; None takes
            that of the package's `ppo`.

    Raises:
        InputError: If the case, the validation, the start or an earlier run in `out` does not fit.
    """
    row = find_control(problem)
    if method not in METHODS:
        raise InputError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
    known = METHODS[method]
    if problem != known.problem:
        raise InputError(
            f"problem must be {known.problem} for the method {method}, got {problem!r}"
        )
    config = (
        known.episodes_config()
        if episodes_config is None and known.episodes_config is not None
        else episodes_config
    )
    if not isinstance(config, known.episodes_config or type(None)):
        wanted = (
            "left out" if known.episodes_config is None else f"a {known.episodes_config.__name__}"
        )
        raise InputError(f"episodes_config must be {wanted} for {method}, got {config!r}")
    if start is not None and method != "ppo":
        raise InputError(f"start must be left out for {method}, got {start!r}")
    if start is None and critic is not None:
        raise InputError(f"critic must come with a start, got {critic!r} alone")
    schedule = schedule or usual_schedule(method, start)
    case = row.checked_case(**(case or {}))
    if isinstance(config, DecimaConfig):
        return _train_decima(row, config, schedule, out, case, validate_on, on_progress)
    if "noise" in case:
        raise InputError(f"noise must be left out for {method}, got {case['noise']!r}")
    if method == "ppo":
        case = {**row.default_case, **case}
    arguments = {**row.default_case, **case}
    traces = load_trace_set(case["traces"]).traces if "traces" in case else ()
    video = load_video(arguments["video"])
    validation = validation_on(row, arguments, validate_on)
    from netllm_gym.training.init_from import fresh_start, later_start
    from netllm_gym.training.ppo import train_ppo

    named = row.make_env(1, **arguments).provenance([]) if traces else {}
    trained_on = {
        "recordings": [],  # of generated links there are none
        **named,
        "video": video.name,
        "traces": _in_words(config, str(named.get("traces", ""))),
        "method": method,
        **({} if config is None else {"generated": to_json(config)}),
    }
    if start is None:
        begun = fresh_start(video, schedule.seed)
    else:
        begun = later_start(start, critic, row, video)
        trained_on |= {
            **begun.sha256,
            "recordings": sorted(begun.recordings.union(trained_on["recordings"])),
            **{
                key: " + ".join(dict.fromkeys([*names, trained_on[key]]))
                for key, names in begun.names.items()
            },
        }
    return train_ppo(
        lambda: begun.network,
        _episode_source(config, traces, video, schedule),
        schedule,
        validation.run(out, trained_on, on_progress),
        warm_start=start is not None,
    )


def usual_schedule(method: str, start: str | None = None) -> PPOConfig:
    """Return how a method trains unless told otherwise."""
    return METHODS[method].schedule if start is None else STARTED_SCHEDULE


def _train_decima(
    row: ControlProblem,
    config: DecimaConfig,
    schedule: PPOConfig,
    out: Path | str,
    case: Mapping[str, Any],
    validate_on: str | None,
    on_progress: Callable[[Mapping[str, Any]], None] | None,
) -> "TrainResult":
    """Train Decima on a workload."""
    arguments = {**row.default_case, **case}
    env = row.make_env(1, **arguments)
    validation = validation_on(row, arguments, validate_on)
    # The arrivals that are drawn are none that an evaluation plays; a recording has but its own.
    plan = env.evaluation_plan() if env.workload.is_recording else []
    from netllm_gym.policies.neural.cjs import Decima, DecimaNetworkConfig
    from netllm_gym.training.decima import ArrivalAdvantages, ArrivalEpisodes, Cloning
    from netllm_gym.training.ppo import train_ppo

    arguments["num_jobs"] = env.num_jobs
    trained_on = {**env.provenance(plan), "method": "decima", "generated": to_json(config)}
    return train_ppo(
        lambda: Decima(DecimaNetworkConfig(seed=schedule.seed)),
        ArrivalEpisodes(arguments, config, schedule),
        schedule,
        validation.run(out, trained_on, on_progress),
        advantages=ArrivalAdvantages(config),
        pretraining=Cloning(arguments, config, schedule.seed),
    )


def _episode_source(
    config: UDRConfig | GenetConfig | None,
    traces: tuple[Trace, ...],
    video: Any,
    schedule: PPOConfig,
) -> "EpisodeSource":
    from netllm_gym.training.abr_episodes import TraceEpisodes
    from netllm_gym.training.abr_links import GenetEpisodes, UDREpisodes

    if config is None:
        return TraceEpisodes(traces, video, schedule)
    if isinstance(config, UDRConfig):
        return UDREpisodes(traces, video, config, schedule)
    return GenetEpisodes(traces, video, config, schedule)


def _in_words(config: EpisodesConfig | None, named: str) -> str:
    """Say in a table's words what was trained on."""
    if config is None:
        return named
    return f"{named} + generated links" if named else "generated links"
