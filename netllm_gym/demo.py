"""The whole path in a few minutes, on embedded data: collect, train, bench."""

import os
from collections.abc import Callable
from pathlib import Path

from netllm_gym.collection import collect
from netllm_gym.errors import InputError
from netllm_gym.evaluation import Table, evaluate
from netllm_gym.files import check_can_be_folder, write_whole
from netllm_gym.problems import find_problem
from netllm_gym.progress import Progress

TEACHERS = ("robust_mpc", "bba", "bola", "rate_based")
EPISODES = 500  # of each teacher
UPDATES = {"netllm-tiny": 300, "netllm-minilm": 240}


def run_demo(problem: str, out: Path, say: Callable[[str], None]) -> Table:
    """Run the demonstration; run again after an interruption, it goes on.

    Args:
        problem: Short name.
        out: Folder for pool, policies and `table.json`.
        say: Told what happens, a line each.
    """
    row = find_problem(problem)
    check_can_be_folder("out", out)
    from netllm_gym.policies.llm import backbone as backbones
    from netllm_gym.policies.llm.config import BackboneConfig, LLMConfig, TrainConfig
    from netllm_gym.training import default_returns, train

    case = row.default_case
    say(f"1. collect: {EPISODES} episodes of each of {', '.join(TEACHERS)} on {case[row.worlds]}")
    with Progress("collect", "episodes") as progress:
        pool = collect(
            *(problem, TEACHERS, EPISODES, out / "pool", case),
            workers=min(2, os.cpu_count() or 1),
            on_episode=progress.update,
        )
    runs = {"netllm-tiny": BackboneConfig("tiny")}
    try:
        backbones.minilm_folder()
        runs["netllm-minilm"] = BackboneConfig("minilm", layers=3)
    except InputError as error:
        say(f"   without the pretrained backbone: {error}")
    for name, backbone in runs.items():
        say(f"2. train: {name}, {backbone.init} weights, adapted by {backbone.adapt}")
        config = LLMConfig(backbone=backbone, returns=default_returns(pool))
        updates = UPDATES[name]
        schedule = TrainConfig(updates=updates, validate_every=updates // 3, checkpoint_every=50)
        with Progress("train", "updates") as progress:
            train(
                *(problem, out / "pool", out / name, config, schedule),
                on_progress=progress.metrics(updates),
            )
    say("3. bench: every policy on the same 100 traces that none has seen")
    policies = [*row.default_policies, *(str(out / name) for name in runs)]
    with Progress("bench", "episodes") as progress:
        table = evaluate(
            *(problem, policies, {**case, row.worlds: row.test_worlds}),
            on_episode=lambda policy, done, total: progress.update(done, total, policy),
        )
    write_whole(out / "table.json", table.to_json().encode())
    return table
