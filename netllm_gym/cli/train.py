"""`netllm-gym train`: which options each method has, and the Python function that runs it."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from netllm_gym.cli.arguments import (
    ConfigFile,
    Dataset,
    Device,
    EulerOrder,
    Features,
    Future,
    History,
    NumExecutors,
    NumJobs,
    ProblemName,
    Traces,
    TrimHead,
    TrimTail,
    VideoName,
    WorkloadName,
)
from netllm_gym.cli.options import names_in
from netllm_gym.cli.progress import Progress
from netllm_gym.errors import InputError
from netllm_gym.policies.llm.config import BackboneConfig, LLMConfig
from netllm_gym.policies.offline.config import OfflineSchedule
from netllm_gym.policies.returns import ReturnSpec
from netllm_gym.training.config import (
    DIFFICULTIES,
    DecimaConfig,
    EpisodesConfig,
    GenetConfig,
    TrainConfig,
    UDRConfig,
)

if TYPE_CHECKING:
    from netllm_gym.training.run import TrainResult

FROM_POOL = ("pool", "policies", "device")  # for every method that learns from a pool
OFFLINE = (*FROM_POOL, "batch_size")
PLAYING = ("traces", "video", "episodes")  # options of `train` for ABR's methods that play
ADAPTING = (  # options of the language model, whatever it learns from
    *("backbone", "init", "adapt", "layers", "lora_rank", "lora_alpha", "lora_targets"),
    *("batch_episodes", "accumulate", "adapter_learning_rate", "warmup_fraction", "dtype"),
)
WINDOWS = (
    *("dataset", "history", "future", "trim_head", "trim_tail", "euler_order", "stride", "device"),
)
METHOD_OPTIONS = {  # method of `train` -> its options, beside those that all methods have
    "llm": (
        *(*FROM_POOL, *ADAPTING, "layout", "context_steps", "throughput_weight"),
        *("returns", "objective"),
    ),
    "bc": OFFLINE,
    "cql": OFFLINE,
    "dt": (*OFFLINE, "returns", "ignore_padding"),
    "ppo": (*PLAYING, "start", "critic"),
    "udr": (*PLAYING, "difficulty"),
    "genet": (*PLAYING, "difficulty"),
    "decima": ("workload", "num_executors", "num_jobs", "episodes", "clone_updates"),
}
PREDICTION_OPTIONS = {  # the same of problems of predictions
    "llm": (*WINDOWS, *ADAPTING, "features"),
    "gru": (*WINDOWS, "batch_size", "warmup_fraction"),
    "track": (*WINDOWS, "batch_size", "warmup_fraction"),
}


def train(
    context: typer.Context,
    problem: ProblemName,
    out: Annotated[Path, typer.Option(help="Folder of the run; run again to go on.")],
    method: Annotated[
        str,
        typer.Option(
            help="llm, and by d3rlpy bc, cql and dt, learn from a pool; ppo, udr, genet (ABR) and "
            "decima (CJS) by playing; llm, gru and track (VP) from head movements."
        ),
    ] = "llm",
    pool: Annotated[
        str | None,
        typer.Option(help="Folder of the experience pool, or of several, separated by commas."),
    ] = None,
    traces: Traces = None,
    video: VideoName = None,
    difficulty: Annotated[
        int | None,
        typer.Option(help="udr, genet: 1 to 3, how wide links and players vary.  [default: 2]"),
    ] = None,
    episodes: Annotated[
        int | None,
        typer.Option(help="Where it plays: in each update.  [default: 512; decima: 48]"),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(
            help="ppo: name or folder of the policy, a network or a language model, that goes on "
            "learning, with a smaller learning rate and less entropy; left out, a new network."
        ),
    ] = None,
    critic: Annotated[
        str | None,
        typer.Option(
            help="ppo: name or folder of the network whose critic judges a language model.  "
            "[default: ppo]"
        ),
    ] = None,
    workload: WorkloadName = None,
    num_executors: NumExecutors = None,
    num_jobs: NumJobs = None,
    dataset: Dataset = None,
    history: History = None,
    future: Future = None,
    trim_head: TrimHead = None,
    trim_tail: TrimTail = None,
    stride: Annotated[
        int | None,
        typer.Option(
            help="VP: samples from one window to learn from to the next; in validation 15, "
            "as in bench.  [default: 5]"
        ),
    ] = None,
    euler_order: EulerOrder = None,
    features: Features = None,
    clone_updates: Annotated[
        int | None,
        typer.Option(help="decima: first updates, which clone tuned_srpt.  [default: 12]"),
    ] = None,
    policies: Annotated[
        str | None,
        typer.Option(
            help="Whose episodes to learn from; if left out, the best teacher's, or all where an "
            "expert is imitated."
        ),
    ] = None,
    backbone: Annotated[
        str,
        typer.Option(help="tiny, minilm, a Hugging Face id, or a local folder."),
    ] = "tiny",
    init: Annotated[str, typer.Option(help="pretrained or random weights.")] = "",
    adapt: Annotated[str, typer.Option(help="lora, full or frozen.")] = "",
    layers: Annotated[
        int | None, typer.Option(help="Leave the backbone after this block.")
    ] = BackboneConfig.layers,
    lora_rank: Annotated[int, typer.Option(help="Rank of the adapter.")] = BackboneConfig.lora_rank,
    lora_alpha: Annotated[
        int, typer.Option(help="Scale of the adapter.")
    ] = BackboneConfig.lora_alpha,
    lora_targets: Annotated[
        str, typer.Option(help="default, all-linear, or names of modules, separated by commas.")
    ] = "default",
    layout: Annotated[
        str, typer.Option(help="ABR: compact, pair or netllm; CJS: compact.")
    ] = LLMConfig.layout,
    context_steps: Annotated[
        int | None,
        typer.Option(help="ABR: steps that each block attends to.  [default: all]"),
    ] = LLMConfig.context_steps,
    throughput_weight: Annotated[
        float,
        typer.Option(
            help="ABR: weight in the loss of the error in predicting the throughput of the "
            "episode's next download; 0: it is not predicted."
        ),
    ] = LLMConfig.throughput_weight,
    returns: Annotated[
        str,
        typer.Option(
            help="What the policy (llm, dt) is told: auto, none, return_to_go or baseline:POLICY."
        ),
    ] = "auto",
    batch_size: Annotated[
        int | None,
        typer.Option(
            help="bc, cql, dt: decisions of an update, of dt each with the 19 before it; gru, "
            "track: windows.  [default: 256; dt: 64; track: 128]"
        ),
    ] = None,
    ignore_padding: Annotated[
        bool,
        typer.Option(
            "--ignore-padding",
            help="dt: leave what stands before an episode's first steps out of the loss, which "
            "d3rlpy counts.",
        ),
    ] = False,
    updates: Annotated[
        int | None,
        typer.Option(
            help="Optimizer steps; where it plays, rounds of playing and learning.  "
            "[default: 2000; bc, cql: 20000; playing: 300; decima: 100; VP: 800]"
        ),
    ] = None,
    batch_episodes: Annotated[
        int,
        typer.Option(
            help="Episodes (VP: windows) of one forward pass; 0: the problem's own number."
        ),
    ] = TrainConfig.batch_episodes,
    objective: Annotated[
        str,
        typer.Option(help="imitate (what was done, or an expert's answers), or value (ABR)."),
    ] = TrainConfig.objective,
    accumulate: Annotated[
        int, typer.Option(help="Forward passes of one update.")
    ] = TrainConfig.accumulate,
    learning_rate: Annotated[
        float | None,
        typer.Option(
            help="Of encoders and head, or of the network.  "
            "[default: 0.001; cql: 0.0003; dt: 0.0006; decima, track: 0.0005; "
            "gru: 0.002; with --start: 0.0001]"
        ),
    ] = None,
    adapter_learning_rate: Annotated[
        float, typer.Option(help="Inside the backbone.")
    ] = TrainConfig.adapter_learning_rate,
    warmup_fraction: Annotated[
        float, typer.Option(help="Share of updates to warm up.")
    ] = TrainConfig.warmup_fraction,
    validate_on: Annotated[
        str | None, typer.Option(help="Traces, workload or dataset to choose the best policy on.")
    ] = None,
    validate_every: Annotated[
        int | None,
        typer.Option(
            help="Updates between validations.  "
            "[default: 200; bc, cql: 1000; dt: 100; playing: 10; VP: 50]"
        ),
    ] = None,
    checkpoint_every: Annotated[
        int | None,
        typer.Option(
            help="Updates between checkpoints.  "
            "[default: 200; bc, cql: 1000; dt: 100; playing: 10; VP: 50]"
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of initial weights and batches.")] = TrainConfig.seed,
    threads: Annotated[
        int | None,
        typer.Option(help="CPU threads; 0 leaves torch's choice.  [default: 1; llm: 0]"),
    ] = None,
    device: Device = TrainConfig.device,
    dtype: Annotated[
        str, typer.Option(help="Of the backbone: float32 or bfloat16.")
    ] = BackboneConfig.dtype,
    config_file: ConfigFile = None,
) -> None:
    """Adapt a language model, or train a small network, on a pool, on windows, or by playing.

    Example: netllm-gym train abr --pool pools/first --backbone minilm --out runs/first

    Example: netllm-gym train abr --method bc --pool pools/first --out runs/bc

    Example: netllm-gym train abr --method ppo --traces clean-train~12 --video video1 --out runs/own

    Example: netllm-gym train abr --method ppo --start netllm --traces clean-train~12 --out runs/on

    Example: netllm-gym train abr --method udr --difficulty 2 --out runs/my-udr

    Example: netllm-gym train abr --method genet --difficulty 2 --out runs/my-genet

    Example: netllm-gym train cjs --method decima --workload tpch --out runs/my-decima

    Example: netllm-gym train vp --dataset jin2022-train --backbone minilm --out runs/vp

    Example: netllm-gym train vp --method gru --dataset jin2022-train --out runs/gru
    """
    from netllm_gym.problems.index import find_problem
    from netllm_gym.problems.problem import PredictionProblem

    predicts = isinstance(find_problem(problem), PredictionProblem)
    _check_method(context, problem, method, PREDICTION_OPTIONS if predicts else METHOD_OPTIONS)
    schedule: dict[str, Any] = {
        name: value
        for name, value in {
            "updates": updates,
            "learning_rate": learning_rate,
            "validate_every": validate_every,
            "checkpoint_every": checkpoint_every,
            "seed": seed,
            "threads": threads,
        }.items()
        if value is not None
    }
    if method == "llm":
        targets = (
            lora_targets if lora_targets in ("default", "all-linear") else names_in(lora_targets)
        )
        config = LLMConfig(
            layout=layout,
            context_steps=context_steps,
            throughput_weight=throughput_weight,
            seed=seed,
            backbone=BackboneConfig(
                name=backbone,
                init=init,
                adapt=adapt,
                layers=layers,
                lora_rank=lora_rank,
                lora_alpha=lora_alpha,
                lora_targets=targets,
                dtype=dtype,
            ),
        )
        schedule |= {
            "batch_episodes": batch_episodes,
            "accumulate": accumulate,
            "adapter_learning_rate": adapter_learning_rate,
            "warmup_fraction": warmup_fraction,
            "device": device,
        }
    if predicts:
        windows = {
            "dataset": dataset,
            "history": history,
            "future": future,
            "trim_head": trim_head,
            "trim_tail": trim_tail,
            "euler_order": euler_order,
            "features": features,
        }
        if method != "llm":
            schedule |= {"warmup_fraction": warmup_fraction, "device": device}
            if batch_size is not None:
                schedule["batch_size"] = batch_size
        _learn_to_predict(
            *(problem, method, out, windows, config if method == "llm" else None),
            *(schedule, stride, validate_on),
        )
        return
    if "pool" not in METHOD_OPTIONS[method]:  # it plays
        case = {
            "traces": traces,
            "video": video,
            "workload": workload,
            "num_executors": num_executors,
            "num_jobs": num_jobs,
        }
        worlds = _worlds_of(method, difficulty, clone_updates)
        if episodes is not None:
            schedule["episodes"] = episodes
        _play(problem, method, out, case, worlds, schedule, validate_on, start, critic)
        return
    if pool is None:
        raise InputError(f"pool must be given for the method {method}, got none")
    pools = names_in(pool)
    teachers = names_in(policies) if policies else None
    if method != "llm":
        if batch_size is not None:
            schedule["batch_size"] = batch_size
        told = None if returns == "auto" else _returns_of(returns)
        settings_of_run = OfflineSchedule.of(
            method, device=device, counts_padding=not ignore_padding, **schedule
        )
        _learn_offline(problem, method, pools, out, settings_of_run, teachers, told, validate_on)
        return
    from netllm_gym.training.from_pools import default_returns, open_pools
    from netllm_gym.training.from_pools import train as run

    if returns == "auto":
        spec = default_returns(open_pools(problem, pools), teachers)
    else:
        spec = _returns_of(returns)
    config = dataclasses.replace(config, returns=spec)
    config_of_run = TrainConfig(objective=objective, **schedule)
    with Progress("train", "updates") as progress:
        result = run(
            *(problem, pools, out, config, config_of_run, teachers, validate_on),
            on_progress=progress.metrics(config_of_run.updates),
        )
    _tell_result(result)


def _returns_of(text: str) -> ReturnSpec:
    """Return what `--returns` names."""
    kind, _, baseline = text.partition(":")
    if baseline and kind != "baseline":
        raise InputError(f"returns must name a policy behind baseline: only, got {text!r}")
    return ReturnSpec(kind=kind, baseline=baseline)


def _check_method(
    context: typer.Context, problem: str, method: str, methods: Mapping[str, Sequence[str]]
) -> None:
    """Refuse a method that the problem has not, and options that are another method's."""
    if method not in methods:
        raise InputError(f"method must be one of {', '.join(methods)}, got {method!r}")
    everywhere = (*METHOD_OPTIONS.values(), *PREDICTION_OPTIONS.values())
    for name in sorted({name for options in everywhere for name in options} - {*methods[method]}):
        source = context.get_parameter_source(name)
        if source is not None and source.name != "DEFAULT":
            known = [each for each, options in methods.items() if name in options]
            whose = f"an option of {', '.join(known)}" if known else f"none of {problem}"
            raise InputError(
                f"{name.replace('_', '-')} must be left out for the method {method}, "
                f"got {str(context.params[name])!r}; it is {whose}"
            )


