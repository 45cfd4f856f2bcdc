"""`netllm-gym`: a thin skin over the Python functions of the same names."""

import os
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer
from typer.exceptions import TyperException

from netllm_gym.errors import InputError
from netllm_gym.files import check_can_be_folder, one_line, replace_folder, write_whole
from netllm_gym.progress import Progress

INTERRUPTED = 130  # exit status: 128 and the number of SIGINT

app = typer.Typer(
    name="netllm-gym",
    help="Networking problems as Gymnasium environments, and language models adapted to them.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
data_app = typer.Typer(help="Traces and videos on this machine.", no_args_is_help=True)
app.add_typer(data_app, name="data")

ProblemName = Annotated[str, typer.Argument(help="The problem: abr.", show_default=False)]
Policies = Annotated[
    str | None,
    typer.Option(help="Names, or folders of trained policies, separated by commas."),
]
Traces = Annotated[str, typer.Option(help="A trace set's name or a folder of cooked traces.")]
VideoName = Annotated[str, typer.Option(help="A video's name or a folder of chunk sizes.")]


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
    """List the trace sets and videos that can be named.

    Example: netllm-gym data list
    """
    from netllm_gym.data.datasets import data_folder
    from netllm_gym.envs.abr.traces import trace_set_names
    from netllm_gym.envs.abr.video import video_names

    typer.echo(f"data folder: {data_folder()}")
    typer.echo(f"traces: {', '.join(trace_set_names())}")
    typer.echo(f"videos: {', '.join(video_names())}")


@data_app.command("generate")
def data_generate(
    out: Annotated[Path, typer.Option(help="New folder for the traces.")],
    family: Annotated[
        str, typer.Option(help="synthetic, synthetic-uniform or synthetic-markov.")
    ] = ("synthetic"),
    count: Annotated[int, typer.Option(help="Number of traces.")] = 100,
    seed: Annotated[int, typer.Option(help="Seed of the first trace.")] = 0,
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
    layers: Annotated[int | None, typer.Option(help="Leave the backbone after this block.")] = None,
    lora_rank: Annotated[int, typer.Option(help="Rank of the adapter.")] = 16,
    lora_alpha: Annotated[int, typer.Option(help="Scale of the adapter.")] = 32,
    lora_targets: Annotated[
        str, typer.Option(help="default, all-linear, or names of modules, separated by commas.")
    ] = "default",
    layout: Annotated[str, typer.Option(help="compact, pair or netllm.")] = "compact",
    returns: Annotated[
        str,
        typer.Option(help="What the policy is told: auto, none, return_to_go or baseline:POLICY."),
    ] = "auto",
    updates: Annotated[int, typer.Option(help="Optimizer steps.")] = 2000,
    batch_episodes: Annotated[int, typer.Option(help="Episodes of one forward pass.")] = 32,
    accumulate: Annotated[int, typer.Option(help="Forward passes of one update.")] = 1,
    learning_rate: Annotated[float, typer.Option(help="Of encoders and head.")] = 1e-3,
    adapter_learning_rate: Annotated[float, typer.Option(help="Inside the backbone.")] = 5e-4,
    warmup_fraction: Annotated[float, typer.Option(help="Share of updates to warm up.")] = 0.05,
    validate_on: Annotated[
        str | None, typer.Option(help="Traces to choose the best policy on.")
    ] = None,
    validate_every: Annotated[int, typer.Option(help="Updates between validations.")] = 200,
    checkpoint_every: Annotated[int, typer.Option(help="Updates between checkpoints.")] = 200,
    seed: Annotated[int, typer.Option(help="Of initial weights and batches.")] = 0,
    threads: Annotated[int, typer.Option(help="CPU threads; 0 leaves torch's choice.")] = 0,
    device: Annotated[str, typer.Option(help="cpu, cuda, ...")] = "cpu",
) -> None:
    """Adapt a language model to a pool's episodes.

    Example: netllm-gym train abr --pool pools/first --backbone minilm --out runs/first
    """
    from netllm_gym.data.pool import ExperiencePool
    from netllm_gym.policies.llm.config import BackboneConfig, LLMConfig, TrainConfig
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
        spec = ReturnSpec(kind=kind, baseline=baseline or "robust_mpc")
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
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the table, per episode, to this file.")
    ] = None,
) -> None:
    """Play every episode of a case with every policy and print the table.

    Example: netllm-gym bench abr --policies bba,robust_mpc,optimum --json table.json
    """
    from netllm_gym.evaluation import evaluate
    from netllm_gym.problems import find_problem
    from netllm_gym.report import render_table

    names = _names(policies) if policies else list(find_problem(problem).default_policies)
    if json_file is not None:
        is_special = json_file.exists() and not json_file.is_file()  # a folder, a device
        if is_special or not json_file.parent.is_dir():
            raise InputError(f"json must be a file in an existing folder, got {json_file}")
        if not os.access(json_file.parent, os.W_OK):  # now, not after the last episode
            raise InputError(f"json must be in a folder that can be written to, got {json_file}")
    with Progress("bench", "episodes") as progress:
        table = evaluate(
            *(problem, names, {"traces": traces, "video": video}),
            on_episode=lambda policy, done, total: progress.update(done, total, policy),
        )
    typer.echo(render_table(table))
    if json_file is not None:
        write_whole(json_file.resolve(), table.to_json().encode())


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
def version() -> None:
    """Print the version.

    Example: netllm-gym version
    """
    from netllm_gym import __version__

    typer.echo(__version__)


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
