"""`netllm-gym`: a thin skin over the Python functions of the same names."""

import json
import os
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer
from typer.exceptions import TyperException

from netllm_gym.errors import InputError
from netllm_gym.files import check_can_be_folder, one_line, replace_folder, write_whole
from netllm_gym.options_file import read_options
from netllm_gym.policies.llm.config import BackboneConfig, LLMConfig, TrainConfig
from netllm_gym.progress import Progress

INTERRUPTED = 130  # exit status: 128 and the number of SIGINT
EXTRA_OF = {"torch": "llm", "transformers": "llm", "peft": "llm", "safetensors": "llm"}

app = typer.Typer(
    name="netllm-gym",
    help="Networking problems as Gymnasium environments, and language models adapted to them.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
data_app = typer.Typer(help="Traces and videos on this machine.", no_args_is_help=True)
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


ProblemName = Annotated[str, typer.Argument(help="The problem: abr.", show_default=False)]
Policies = Annotated[
    str | None,
    typer.Option(help="Names, or folders of trained policies, separated by commas."),
]
Traces = Annotated[
    str,
    typer.Option(help="A trace set's name, a folder of trace files, or a list of data split."),
]
VideoName = Annotated[
    str, typer.Option(help="A video's name, a folder of chunk sizes or a DASH .mpd.")
]
Device = Annotated[str, typer.Option(help="Where the language model runs: cpu, cuda, ...")]
ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config",
        callback=_use_config,
        is_eager=True,
        help="TOML file of options, such as updates = 900; options on the command line win.",
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


@data_app.command("list")
def data_list() -> None:
    """List the trace sets and videos that can be named, where they are, and what can be fetched.

    Example: netllm-gym data list
    """
    from netllm_gym.catalogue import render_catalogue

    typer.echo(render_catalogue())


@data_app.command("generate")
def data_generate(
    out: Annotated[Path, typer.Option(help="New folder for the traces.")],
    family: Annotated[
        str, typer.Option(help="synthetic, synthetic-uniform or synthetic-markov.")
    ] = ("synthetic"),
    count: Annotated[int, typer.Option(help="Number of traces.")] = 100,
    seed: Annotated[int, typer.Option(help="Of the whole set.")] = 0,
) -> None:
    """Write generated traces as cooked trace files.

    Example: netllm-gym data generate --family synthetic-markov --count 20 --out traces
    """
    from netllm_gym.envs.abr.synthetic import FAMILIES, generate_traces
    from netllm_gym.envs.abr.traces import write_cooked_trace

    if family not in FAMILIES:
        raise InputError(f"family must be one of {', '.join(FAMILIES)}, got {family!r}")
    check_can_be_folder("out", out)
    if out.exists() and (any(out.iterdir()) or out.samefile(Path.cwd())):
        raise InputError(f"out must be a new or empty folder, not the one you are in, got {out}")
    traces = generate_traces(FAMILIES[family], count, seed)

    def write(folder: Path) -> None:
        for number, trace in enumerate(traces):
            write_cooked_trace(folder / f"{family}-{seed}-{number:04d}", *trace)

    replace_folder(out, write)  # half of the traces would be taken for a whole set
    typer.echo(f"{count} traces of the family {family} in {out}")


@data_app.command("fetch")
def data_fetch(
    names: Annotated[list[str], typer.Argument(help="fcc, norway, video1 or video2.")],
    to: Annotated[
        Path | None, typer.Option(help="Data folder; the one that is in use if left out.")
    ] = None,
    source: Annotated[
        str,
        typer.Option(
            "--from",
            help="Folder of a clone of the repository at the pinned commit, or another address of "
            "one; GitHub if left out.",
        ),
    ] = "",
) -> None:
    """Fetch published traces and videos, each file checked by its SHA-256.

    Run again, it goes on where it was interrupted, and mends what was altered.

    Example: netllm-gym data fetch fcc video1
    """
    from netllm_gym.data.datasets import DATA_VARIABLE, data_folder
    from netllm_gym.data.fetch import fetch
    from netllm_gym.data.published import find_published, published

    folder = to or data_folder()
    sets = [find_published(name) for name in names]
    for each in sets:
        with Progress(f"fetch {each.name}", "files") as progress:
            done = fetch(each, folder, source, progress.update)
        mended = f", {done.replaced} of them in place of altered ones" if done.replaced else ""
        typer.echo(f"{each.name}: {done.files} files, {done.brought} fetched{mended}, in {folder}")
        for place in each.folders:
            typer.echo(f"  {place}")
        for work in each.cite:
            typer.echo(f"  cite: {work}")
    pinned = published()
    typer.echo(f"from {pinned.repository} at commit {pinned.commit}")
    typer.echo(f"licence: {pinned.licence}")
    if folder.resolve() != data_folder().resolve():
        typer.echo(f"set {DATA_VARIABLE}={folder.resolve()} to use them by name")


@data_app.command("inspect")
def data_inspect(
    name: Annotated[str, typer.Argument(help="A trace set's name, folder or list.")],
    against: Annotated[
        list[str] | None, typer.Argument(help="More sets, compared with it and each other.")
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write everything to this file.")
    ] = None,
    picture: Annotated[
        Path | None, typer.Option(help="Draw the sets to this PNG, SVG or PDF file.")
    ] = None,
) -> None:
    """Print statistics and outliers of trace sets, and which traces leak from one into another.

    A trace leaks if its file is byte-identical to one of the other set, if its capacities are
    contained in one of the other set's traces, if the two overlap, or if their names say the
    same recording. A trace is counted once, for the first of these that holds.

    Example: netllm-gym data inspect fcc-test fcc-train
    """
    from netllm_gym.envs.abr.traces import load_trace_set
    from netllm_gym.inspection import check_different, inspect, render_inspection
    from netllm_gym.trace_picture import check_can_draw, draw_traces

    names = [name, *(against or ())]
    check_different(names)
    if json_file is not None and (json_file.is_dir() or not json_file.parent.is_dir()):
        raise InputError(f"json must be a file in an existing folder, got {json_file}")
    if picture is not None:
        check_can_draw(picture)
    sets = {each: load_trace_set(each) for each in names}
    inspection = inspect(sets)
    typer.echo(render_inspection(inspection))
    if json_file is not None:
        write_whole(json_file, inspection.to_json().encode())
    if picture is not None:
        draw_traces(sets, picture)


@data_app.command("split")
def data_split(
    name: Annotated[str, typer.Argument(help="A trace set's name, folder or list.")],
    out: Annotated[Path, typer.Option(help="New folder for the lists.")],
    by: Annotated[str, typer.Option(help="What is kept together: recording.")] = "recording",
    shares: Annotated[
        str, typer.Option(help="Shares of train, valid and test, or of train and test.")
    ] = "0.7,0.15,0.15",
    seed: Annotated[int, typer.Option(help="Equal seeds give equal parts.")] = 0,
) -> None:
    """Split a trace set so that all pieces of one recording land in one part.

    Writes lists of names and SHA-256, which --traces and data inspect accept as OUT/train.json and
    so on. Pieces belong together if their names say so or if their contents are identical,
    contained in each other, or overlap.

    Example: netllm-gym data split fcc-train --shares 0.7,0.15,0.15 --seed 0 --out splits/mine
    """
    from netllm_gym.envs.abr.splits import split_by_recording
    from netllm_gym.envs.abr.traces import load_trace_set

    if by != "recording":
        raise InputError(f"by must be recording, got {by!r}")
    try:
        numbers = [float(share) for share in _names(shares)]
    except ValueError:
        raise InputError(f"shares must be numbers separated by commas, got {shares!r}") from None
    parts = split_by_recording(load_trace_set(name), numbers, seed, out)
    for part, kept in parts.items():
        typer.echo(
            f"{part}: {len(kept.traces.sha256)} traces of {kept.num_recordings} recordings "
            f"in {out / part}.json"
        )


@data_app.command("convert")
def data_convert(
    source: Annotated[
        Path, typer.Argument(metavar="IN", help="A trace file or a folder.", show_default=False)
    ],
    out: Annotated[Path, typer.Option(help="New folder for the traces.")],
    file_format: Annotated[
        str,
        typer.Option(
            "--format",
            help="cooked, mahimahi, csv, hsdpa or fcc; left out, each file's first line decides.",
        ),
    ] = "",
) -> None:
    """Write traces of other formats as cooked trace files; docs/formats.md has the formats.

    Example: netllm-gym data convert curr_webget.csv --out traces/fcc
    """
    from netllm_gym.envs.abr.trace_conversion import convert_traces

    traces = convert_traces(source, out, file_format)
    together_s = sum(float(trace.time_s[-1]) for trace in traces)
    typer.echo(f"{len(traces)} traces, {together_s:,.0f} s together, in {out}")


@data_app.command("import-pool")
def data_import_pool(
    file: Annotated[Path, typer.Argument(help="NetLLM's exp_pool.pkl.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Folder of the pool; run again to go on.")],
    traces: Annotated[
        str | None, typer.Option(help="What was played, on your word; needed to train.")
    ] = None,
    video: Annotated[
        str | None, typer.Option(help="What was played, checked by chunk sizes; needed to train.")
    ] = None,
    noise: Annotated[bool, typer.Option("--noise", help="Download times were noisy.")] = False,
    policy: Annotated[str, typer.Option(help="Who acted; the file does not say.")] = "unknown",
) -> None:
    """Read a pickled pool of NetLLM, without unpickling it, into an experience pool.

    The file names no traces, video, seeds or policy; `train` takes the pool only if traces and
    video are named here.

    Example: netllm-gym data import-pool exp_pool.pkl --out pools/netllm --traces fcc-train
    --video video1 --policy genet
    """
    from netllm_gym.pool_import import import_netllm_pool

    pool = import_netllm_pool(file, out, traces, video, noise, policy)
    typer.echo(f"{len(pool)} episodes, {pool.num_steps} steps of {policy} in {out}")
    if traces is None:
        typer.echo("what was played is unknown: to train on it, import it with --traces, --video")


@data_app.command("log-reward")
def data_log_reward(
    folder: Annotated[Path, typer.Argument(help="Folder of the logs.", show_default=False)],
    all_lines: Annotated[
        bool, typer.Option("--all-lines", help="Count the first line of each file too.")
    ] = False,
) -> None:
    """Print the mean reward of NetLLM's text logs (last column), as NetLLM counts it.

    Example: netllm-gym data log-reward results/mpc
    """
    from netllm_gym.data.netllm_logs import log_reward

    found = log_reward(folder, skip_first_line=not all_lines)
    skipped = "" if all_lines else ", the first of each left out"
    typer.echo(
        f"mean reward {found.mean:.6f} over {found.num_lines} lines of {found.num_files} files"
        f"{skipped}"
    )


@app.command()
def collect(
    problem: ProblemName,
    policies: Annotated[str, typer.Option(help="Names or folders, separated by commas.")],
    episodes: Annotated[int, typer.Option(help="Episodes of each policy.")],
    out: Annotated[Path, typer.Option(help="Folder of the pool; run again to go on.")],
    traces: Traces = "synthetic",
    video: VideoName = "synthetic",
    noise: Annotated[
        bool, typer.Option("--noise", help="Download times times 0.9 to 1.1.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Seed of the first episode.")] = 0,
    workers: Annotated[
        int, typer.Option(help="Processes; the pool is the same for any number.")
    ] = 1,
    config_file: ConfigFile = None,
) -> None:
    """Let policies play training episodes and keep them as an experience pool.

    Example: netllm-gym collect abr --policies robust_mpc,bba --episodes 500 --out pools/first
    """
    from netllm_gym.collection import collect as run

    case = {"traces": traces, "video": video} | ({"noise": True} if noise else {})
    with Progress("collect", "episodes") as progress:
        pool = run(problem, _names(policies), episodes, out, case, seed, workers, progress.update)
    typer.echo(
        f"{len(pool)} episodes, {pool.num_steps} steps, {pool.num_bytes / 1e6:.1f} MB in {out}"
    )
    for name, teacher in pool.summary().policies.items():
        typer.echo(
            f"  {name}: {teacher.num_episodes} episodes, mean reward {teacher.mean_reward:.3f}"
        )


@app.command()
def train(
    problem: ProblemName,
    pool: Annotated[Path, typer.Option(help="Folder of the experience pool.")],
    out: Annotated[Path, typer.Option(help="Folder of the run; run again to go on.")],
    method: Annotated[str, typer.Option(help="How to learn: llm.")] = "llm",
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
    layout: Annotated[str, typer.Option(help="compact, pair or netllm.")] = LLMConfig.layout,
    returns: Annotated[
        str,
        typer.Option(help="What the policy is told: auto, none, return_to_go or baseline:POLICY."),
    ] = "auto",
    updates: Annotated[int, typer.Option(help="Optimizer steps.")] = TrainConfig.updates,
    batch_episodes: Annotated[
        int, typer.Option(help="Episodes of one forward pass.")
    ] = TrainConfig.batch_episodes,
    accumulate: Annotated[
        int, typer.Option(help="Forward passes of one update.")
    ] = TrainConfig.accumulate,
    learning_rate: Annotated[
        float, typer.Option(help="Of encoders and head.")
    ] = TrainConfig.learning_rate,
    adapter_learning_rate: Annotated[
        float, typer.Option(help="Inside the backbone.")
    ] = TrainConfig.adapter_learning_rate,
    warmup_fraction: Annotated[
        float, typer.Option(help="Share of updates to warm up.")
    ] = TrainConfig.warmup_fraction,
    validate_on: Annotated[
        str | None, typer.Option(help="Traces to choose the best policy on.")
    ] = None,
    validate_every: Annotated[
        int, typer.Option(help="Updates between validations.")
    ] = TrainConfig.validate_every,
    checkpoint_every: Annotated[
        int, typer.Option(help="Updates between checkpoints.")
    ] = TrainConfig.checkpoint_every,
    seed: Annotated[int, typer.Option(help="Of initial weights and batches.")] = TrainConfig.seed,
    threads: Annotated[
        int, typer.Option(help="CPU threads; 0 leaves torch's choice.")
    ] = TrainConfig.threads,
    device: Device = TrainConfig.device,
    dtype: Annotated[
        str, typer.Option(help="Of the backbone: float32 or bfloat16.")
    ] = BackboneConfig.dtype,
    config_file: ConfigFile = None,
) -> None:
    """Adapt a language model to a pool's episodes.

    Example: netllm-gym train abr --pool pools/first --backbone minilm --out runs/first
    """
    from netllm_gym.data.pool import ExperiencePool
    from netllm_gym.policies.llm.returns import ReturnSpec
    from netllm_gym.training import default_returns
    from netllm_gym.training import train as run

    if method != "llm":
        raise InputError(f"method must be llm, got {method!r}")
    teachers = _names(policies) if policies else None
    if returns == "auto":
        spec = default_returns(ExperiencePool.load(pool, problem), teachers)
    else:
        kind, _, baseline = returns.partition(":")
        if baseline and kind != "baseline":
            raise InputError(f"returns must name a policy behind baseline: only, got {returns!r}")
        spec = ReturnSpec(kind=kind, baseline=baseline)
    targets = lora_targets if lora_targets in ("default", "all-linear") else _names(lora_targets)
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
    schedule = TrainConfig(
        updates=updates,
        batch_episodes=batch_episodes,
        accumulate=accumulate,
        learning_rate=learning_rate,
        adapter_learning_rate=adapter_learning_rate,
        warmup_fraction=warmup_fraction,
        validate_every=validate_every,
        checkpoint_every=checkpoint_every,
        seed=seed,
        threads=threads,
        device=device,
    )
    with Progress("train", "updates") as progress:
        result = run(
            *(problem, pool, out, config, schedule, teachers, validate_on),
            on_progress=progress.metrics(updates),
        )
    if result.best_score is not None:
        typer.echo(f"best after update {result.best_update}: {result.best_score:.4f} in validation")
    typer.echo(f"policy in {result.policy}")


@app.command()
def bench(
    problem: ProblemName,
    policies: Policies = None,
    traces: Traces = "synthetic-test",
    video: VideoName = "synthetic",
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

    names = _names(policies) if policies else list(find_problem(problem).default_policies)
    _check_json(json_file)
    with Progress("bench", "episodes") as progress:
        table = evaluate(
            *(problem, names, {"traces": traces, "video": video}, seed, device),
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
            help="One or two policies, names or folders, to play a trace of each table with; auto "
            "takes the best row known by name and the bound, else the two best; or none."
        ),
    ] = "auto",
    trace: Annotated[
        int | None,
        typer.Option(help="Episode to play, from 0; left out, that of the median difference."),
    ] = None,
) -> None:
    """Write tables as one HTML file that needs no network, with charts.

    Example: netllm-gym report table.json --play runs/first,optimum --out report.html
    """
    from netllm_gym.report_abr import nameable_policies, play_trace
    from netllm_gym.report_html import check_can_report, render_report
    from netllm_gym.tables import read_table

    check_can_report()
    if out.is_dir() or not out.parent.is_dir():
        raise InputError(f"out must be a file in an existing folder, got {out}")
    if play == "none" and trace is not None:
        raise InputError(f"trace must be left out where nothing is played, got {trace}")
    if any(path.exists() and out.exists() and path.samefile(out) for path in tables):
        raise InputError(f"out must not be one of the tables, got {out}")
    asked = () if play in ("auto", "none") else _names(play)
    read, played = [read_table(path) for path in tables], []
    for path, table in zip(tables, read, strict=True):
        names = nameable_policies(table) if play == "auto" else asked
        played.append(play_trace(table, names, trace) if names else None)
        if play == "auto":
            by = f"trace played by {' and '.join(names)}" if names else "no policy known by name"
            typer.echo(f"{path}: {by}; --play FOLDER,POLICY plays trained ones")
    write_whole(out.resolve(), render_report(read, played).encode())
    typer.echo(f"report in {out}")


@app.command()
def demo(
    problem: Annotated[str, typer.Argument(help="The problem: abr.")] = "abr",
    out: Annotated[Path, typer.Option(help="Folder for pool, policies and table.")] = Path(
        "runs/demo"
    ),
) -> None:
    """Collect, train and bench on the embedded data, in a few minutes; ends with the table.

    Example: netllm-gym demo
    """
    from netllm_gym.demo import run_demo
    from netllm_gym.report import render_table

    table = run_demo(problem, out, typer.echo)
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

    _check_json(json_file)
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


def _check_json(file: Path | None) -> None:
    """Refuse now what could not be written after the last episode."""
    if file is None:
        return
    is_special = file.exists() and not file.is_file()  # a folder, a device
    if is_special or not file.parent.is_dir():
        raise InputError(f"json must be a file in an existing folder, got {file}")
    if not os.access(file.parent, os.W_OK):
        raise InputError(f"json must be in a folder that can be written to, got {file}")


def _names(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if not names:
        raise InputError(f"names must be one or more, separated by commas, got {text!r}")
    return names


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
