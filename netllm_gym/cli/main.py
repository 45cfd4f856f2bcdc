"""The commands of `netllm-gym`: they read options, call Python functions and print results."""

import json
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from netllm_gym.cli.arguments import (
    ConfigFile,
    Device,
    HelpAll,
    add_problem_command,
    case_parameters,
    plain_parameter,
    problem_argument,
    with_default,
    with_parameters,
)
from netllm_gym.cli.data import data_app
from netllm_gym.cli.doctor import examine
from netllm_gym.cli.failures import failure
from netllm_gym.cli.options import check_json_file, names_in
from netllm_gym.cli.output import plain_output
from netllm_gym.cli.progress import Progress
from netllm_gym.cli.train import train_app
from netllm_gym.errors import InputError
from netllm_gym.files import counted, printable, write_whole
from netllm_gym.problems.index import find_control, find_problem, problems
from netllm_gym.problems.problem import ControlProblem

INTERRUPTED = 130  # exit status: 128 and the number of SIGINT

all_problems = list(problems())
control_problems = [each.name for each in problems().values() if isinstance(each, ControlProblem)]
prediction_problems = [each for each in all_problems if each not in control_problems]
app = typer.Typer(
    name="netllm-gym",
    help="Networking problems as Gymnasium environments, and language models adapted to them.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.add_typer(data_app, name="data")
app.add_typer(train_app, name="train")


@app.command()
def envs() -> None:
    """List the problems, their environments and policies.

    Example: netllm-gym envs
    """
    for problem in problems().values():
        env_id = problem.env_id if isinstance(problem, ControlProblem) else "no environment"
        typer.echo(f"{env_id}  {problem.name}: {problem.title}")
        typer.echo(f"  policies: {', '.join(problem.policies)}")


def collect(
    problem: problem_argument(control_problems),  # type: ignore[valid-type]
    policies: Annotated[
        str, typer.Option(help="Policies separated by commas: names, folders, or module:Name.")
    ],
    episodes: Annotated[int, typer.Option(help="Episodes of each policy.")],
    out: Annotated[Path, typer.Option(help="Folder of the pool; run again to resume.")],
    seed: Annotated[int, typer.Option(help="Seed of the first episode.")] = 0,
    workers: Annotated[
        int, typer.Option(help="Processes; the pool is the same for any number.")
    ] = 1,
    lookahead: Annotated[
        str | None,
        typer.Option(
            help="abr: policy that continues the episode after each action that could have been "
            "taken, so that the pool holds what each action is worth."
        ),
    ] = None,
    expert: Annotated[
        str | None,
        typer.Option(
            help="Policy that is asked at each step what it would do; llm and bc then imitate its "
            "answers, whoever acted (DAgger)."
        ),
    ] = None,
    config_file: ConfigFile = None,
    help_all: HelpAll = False,
    **case: Any,
) -> None:
    """Let policies play, and keep the episodes as a pool.

    The episodes are training episodes; the pool is an experience pool, which `train` learns from.

    Example: netllm-gym collect abr --policies robust_mpc,bba --episodes 500 --out pools/first
    """
    from netllm_gym.collection.collect import collect as run

    row = find_control(str(problem))
    with Progress("collect", "episodes") as progress:
        pool = run(
            problem=row.name,
            policies=names_in(policies),
            episodes=episodes,
            out=out,
            case={**row.default_case, **row.checked_case(**case)},
            seed=seed,
            workers=workers,
            on_episode=progress.update,
            lookahead=lookahead,
            expert=expert,
        )
    typer.echo(
        f"{counted(len(pool), 'episode')}, {counted(pool.num_steps, 'step')}, "
        f"{pool.num_bytes / 1e6:.1f} MB in {out}"
    )
    for name, teacher in pool.summary().policies.items():
        typer.echo(
            f"  {name}: {counted(teacher.num_episodes, 'episode')}, "
            f"mean reward {teacher.mean_reward:.3f}"
        )


def _collect_for(names: Sequence[str]) -> Any:
    return with_parameters(case_parameters(names, lambda row: row.default_case))(collect)


add_problem_command(app, "collect", control_problems, _collect_for)


def bench(
    problem: problem_argument(all_problems),  # type: ignore[valid-type]
    episodes: Annotated[
        int,
        typer.Option(
            help="Least number of episodes; left out, one per trace or the case's own number "
            f"(not for {', '.join(prediction_problems)}).",
            show_default=False,
        ),
    ] = 1,
    versus: Annotated[
        str | None,
        typer.Option(
            help="The one of the policies, or the name of its folder, that the others are "
            "compared with. Left out, the best that is neither learned nor a bound."
        ),
    ] = None,
    seed: Annotated[
        int,
        typer.Option(help="Seed of the first episode; only policies that draw depend on it."),
    ] = 0,
    device: Device = "cpu",
    json_file: Annotated[
        Path | None,
        typer.Option(
            "--json",
            help="Write the table, per episode, to this file, after each policy. The same command "
            "continues one that was interrupted or in which a policy failed.",
        ),
    ] = None,
    time_limit_s: Annotated[
        float | None, typer.Option(help="Seconds that each policy may take, else it has no row.")
    ] = None,
    config_file: ConfigFile = None,
    help_all: HelpAll = False,
    **values: Any,
) -> None:
    """Compare policies on the same episodes; print the table.

    Every policy plays every episode, or predicts every window, of a case. A policy that
    does not fit the case, fails or exceeds the time limit has no result; exit status 2
    then.

    Example: netllm-gym bench abr --policies bba,robust_mpc,optimum --json table.json

    Example: netllm-gym bench vp --dataset jin2022-test --history 10 --future 20 --trim-tail 60
    """
    from netllm_gym.evaluation.evaluate import evaluate
    from netllm_gym.report.text import render_table

    row = find_problem(str(problem))
    policies = values.pop("policies")
    names = list(row.default_policies if policies is None else names_in(policies))
    asked = row.checked_case(**values)
    check_json_file(json_file)
    with Progress("bench", f"{row.sample}s") as progress:

        def on_progress(policy: str, done: int, total: int, decisions: int) -> None:
            if not decisions:
                kept = "is kept from the unfinished run" if done == total else "begins"
                progress.note(f"{policy} {kept}")
            else:
                progress.update(done, total, f"{policy}, {decisions} decisions")

        table = evaluate(
            problem=row.name,
            policies=names,
            case=asked,
            seed=seed,
            device=device,
            episodes=episodes,
            on_progress=on_progress,
            versus=versus,
            time_limit_s=time_limit_s,
            file=json_file,
        )
    typer.echo(render_table(table))
    if table.failures:
        raise typer.Exit(2)


def _bench_for(names: Sequence[str]) -> Any:
    text = "Policies separated by commas: names, folders of trained policies, or module:Name."
    usual = {name: ", ".join(find_problem(name).default_policies) for name in names}
    policies = plain_parameter("policies", with_default(text, usual))
    return with_parameters([policies], case_parameters(names, lambda row: row.test_case))(bench)


add_problem_command(app, "bench", all_problems, _bench_for)


@app.command()
def report(
    tables: Annotated[list[Path], typer.Argument(help="Files of bench --json, one or more.")],
    out: Annotated[Path, typer.Option(help="The HTML file to write.")],
    play: Annotated[
        str,
        typer.Option(
            help="One or two policies, names or folders: they play an episode of each table. "
            "auto: the best policy known by name and the bound play, or the two best without a "
            "bound. none: no episode is played."
        ),
    ] = "auto",
    episode: Annotated[
        int | None,
        typer.Option(help="Episode to play, from 0; left out, that of the median difference."),
    ] = None,
) -> None:
    """Write tables as one HTML file with charts.

    The file needs no network.

    Example: netllm-gym report table.json --play runs/first,optimum --out report.html
    """
    from netllm_gym.evaluation.tables import read_table
    from netllm_gym.report.html import check_can_report, play_episode, render_report
    from netllm_gym.report.replay import nameable_policies

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
    problem: problem_argument(all_problems) = "abr",  # type: ignore[valid-type]
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the results; run again to resume. Left out: runs/demo-abr or the like."
        ),
    ] = None,
) -> None:
    """Collect, train and compare on embedded data in a few minutes.

    It ends with the table.

    Example: netllm-gym demo cjs
    """
    from netllm_gym.cli.demo import run_demo
    from netllm_gym.report.text import render_table

    table = run_demo(str(problem), out or Path(f"runs/demo-{problem}"), typer.echo)
    typer.echo("")
    typer.echo(render_table(table))


