"""`netllm-gym`: a thin skin over the Python functions of the same names."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from typer.exceptions import TyperException

from netllm_gym.errors import InputError
from netllm_gym.progress import Progress

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
Traces = Annotated[str, typer.Option(help="A trace set's name or a folder of trace files.")]
VideoName = Annotated[
    str, typer.Option(help="A video's name, a folder of chunk sizes or a DASH .mpd.")
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
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise InputError(f"out must be a new or empty folder, got {out}")
    traces = generate_traces(FAMILIES[family], count, seed)
    out.mkdir(parents=True, exist_ok=True)
    for number, trace in enumerate(traces):
        write_cooked_trace(out / f"{family}-{seed}-{number:04d}", *trace)
    typer.echo(f"{count} traces of the family {family} in {out}")


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
    if json_file is not None and (json_file.is_dir() or not json_file.parent.is_dir()):
        raise InputError(f"json must be a file in an existing folder, got {json_file}")
    with Progress("bench", "episodes") as progress:
        table = evaluate(
            *(problem, names, {"traces": traces, "video": video}),
            on_episode=lambda policy, done, total: progress.update(done, total, policy),
        )
    typer.echo(render_table(table))
    if json_file is not None:
        json_file.write_text(table.to_json(), "utf-8")


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
    """Run the command line: exit status 0, 1 (the machine failed) or 2 (the input is wrong)."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command and return its exit status; errors are one sentence on stderr."""
    try:
        status = app(arguments or ["--help"], prog_name="netllm-gym", standalone_mode=False)
        return int(status or 0)
    except TyperException as error:
        return _fail(error.format_message(), 2)
    except InputError as error:
        return _fail(str(error), 2)
    except (KeyboardInterrupt, typer.Abort):
        return _fail("interrupted; run collect, train or demo again and it goes on", 1)
    except OSError as error:
        return _fail(f"{error.filename or 'a file'}: {error.strerror or error}", 1)


def _fail(sentence: str, status: int) -> int:
    typer.echo(f"netllm-gym: {sentence}", err=True)
    return status
