"""`netllm-gym`: a thin skin over the Python functions of the same names."""

import dataclasses
import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.exceptions import TyperException

from netllm_gym.cli_data import data_app
from netllm_gym.errors import InputError
from netllm_gym.files import one_line, write_whole
from netllm_gym.options import check_json_file, names_in, read_options
from netllm_gym.policies.llm.config import BackboneConfig, LLMConfig, TrainConfig
from netllm_gym.policies.neural.config import (
    DIFFICULTIES,
    AugmentConfig,
    DecimaConfig,
    GenetConfig,
    UDRConfig,
    WorldsConfig,
)
from netllm_gym.policies.offline.config import OfflineSchedule
from netllm_gym.policies.returns import ReturnSpec
from netllm_gym.progress import Progress

if TYPE_CHECKING:
    from netllm_gym.policies.runs import TrainResult

INTERRUPTED = 130  # exit status: 128 and the number of SIGINT
EXTRA_OF = {"torch": "llm", "transformers": "llm", "peft": "llm", "safetensors": "llm"} | {
    "bayes_opt": "genet",
    "d3rlpy": "offline",
}
FROM_POOL = ("pool", "policies", "device")  # for every method that learns from a pool
OFFLINE = (*FROM_POOL, "batch_size")
PLAYING = ("traces", "video", "episodes")  # options of `train` for ABR's methods that play
METHOD_OPTIONS = {  # method of `train` -> its options, beside those that all methods have
    "llm": (
        *(*FROM_POOL, "backbone", "init", "adapt", "layers", "lora_rank", "lora_alpha"),
        *("lora_targets", "layout", "returns", "batch_episodes", "accumulate"),
        *("objective", "adapter_learning_rate", "warmup_fraction", "dtype"),
    ),
    "bc": OFFLINE,
    "cql": OFFLINE,
    "dt": (*OFFLINE, "returns", "ignore_padding"),
    "ppo": (*PLAYING, "augment"),
    "udr": (*PLAYING, "difficulty"),
    "genet": (*PLAYING, "difficulty"),
    "decima": ("workload", "num_executors", "num_jobs", "episodes", "clone_updates"),
}

app = typer.Typer(
    name="netllm-gym",
    help="Networking problems as Gymnasium environments, and language models adapted to them.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.add_typer(data_app, name="data")


def _use_config(context: typer.Context, path: Path | None) -> Path | None:
    """Take a file's options as the defaults of this command."""
    if path is not None:
        known = {
            flag.removeprefix("--"): parameter.name
            for parameter in context.command.params
            for flag in parameter.opts
            if flag.startswith("--") and parameter.name not in (None, "config_file")
        }
        context.default_map = read_options(path, known)
    return path


ProblemName = Annotated[str, typer.Argument(help="The problem: abr or cjs.", show_default=False)]
Policies = Annotated[
    str | None,
    typer.Option(help="Names, or folders of trained policies, separated by commas."),
]
Traces = Annotated[
    str | None,
    typer.Option(help="ABR: a trace set's name, a folder of trace files, or a list of data split."),
]
VideoName = Annotated[
    str | None,
    typer.Option(help="ABR: a video's name, a folder of chunk sizes or a DASH .mpd."),
]
WorkloadName = Annotated[
    str | None,
    typer.Option(help="CJS: synthetic, tpch, a folder of TPC-H files, or a file of jobs."),
]
NumExecutors = Annotated[int | None, typer.Option(help="CJS: executors of the cluster.")]
NumJobs = Annotated[int | None, typer.Option(help="CJS: jobs of an episode.")]
Device = Annotated[str, typer.Option(help="Where the language model runs: cpu, cuda, ...")]
ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config",
        callback=_use_config,
        is_eager=True,
        help="TOML file of options, such as seed = 1; options on the command line win.",
    ),
]


@app.command()
def envs() -> None:
    """List the environments.

    Example: netllm-gym envs
    """
    from netllm_gym.problems import PROBLEMS

    for problem in PROBLEMS.values():
        typer.echo(f"{problem.env_id}  {problem.name}: {problem.title}")
        typer.echo(f"  policies: {', '.join(problem.policies)}")