@app.command()
def doctor(
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the findings to this file too.")
    ] = None,
) -> None:
    """Say what this machine has and what is missing.

    The exit status is 1 if something is broken.

    Example: netllm-gym doctor
    """
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
    from netllm_gym.version import __version__

    typer.echo(__version__)


def main() -> None:
    """Run the command line; what `run` returns is the exit status."""
    sys.path.append(os.getcwd())  # for policies of the form module:Name
    status = run(sys.argv[1:])
    if status == INTERRUPTED:  # die of the signal, so that a shell's loop around us ends too
        sys.excepthook = lambda *_: None  # the sentence was said
        raise KeyboardInterrupt
    sys.exit(status)


def run(arguments: list[str]) -> int:
    """Run one command; whatever goes wrong is one sentence on stderr.

    Returns:
        The exit status: 0; 1 if the machine failed (full disk, no memory, no permission, killed
        process); 2 if the input is wrong; 130, which is how shells show a process that died of
        Ctrl-C.
    """
    try:
        with plain_output():
            status = int(
                app(arguments or ["--help"], prog_name="netllm-gym", standalone_mode=False) or 0
            )
    except (KeyboardInterrupt, typer.Abort):
        status = INTERRUPTED
    except Exception as error:
        told = failure(error)
        if told is None:
            raise
        return _fail(*told)
    if status == INTERRUPTED:  # typer makes this status of a Ctrl-C within a command
        again = shlex.join(["netllm-gym", *arguments])
        keeps_rows = arguments[:1] == ["bench"] and "--json" in arguments
        can_resume = keeps_rows or arguments[:1] in (["collect"], ["train"], ["demo"])
        kept = "finished work is kept, resume with" if can_resume else "begin again with"
        return _fail(f"interrupted; {kept} `{again}`", INTERRUPTED)
    return status


def _fail(sentence: str, status: int) -> int:
    typer.echo(f"netllm-gym: {printable(sentence)}", err=True)
    return status