def _learn_to_predict(
    problem: str,
    method: str,
    out: Path,
    case: Mapping[str, str | int | None],
    config: LLMConfig | None,
    given_schedule: Mapping[str, Any],
    stride: int | None,
    validate_on: str | None,
) -> None:
    """Train on windows."""
    from netllm_gym.training.supervised import (
        LLM_SCHEDULE,
        SCHEDULES,
        TRAIN_STRIDE,
        adapt_predictor,
        train_predictor,
    )

    given = {name: value for name, value in case.items() if value is not None}
    every = TRAIN_STRIDE if stride is None else stride
    with Progress("train", "updates") as progress:
        if config is not None:
            adapted = dataclasses.replace(LLM_SCHEDULE, **given_schedule)
            result = adapt_predictor(
                *(problem, out, given, config, adapted, every, validate_on),
                on_progress=progress.metrics(adapted.updates),
            )
        else:
            schedule = dataclasses.replace(SCHEDULES[method], **given_schedule)
            result = train_predictor(
                *(problem, method, out, given, schedule, every, validate_on),
                on_progress=progress.metrics(schedule.updates),
            )
    _tell_result(result)


def _worlds_of(
    method: str, difficulty: int | None, clone_updates: int | None
) -> EpisodesConfig | None:
    """Return what a method that plays makes its worlds by; None where a set of traces is all."""
    if method == "decima":
        asked = DecimaConfig.clone_updates if clone_updates is None else clone_updates
        return DecimaConfig(clone_updates=asked)
    if method == "ppo":
        return None
    if difficulty is not None and difficulty not in DIFFICULTIES:
        raise InputError(f"difficulty must be 1, 2 or 3, got {difficulty}")
    udr = UDRConfig(DIFFICULTIES[2 if difficulty is None else difficulty])
    return udr if method == "udr" else GenetConfig(udr)