@app.command()
def collect(
    problem: ProblemName,
    policies: Annotated[str, typer.Option(help="Names or folders, separated by commas.")],
    episodes: Annotated[int, typer.Option(help="Episodes of each policy.")],
    out: Annotated[Path, typer.Option(help="Folder of the pool; run again to go on.")],
    traces: Traces = None,
    video: VideoName = None,
    noise: Annotated[
        bool | None, typer.Option("--noise", help="ABR: download times times 0.9 to 1.1.")
    ] = None,
    workload: WorkloadName = None,
    num_executors: NumExecutors = None,
    num_jobs: NumJobs = None,
    seed: Annotated[int, typer.Option(help="Seed of the first episode.")] = 0,
    workers: Annotated[
        int, typer.Option(help="Processes; the pool is the same for any number.")
    ] = 1,
    lookahead: Annotated[
        str | None,
        typer.Option(
            help="ABR: a policy, or its folder, that plays on after each action that could have "
            "been taken, so that the pool holds what each is worth."
        ),
    ] = None,
    config_file: ConfigFile = None,
) -> None:
    """Let policies play training episodes and keep them as an experience pool.

    Example: netllm-gym collect abr --policies robust_mpc,bba --episodes 500 --out pools/first
    """
    from netllm_gym.collection import collect as run
    from netllm_gym.problems import find_problem

    row = find_problem(problem)
    case = {**row.default_case} | row.checked_case(
        traces=traces,
        video=video,
        noise=noise,
        workload=workload,
        num_executors=num_executors,
        num_jobs=num_jobs,
    )
    with Progress("collect", "episodes") as progress:
        pool = run(
            *(problem, names_in(policies), episodes, out, case, seed, workers),
            on_episode=progress.update,
            lookahead=lookahead,
        )
    typer.echo(
        f"{len(pool)} episodes, {pool.num_steps} steps, {pool.num_bytes / 1e6:.1f} MB in {out}"
    )
    for name, teacher in pool.summary().policies.items():
        typer.echo(
            f"  {name}: {teacher.num_episodes} episodes, mean reward {teacher.mean_reward:.3f}"
        )


