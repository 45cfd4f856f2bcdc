"""The whole path in a few minutes, on embedded data: collect, train, bench."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from netllm_gym.collection import collect
from netllm_gym.errors import InputError
from netllm_gym.evaluation import Table, evaluate
from netllm_gym.files import check_can_be_folder, write_whole
from netllm_gym.problems import find_control
from netllm_gym.progress import Progress


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


def run_demo(problem: str, out: Path, say: Callable[[str], None]) -> Table:
    """Run the demonstration; run again after an interruption, it goes on.

    Args:
        problem: Short name.
        out: Folder for pool, policies and `table.json`.
        say: Told what happens, a line each.
    """
    row = find_control(problem)
    shown = DEMOS[problem]
    check_can_be_folder("out", out)
    from netllm_gym.policies.llm import backbone as backbones
    from netllm_gym.policies.llm.config import BackboneConfig, LLMConfig, TrainConfig
    from netllm_gym.training import default_returns, train

    case = {**row.default_case, **shown.case}
    say(
        f"1. collect: {shown.episodes} episodes of each of {', '.join(shown.teachers)} "
        f"on {case[row.worlds]}"
    )
    with Progress("collect", "episodes") as progress:
        pool = collect(
            *(problem, shown.teachers, shown.episodes, out / "pool", case),
            workers=min(2, os.cpu_count() or 1),
            on_episode=progress.update,
        )
    runs = {"netllm-tiny": BackboneConfig("tiny")}
    if "netllm-minilm" in shown.updates:
        try:
            backbones.minilm_folder()
            runs["netllm-minilm"] = BackboneConfig("minilm", layers=3)
        except InputError as error:
            say(f"   without the pretrained backbone: {error}")
    for name, backbone in runs.items():
        say(f"2. train: {name}, {backbone.init} weights, adapted by {backbone.adapt}")
        config = LLMConfig(backbone=backbone, returns=default_returns(pool))
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
    say(f"3. bench: every policy on the same {row.groups}, which none has seen")
    policies = [*row.default_policies, *(str(out / name) for name in runs)]
    with Progress("bench", "episodes") as progress:
        table = evaluate(
            *(problem, policies, {**case, row.worlds: row.test_worlds}),
            on_episode=lambda policy, done, total: progress.update(done, total, policy),
        )
    write_whole(out / "table.json", table.to_json().encode())
    return table
