"""The whole path in a few minutes, on embedded data: collect, train, bench."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from netllm_gym.cli.progress import Progress
from netllm_gym.collection.collect import collect
from netllm_gym.errors import InputError
from netllm_gym.evaluation.evaluate import evaluate
from netllm_gym.evaluation.tables import Table
from netllm_gym.files import check_can_be_folder, write_whole
from netllm_gym.problems.index import find_problem
from netllm_gym.problems.problem import Demo, PredictionProblem, Problem
from netllm_gym.training.methods import TrainRequest, train

Say = Callable[[str], None]


def run_demo(name: str, out: Path, say: Say) -> Table:
    """Run a problem's demonstration in a folder; run again after an interruption, it is resumed."""
    problem = find_problem(name)
    demo = problem.demo
    if demo is None:
        raise InputError(f"problem must be one whose row has a demo, got {name!r}")
    check_can_be_folder("out", out)
    case: dict[str, Any] = {**problem.default_case, **demo.case}
    if isinstance(problem, PredictionProblem):
        pool, case = None, dict(demo.case)
        _count_windows(problem, demo, out, say)
    else:
        pool = out / "pool"
        _collect(problem, demo, case, pool, say)
    trained = _train(problem, demo, pool, out, say)
    say(f"3. bench: every policy on the same {problem.groups}, which none has seen")
    with Progress("bench", f"{problem.sample}s") as progress:
        table = evaluate(
            name,
            [*problem.default_policies, *(str(out / each) for each in trained)],
            {**case, problem.dataset_option: problem.test_dataset},
            on_progress=lambda policy, done, total, _: progress.update(done, total, policy),
        )
    write_whole(out / "table.json", table.to_json().encode())
    return table


def _collect(problem: Problem, demo: Demo, case: Mapping[str, Any], pool: Path, say: Say) -> None:
    teachers, data = ", ".join(demo.teachers), case[problem.dataset_option]
    say(f"1. collect: {demo.episodes} episodes of each of {teachers} on {data}")
    with Progress("collect", "episodes") as progress:
        collect(
            problem.name,
            demo.teachers,
            demo.episodes,
            pool,
            case,
            workers=min(2, os.cpu_count() or 1),
            on_episode=progress.update,
        )


def _count_windows(problem: Problem, demo: Demo, out: Path, say: Say) -> None:
    from netllm_gym.training.viewport import window_training_data

    stride = demo.options["train_stride"]
    request = TrainRequest(problem=problem, method="", out=out, case=demo.case)
    windows = window_training_data(request, stride).windows
    data = problem.default_case[problem.dataset_option]
    say(f"1. windows: {len(windows)} of {data}, one every {stride} samples")


def _train(problem: Problem, demo: Demo, pool: Path | None, out: Path, say: Say) -> list[str]:
    """Train the demonstration's policies; return the names of those that could be."""
    trained = []
    for name, run in demo.runs.items():
        if run.options.get("backbone") == "minilm" and not _has_minilm(say):
            continue
        say(f"2. train: {name}, by the method {run.method}")
        with Progress("train", "updates") as progress:
            train(
                problem.name,
                run.method,
                out / name,
                config={**demo.options, **run.options},
                case=demo.case if pool is None else None,
                pool=pool,
                on_progress=progress.metrics(run.options["updates"]),
            )
        trained.append(name)
    return trained


def _has_minilm(say: Say) -> bool:
    """Return whether the pretrained backbone is on this machine."""
    from netllm_gym.policies.llm import backbone

    try:
        backbone.packaged_folder("minilm")
    except InputError as error:
        say(f"   without the pretrained backbone: {error}")
        return False
    return True
