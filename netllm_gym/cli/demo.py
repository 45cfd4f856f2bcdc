"""The whole path in a few minutes, on embedded data: collect, train, bench."""

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from netllm_gym.cli.progress import Progress
from netllm_gym.collection.collect import collect
from netllm_gym.errors import InputError
from netllm_gym.evaluation.evaluate import evaluate
from netllm_gym.evaluation.tables import Table
from netllm_gym.files import check_can_be_folder, write_whole
from netllm_gym.policies.llm.config import BackboneConfig, LLMConfig
from netllm_gym.problems.index import find_problem
from netllm_gym.problems.problem import PredictionProblem
from netllm_gym.training.config import TrainConfig


@dataclass(frozen=True)
class Demo:
    """How much of a problem is shown in a few minutes on two cores.

    Attributes:
        teachers: Who plays the episodes of the pool; the best one is imitated.
        episodes: Of each teacher.
        updates: Policy to train -> optimizer steps; what stands behind `netllm-` is its backbone.
        case: Arguments of the environment that differ from the problem's default.
        batch: Windows of a forward pass in training; 0: the problem's own number.
    """

    teachers: tuple[str, ...]
    episodes: int
    updates: Mapping[str, int]
    case: Mapping[str, Any] = field(default_factory=dict)
    batch: int = 0


DEMOS = {
    "abr": Demo(
        teachers=("robust_mpc", "bba", "bola", "rate_based"),
        episodes=500,
        updates={"netllm-tiny": 300, "netllm-minilm": 240},
    ),
    "cjs": Demo(
        teachers=("srpt", "sjf_cp", "weighted_fair", "fair"),
        episodes=30,
        updates={"netllm-tiny": 150},
        # Few executors and jobs: less to wait for, and the order of the jobs decides more.
        case={"num_executors": 10, "num_jobs": 20},
        batch=192,
    ),
}


@dataclass(frozen=True)
class PredictionDemo:
    """The same of a problem of predictions, which needs no pool.

    Attributes:
        updates: Predictor to train -> optimizer steps; what stands behind `netllm-` is its
            backbone, what stands before `-trained` a method of `train`.
        stride: Samples from one window to learn from to the next.
    """

    updates: Mapping[str, int]
    stride: int = 5


PREDICTION_DEMOS = {
    "vp": PredictionDemo(updates={"gru-trained": 400, "netllm-tiny": 200, "netllm-minilm": 100}),
}


def run_demo(problem: str, out: Path, say: Callable[[str], None]) -> Table:
    """Run the demonstration; run again after an interruption, it goes on.

    Args:
        problem: Short name.
        out: Folder for pool, policies and `table.json`.
        say: Told what happens, a line each.
    """
    row = find_problem(problem)
    check_can_be_folder("out", out)
    case: dict[str, Any] = {}
    if isinstance(row, PredictionProblem):
        trained = _predict(row, PREDICTION_DEMOS[problem], out, say)
    else:
        case = {**row.default_case, **DEMOS[problem].case}
        trained = _play(problem, DEMOS[problem], case, out, say)
    say(f"3. bench: every policy on the same {row.groups}, which none has seen")
    policies = [*row.default_policies, *(str(out / name) for name in trained)]
    with Progress("bench", f"{row.sample}s") as progress:
        table = evaluate(
            *(problem, policies, {**case, row.dataset_option: row.test_dataset}),
            on_episode=lambda policy, done, total: progress.update(done, total, policy),
        )
    write_whole(out / "table.json", table.to_json().encode())
    return table


def _backbones(names: Iterable[str], say: Callable[[str], None]) -> dict[str, BackboneConfig]:
    """Return the backbones of the language models that can be trained on this machine."""
    from netllm_gym.policies.llm import backbone as backbones

    found = {"netllm-tiny": BackboneConfig("tiny")}
    if "netllm-minilm" in names:
        try:
            backbones.minilm_folder()
            found["netllm-minilm"] = BackboneConfig("minilm", layers=3)
        except InputError as error:
            say(f"   without the pretrained backbone: {error}")
    return found


def _play(
    problem: str, shown: Demo, case: Mapping[str, Any], out: Path, say: Callable[[str], None]
) -> list[str]:
    """Collect a pool and adapt language models to it; return their names."""
    from netllm_gym.training.from_pools import default_returns, train

    worlds = case[find_problem(problem).dataset_option]
    say(f"1. collect: {shown.episodes} episodes of each of {', '.join(shown.teachers)} on {worlds}")
    with Progress("collect", "episodes") as progress:
        pool = collect(
            *(problem, shown.teachers, shown.episodes, out / "pool", case),
            workers=min(2, os.cpu_count() or 1),
            on_episode=progress.update,
        )
    runs = _backbones(shown.updates, say)
    for name, backbone in runs.items():
        say(f"2. train: {name}, {backbone.init} weights, adapted by {backbone.adapt}")
        config = LLMConfig(backbone=backbone, returns=default_returns([pool]))
        updates = shown.updates[name]
        schedule = TrainConfig(
            updates=updates,
            batch_episodes=shown.batch,
            validate_every=updates // 3,
            checkpoint_every=50,
        )
        with Progress("train", "updates") as progress:
            train(
                *(problem, out / "pool", out / name, config, schedule),
                on_progress=progress.metrics(updates),
            )
    return list(runs)


def _predict(
    row: PredictionProblem, shown: PredictionDemo, out: Path, say: Callable[[str], None]
) -> list[str]:
    """Train predictors on generated windows; return their names."""
    from netllm_gym.training.supervised import (
        LLM_SCHEDULE,
        SCHEDULES,
        adapt_predictor,
        train_predictor,
        window_training_data,
    )

    windows = window_training_data(row.name, None, shown.stride, None).windows
    world = row.default_case[row.dataset_option]
    say(f"1. windows: {len(windows)} of {world}, one every {shown.stride} samples")
    backbones, trained = _backbones(shown.updates, say), []
    for name, updates in shown.updates.items():
        often: dict[str, Any] = {
            "updates": updates,
            "validate_every": max(1, updates // 5),
            "threads": 0,
        }
        method = name.removesuffix("-trained")
        with Progress("train", "updates") as progress:
            if name in backbones:
                backbone = backbones[name]
                say(f"2. train: {name}, {backbone.init} weights, adapted by {backbone.adapt}")
                adapt_predictor(
                    *(row.name, out / name, None, LLMConfig(backbone=backbone)),
                    *(replace(LLM_SCHEDULE, **often), shown.stride),
                    on_progress=progress.metrics(updates),
                )
            elif method in SCHEDULES:
                say(f"2. train: {name}, a small network")
                train_predictor(
                    *(row.name, method, out / name, None),
                    *(replace(SCHEDULES[method], **often), shown.stride),
                    on_progress=progress.metrics(updates),
                )
            else:  # a backbone that is not on this machine
                continue
        trained.append(name)
    return trained