@app.command()
def train(
    context: typer.Context,
    problem: ProblemName,
    out: Annotated[Path, typer.Option(help="Folder of the run; run again to go on.")],
    method: Annotated[
        str,
        typer.Option(
            help="llm, and by d3rlpy bc, cql and dt, learn from a pool; ppo, udr, genet (ABR) and "
            "decima (CJS) by playing."
        ),
    ] = "llm",
    pool: Annotated[Path | None, typer.Option(help="Folder of the experience pool.")] = None,
    traces: Traces = None,
    video: VideoName = None,
    augment: Annotated[
        int | None,
        typer.Option(
            help="ppo: altered copies of each trace, beside generated ones and noise; 0: none of "
            "these.  [default: 12]"
        ),
    ] = None,
    difficulty: Annotated[
        int | None,
        typer.Option(help="udr, genet: 1 to 3, how wide links and players vary.  [default: 2]"),
    ] = None,
    episodes: Annotated[
        int | None,
        typer.Option(help="Where it plays: in each update.  [default: 512; decima: 48]"),
    ] = None,
    workload: WorkloadName = None,
    num_executors: NumExecutors = None,
    num_jobs: NumJobs = None,
    clone_updates: Annotated[
        int | None,
        typer.Option(help="decima: first updates, which clone tuned_srpt.  [default: 12]"),
    ] = None,
    policies: Annotated[
        str | None, typer.Option(help="Teachers to learn from; the best of the pool if left out.")
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
    returns: Annotated[
        str,
        typer.Option(
            help="What the policy (llm, dt) is told: auto, none, return_to_go or baseline:POLICY."
        ),
    ] = "auto",
    batch_size: Annotated[
        int | None,
        typer.Option(
            help="bc, cql, dt: decisions of an update, of dt each with the 19 before it.  "
            "[default: 256; dt: 64]"
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
            "[default: 2000; bc, cql: 20000; playing: 300; decima: 100]"
        ),
    ] = None,
    batch_episodes: Annotated[
        int, typer.Option(help="Episodes of one forward pass; 0: the problem's own number.")
    ] = TrainConfig.batch_episodes,
    objective: Annotated[
        str,
        typer.Option(help="imitate the pool's actions, or choose what has most value in it (ABR)."),
    ] = TrainConfig.objective,
    accumulate: Annotated[
        int, typer.Option(help="Forward passes of one update.")
    ] = TrainConfig.accumulate,
    learning_rate: Annotated[
        float | None,
        typer.Option(
            help="Of encoders and head, or of the network.  "
            "[default: 0.001; cql: 0.0003; dt: 0.0006; decima: 0.0005]"
        ),
    ] = None,
    adapter_learning_rate: Annotated[
        float, typer.Option(help="Inside the backbone.")
    ] = TrainConfig.adapter_learning_rate,
    warmup_fraction: Annotated[
        float, typer.Option(help="Share of updates to warm up.")
    ] = TrainConfig.warmup_fraction,
    validate_on: Annotated[
        str | None, typer.Option(help="Traces, or workload, to choose the best policy on.")
    ] = None,
    validate_every: Annotated[
        int | None,
        typer.Option(
            help="Updates between validations.  [default: 200; bc, cql: 1000; dt: 100; playing: 10]"
        ),
    ] = None,
    checkpoint_every: Annotated[
        int | None,
        typer.Option(
            help="Updates between checkpoints.  [default: 200; bc, cql: 1000; dt: 100; playing: 10]"
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
    """Adapt a language model to a pool's episodes, or train a small network on them or by playing.

    Example: netllm-gym train abr --pool pools/first --backbone minilm --out runs/first

    Example: netllm-gym train abr --method bc --pool pools/first --out runs/bc

    Example: netllm-gym train abr --method ppo --traces clean-train --video video1 --out runs/ppo

    Example: netllm-gym train abr --method udr --difficulty 2 --out runs/udr

    Example: netllm-gym train abr --method genet --difficulty 2 --out runs/genet

    Example: netllm-gym train cjs --method decima --workload tpch --out runs/decima
    """
    _check_method(context, method)
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
    if "pool" not in METHOD_OPTIONS[method]:  # it plays
        case = {
            "traces": traces,
            "video": video,
            "workload": workload,
            "num_executors": num_executors,
            "num_jobs": num_jobs,
        }
        worlds = _worlds_of(method, augment, difficulty, clone_updates)
        if episodes is not None:
            schedule["episodes"] = episodes
        _play(problem, method, out, case, worlds, schedule, validate_on)
        return
    if pool is None:
        raise InputError(f"pool must be given for the method {method}, got none")
    teachers = names_in(policies) if policies else None
    if method != "llm":
        if batch_size is not None:
            schedule["batch_size"] = batch_size
        told = None if returns == "auto" else _returns_of(returns)
        settings_of_run = OfflineSchedule.of(
            method, device=device, counts_padding=not ignore_padding, **schedule
        )
        _learn_offline(problem, method, pool, out, settings_of_run, teachers, told, validate_on)
        return
    from netllm_gym.data.pool import ExperiencePool
    from netllm_gym.training import default_returns
    from netllm_gym.training import train as run

    if returns == "auto":
        spec = default_returns(ExperiencePool.load(pool, problem), teachers)
    else:
        spec = _returns_of(returns)
    targets = lora_targets if lora_targets in ("default", "all-linear") else names_in(lora_targets)
    config = LLMConfig(
        layout=layout,
        seed=seed,
        returns=spec,
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
    config_of_run = TrainConfig(
        batch_episodes=batch_episodes,
        accumulate=accumulate,
        objective=objective,
        adapter_learning_rate=adapter_learning_rate,
        warmup_fraction=warmup_fraction,
        device=device,
        **schedule,
    )
    with Progress("train", "updates") as progress:
        result = run(
            *(problem, pool, out, config, config_of_run, teachers, validate_on),
            on_progress=progress.metrics(config_of_run.updates),
        )
    _tell_result(result)


def _returns_of(text: str) -> ReturnSpec:
    """Return what `--returns` names."""
    kind, _, baseline = text.partition(":")
    if baseline and kind != "baseline":
        raise InputError(f"returns must name a policy behind baseline: only, got {text!r}")
    return ReturnSpec(kind=kind, baseline=baseline)


def _check_method(context: typer.Context, method: str) -> None:
    """Refuse a method that there is not, and options that are another method's."""
    if method not in METHOD_OPTIONS:
        raise InputError(f"method must be one of {', '.join(METHOD_OPTIONS)}, got {method!r}")
    of_methods = {name for options in METHOD_OPTIONS.values() for name in options}
    for name in sorted(of_methods - {*METHOD_OPTIONS[method]}):
        source = context.get_parameter_source(name)
        if source is not None and source.name != "DEFAULT":
            known = [each for each, options in METHOD_OPTIONS.items() if name in options]
            raise InputError(
                f"{name.replace('_', '-')} must be left out for the method {method}, "
                f"got {str(context.params[name])!r}; it is an option of {', '.join(known)}"
            )


def _worlds_of(
    method: str, augment: int | None, difficulty: int | None, clone_updates: int | None
) -> WorldsConfig:
    """Return what a method that plays makes its worlds by."""
    if method == "decima":
        asked = DecimaConfig.clone_updates if clone_updates is None else clone_updates
        return DecimaConfig(clone_updates=asked)
    if method == "ppo":
        return AugmentConfig() if augment is None else AugmentConfig(copies=augment)
    if difficulty is not None and difficulty not in DIFFICULTIES:
        raise InputError(f"difficulty must be 1, 2 or 3, got {difficulty}")
    udr = UDRConfig(DIFFICULTIES[2 if difficulty is None else difficulty])
    return udr if method == "udr" else GenetConfig(udr)


def _learn_offline(
    problem: str,
    method: str,
    pool: Path,
    out: Path,
    schedule: OfflineSchedule,
    teachers: Sequence[str] | None,
    returns: ReturnSpec | None,
    validate_on: str | None,
) -> None:
    """Train on a pool by d3rlpy."""
    from netllm_gym.training import train_offline

    with Progress("train", "updates") as progress:
        result = train_offline(
            *(problem, method, pool, out, schedule, teachers, returns, validate_on),
            on_progress=progress.metrics(schedule.updates),
        )
    _tell_result(result)


def _play(
    problem: str,
    method: str,
    out: Path,
    case: Mapping[str, str | int | None],
    worlds: WorldsConfig,
    given_schedule: Mapping[str, Any],
    validate_on: str | None,
) -> None:
    """Train by playing."""
    from netllm_gym.playing import METHODS, train_by_playing

    schedule = dataclasses.replace(METHODS[method].schedule, **given_schedule)
    given = {name: value for name, value in case.items() if value is not None}
    with Progress("train", "updates") as progress:
        result = train_by_playing(
            *(problem, method, out, given, worlds, schedule, validate_on),
            on_progress=progress.metrics(schedule.updates, shown="reward"),
        )
    _tell_result(result)


def _tell_result(result: "TrainResult") -> None:
    if result.best_score is not None:
        typer.echo(f"best after update {result.best_update}: {result.best_score:.4f} in validation")
    typer.echo(f"policy in {result.policy}")


@app.command()
def bench(
    problem: ProblemName,
    policies: Policies = None,
    traces: Traces = None,
    video: VideoName = None,
    workload: WorkloadName = None,
    num_executors: NumExecutors = None,
    num_jobs: NumJobs = None,
    episodes: Annotated[
        int, typer.Option(help="Play at least so many; CJS: never under 6 arrival seeds.")
    ] = 1,
    seed: Annotated[int, typer.Option(help="Of the first episode, for policies that draw.")] = 0,
    device: Device = "cpu",
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the table, per episode, to this file.")
    ] = None,
    config_file: ConfigFile = None,
) -> None:
    """Play every episode of a case with every policy and print the table.

    Example: netllm-gym bench abr --policies bba,robust_mpc,optimum --json table.json
    """
    from netllm_gym.evaluation import evaluate
    from netllm_gym.problems import find_problem
    from netllm_gym.report import render_table

    row = find_problem(problem)
    names = names_in(policies) if policies else list(row.default_policies)
    case = {**row.default_case, row.worlds: row.test_worlds} | row.checked_case(
        traces=traces,
        video=video,
        workload=workload,
        num_executors=num_executors,
        num_jobs=num_jobs,
    )
    check_json_file(json_file)
    with Progress("bench", "episodes") as progress:
        table = evaluate(
            *(problem, names, case, seed, device, episodes),
            on_episode=lambda policy, done, total: progress.update(done, total, policy),
        )
    typer.echo(render_table(table))
    if json_file is not None:
        write_whole(json_file.resolve(), table.to_json().encode())


@app.command()
def report(
    tables: Annotated[list[Path], typer.Argument(help="Files of bench --json, one or more.")],
    out: Annotated[Path, typer.Option(help="The HTML file to write.")],
    play: Annotated[
        str,
        typer.Option(
            help="One or two policies, names or folders, to play an episode of each table; auto "
            "takes the best row known by name and the bound, else the two best; or none."
        ),
    ] = "auto",
    episode: Annotated[
        int | None,
        typer.Option(help="Episode to play, from 0; left out, that of the median difference."),
    ] = None,
) -> None:
    """Write tables as one HTML file that needs no network, with charts.

    Example: netllm-gym report table.json --play runs/first,optimum --out report.html
    """
    from netllm_gym.report_html import check_can_report, play_episode, render_report
    from netllm_gym.report_replay import nameable_policies
    from netllm_gym.tables import read_table

    check_can_report()
    if out.is_dir() or not out.parent.is_dir():
        raise InputError(f"out must be a file in an existing folder, got {out}")
    if play == "none" and episode is not None:
        raise InputError(f"episode must be left out where nothing is played, got {episode}")
    if any(path.exists() and out.exists() and path.samefile(out) for path in tables):
        raise InputError(f"out must not be one of the tables, got {out}")
    asked = () if play in ("auto", "none") else names_in(play)
    read, played = [read_table(path) for path in tables], []
    for path, table in zip(tables, read, strict=True):
        names = nameable_policies(table) if play == "auto" else asked
        played.append(play_episode(table, names, episode) if names else None)
        if play == "auto":
            by = f"episode played by {' and '.join(names)}" if names else "no policy known by name"
            typer.echo(f"{path}: {by}; --play FOLDER,POLICY plays trained ones")
    write_whole(out.resolve(), render_report(read, played).encode())
    typer.echo(f"report in {out}")


@app.command()
def demo(
    problem: Annotated[str, typer.Argument(help="The problem: abr or cjs.")] = "abr",
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for pool, policies and table; run again to go on. Left out: runs/demo-abr "
            "or the like."
        ),
    ] = None,
) -> None:
    """Collect, train and bench on the embedded data, in a few minutes; ends with the table.

    Example: netllm-gym demo cjs
    """
    from netllm_gym.demo import run_demo
    from netllm_gym.report import render_table

    table = run_demo(problem, out or Path(f"runs/demo-{problem}"), typer.echo)
    typer.echo("")
    typer.echo(render_table(table))


@app.command()
def doctor(
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the findings to this file too.")
    ] = None,
) -> None:
    """Say what this machine has, and what is amiss; exit status 1 if something is broken.

    Example: netllm-gym doctor
    """
    from netllm_gym.doctor import examine

    check_json_file(json_file)
    findings = []
    for check in examine():
        findings.append(check)
        mark = "" if check.state == "ok" else f" [{check.state}]"
        typer.echo(f"{check.name:22} {check.found}{mark}")
    if json_file is not None:
        content = [check._asdict() for check in findings]
        write_whole(json_file.resolve(), (json.dumps(content, indent=1) + "\n").encode())
    if any(check.state == "broken" for check in findings):
        raise typer.Exit(1)


@app.command()
def version() -> None:
    """Print the version.

    Example: netllm-gym version
    """
    from netllm_gym import __version__

    typer.echo(__version__)


def main() -> None:
    """Run the command line; what `run` returns is the exit status."""
    status = run(sys.argv[1:])
    if status == INTERRUPTED:  # die of the signal, so that a shell's loop around us ends too
        sys.excepthook = lambda *_: None  # the sentence was said
        raise KeyboardInterrupt
    sys.exit(status)


def run(arguments: list[str]) -> int:
    """Run one command; whatever goes wrong is one sentence on stderr.

    Returns:
        The exit status: 0; 1 if the machine failed (full disk, no permission, killed process); 2 if
        the input is wrong; 130, which is how shells show a process that died of Ctrl-C.
    """
    try:
        status = int(
            app(arguments or ["--help"], prog_name="netllm-gym", standalone_mode=False) or 0
        )
    except TyperException as error:
        return _fail(error.format_message(), 2)
    except InputError as error:
        return _fail(str(error), 2)
    except (KeyboardInterrupt, typer.Abort):
        status = INTERRUPTED
    except ModuleNotFoundError as error:
        extra = EXTRA_OF.get(error.name or "", "all")
        wanted = f"pip install 'netllm-gym[{extra}]'"
        return _fail(f"{error.name} must be installed, got none: {wanted}", 2)
    except MemoryError as error:
        return _fail(f"this machine has too little memory for that: {one_line(error)}", 1)
    except OSError as error:
        where = f"{error.filename}: " if error.filename is not None else ""
        return _fail(f"{where}{error.strerror or one_line(error)}", 1)
    if status == INTERRUPTED:  # typer makes this status of a Ctrl-C within a command
        again = shlex.join(["netllm-gym", *arguments])
        goes_on = arguments[:1] in (["collect"], ["train"], ["demo"])
        kept = "what is finished is kept, it goes on with" if goes_on else "begin again with"
        return _fail(f"interrupted; {kept} `{again}`", INTERRUPTED)
    return status


def _fail(sentence: str, status: int) -> int:
    typer.echo(f"netllm-gym: {sentence}", err=True)
    return status