def _learn_offline(
    problem: str,
    method: str,
    pools: Sequence[str],
    out: Path,
    schedule: OfflineSchedule,
    teachers: Sequence[str] | None,
    returns: ReturnSpec | None,
    validate_on: str | None,
) -> None:
    """Train on a pool by d3rlpy."""
    from netllm_gym.training.from_pools import train_offline

    with Progress("train", "updates") as progress:
        result = train_offline(
            *(problem, method, pools, out, schedule, teachers, returns, validate_on),
            on_progress=progress.metrics(schedule.updates),
        )
    _tell_result(result)


def _play(
    problem: str,
    method: str,
    out: Path,
    case: Mapping[str, str | int | None],
    worlds: EpisodesConfig | None,
    given_schedule: Mapping[str, Any],
    validate_on: str | None,
    start: str | None,
    critic: str | None,
) -> None:
    """Train by playing."""
    from netllm_gym.training.online import train_online, usual_schedule

    schedule = dataclasses.replace(usual_schedule(method, start), **given_schedule)
    given = {name: value for name, value in case.items() if value is not None}
    with Progress("train", "updates") as progress:
        result = train_online(
            *(problem, method, out, given, worlds, schedule, validate_on),
            on_progress=progress.metrics(schedule.updates, shown="reward"),
            start=start,
            critic=critic,
        )
    _tell_result(result)


def _tell_result(result: "TrainResult") -> None:
    if result.best_score is not None:
        typer.echo(f"best after update {result.best_update}: {result.best_score:.4f} in validation")
    typer.echo(f"policy in {result.policy}")
