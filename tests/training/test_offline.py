"""Training by d3rlpy's updates: resumed to equal bits, quiet, with the losses that are named."""

import dataclasses
import json
import random
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from netllm_gym.errors import InputError
from netllm_gym.policies.offline.config import CQLTraining, OfflineConfig
from netllm_gym.policies.offline.d3 import D3Algorithm
from netllm_gym.policies.offline.policy import OfflineModel
from netllm_gym.training.offline import fit_offline
from netllm_gym.training.offline_examples import Examples
from netllm_gym.training.run import TrainingRun
from tests.commands import files_of
from tests.policies.llm.made import make_episodes
from tests.policies.llm.made_cjs import make_cjs_episodes
from tests.policies.offline.made import METHODS, make_config, make_schedule


def contents(folder):
    skipped = ("metrics.jsonl", "tensorboard/")
    return {name: data for name, data in files_of(folder).items() if not name.startswith(skipped)}


@pytest.mark.parametrize("method", METHODS)
def test_a_run_that_was_cut_off_ends_in_the_same_bytes(tmp_path, method):
    episodes, config = make_episodes(6), make_config(method)
    schedule = make_schedule(method, validate_every=2, checkpoint_every=3)
    scores = iter((1.0, 3.0, 2.0) * 2)
    for name, stop in (("a", None), ("b", 3), ("b", None)):
        run = TrainingRun(
            tmp_path / name, validate=lambda _: next(scores), resume=True, stop_after=stop
        )
        result = fit_offline(episodes, config, schedule, run)
    assert result.best_update == 4
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    lines = (tmp_path / "b" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["update"] for line in lines] == [1, 2, 2, 3, 4, 4, 5, 6, 6]


@pytest.mark.parametrize("method", METHODS)
def test_a_run_depends_on_its_seeds_and_not_on_what_was_drawn_before(tmp_path, method):
    episodes = make_episodes(6)
    for name, drawn_before, seed in (("a", 1, 0), ("b", 2, 0), ("c", 1, 3)):
        torch.manual_seed(drawn_before)
        config = make_config(method, seed=seed)
        fit_offline(
            episodes, config, make_schedule(method, seed=seed), TrainingRun(tmp_path / name)
        )
    a, b, c = (contents(tmp_path / name)["last/policy.safetensors"] for name in "abc")
    assert a == b
    assert a != c


def test_a_run_is_resumed_only_as_it_began(tmp_path):
    episodes, config = make_episodes(6), make_config("bc")
    fit_offline(episodes, config, make_schedule("bc"), TrainingRun(tmp_path / "run", stop_after=2))
    run = TrainingRun(tmp_path / "run", resume=True)
    with pytest.raises(InputError, match="out must be new or be resumed"):
        fit_offline(episodes, config, make_schedule("bc"), TrainingRun(tmp_path / "run"))
    with pytest.raises(InputError, match=r"train must be that of the run in .* with seed 0, got 1"):
        fit_offline(episodes, config, make_schedule("bc", seed=1), run)
    with pytest.raises(InputError, match="trained_on must be that of the run"):
        fit_offline(make_episodes(4), config, make_schedule("bc"), run)


def test_a_run_remembers_what_became_of_the_pools_decisions(tmp_path):
    run = TrainingRun(tmp_path / "run")
    fit_offline(make_episodes(6), make_config("bc"), make_schedule("bc"), run)
    kept = json.loads((tmp_path / "run" / "last" / "config.json").read_text())["trained_on"]
    assert kept["decisions"] == {"decisions": 54, "exact": 54, "left_out": 0}


@pytest.mark.parametrize("method", METHODS)
def test_global_generators_are_left_as_they_were(tmp_path, method):
    before = torch.get_rng_state(), np.random.get_state()[1], random.getstate()  # noqa: NPY002
    run = TrainingRun(tmp_path / "run")
    fit_offline(make_episodes(4), make_config(method), make_schedule(method), run)
    assert torch.equal(before[0], torch.get_rng_state())
    np.testing.assert_array_equal(before[1], np.random.get_state()[1])  # noqa: NPY002
    assert before[2] == random.getstate()


@pytest.mark.parametrize("method", ["bc", "cql"])
def test_a_rule_that_an_observation_tells_is_learned(tmp_path, method):
    # The action is the rung whose number the last cell of the matrix holds; it alone is rewarded.
    episodes = make_episodes(60)
    episodes.actions[:] = np.floor(episodes.observations[..., 5, 5] * 6)
    episodes.rewards[:] = 1.0
    schedule = make_schedule(method, updates=400, batch_size=64)
    if method == "bc":
        schedule = dataclasses.replace(schedule, imitation_penalty=0.0)
    config = make_config(method, hidden_units=(32, 32))
    fit_offline(episodes, config, schedule, TrainingRun(tmp_path / "run"))
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    name = "imitation_loss" if method == "bc" else "conservative_loss"
    first, last = (json.loads(line)[name] for line in (lines[0], lines[-1]))
    assert last < 0.3 * first


def made_windows(schedule):
    """Return an algorithm "dt" without dropout to speak of, and a batch with padding."""
    config = make_config("dt")
    algorithm = D3Algorithm(config, schedule)
    for module in algorithm.network.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    examples = Examples.of(make_episodes(4, [9, 1, 4, 9]), config)
    return algorithm, OfflineModel(config, algorithm.network), examples.batch(config, 0, 0, 23)


def test_the_loss_of_dt_counts_padding_as_d3rlpy_does_or_leaves_it_out():
    losses = {}
    for counts in (True, False):
        schedule = make_schedule("dt", ignore_padding=not counts)
        algorithm, model, batch = made_windows(schedule)
        normalised = model.normalised(batch)
        _, logits = algorithm.network.train()(
            *(normalised["observations"], batch["actions"], batch["returns_to_go"]),
            *(batch["timesteps"], 1 - batch["masks"]),
        )
        each = F.cross_entropy(
            logits.flatten(0, 1), batch["actions"].flatten().long(), reduction="none"
        )
        real = batch["masks"].flatten() > 0
        assert 0 < real.sum() < len(real)
        expected = each.mean() if counts else each[real].mean()
        losses[counts] = algorithm.update(normalised, 0)["loss"]
        assert losses[counts] == pytest.approx(float(expected.detach()), rel=1e-5)
    assert losses[True] != pytest.approx(losses[False], rel=1e-3)


def test_a_pool_of_clusters_is_learned_from(tmp_path):
    for method in METHODS:
        run = TrainingRun(tmp_path / method)
        fit_offline(make_cjs_episodes(), make_config(method, "cjs"), make_schedule(method), run)
        assert (run.last / "policy.safetensors").is_file()


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: make_config("sac"), "method must be one of bc, cql, dt, got 'sac'"),
        (lambda: make_config("dt", num_heads=3), "num_heads must divide the width 8, got 3"),
        (lambda: make_config("bc", num_actions=1), "num_actions must be in 2..4096, got 1"),
        (lambda: make_schedule("bc", updates=0), "updates must be at least 1, got 0"),
        (lambda: make_schedule("cql", target_every=0), "target_every must be at least 1, got 0"),
    ],
)
def test_nonsense_is_refused_at_birth(make, sentence):
    with pytest.raises(InputError) as caught:
        make()
    assert str(caught.value) == sentence


def test_d3rlpy_says_nothing_and_leaves_nothing_behind(tmp_path):
    program = (
        "from pathlib import Path\n"
        "from tests.policies.offline.made import *\n"
        "from tests.policies.llm.made import make_episodes\n"
        "from netllm_gym.training.offline import fit_offline\n"
        "from netllm_gym.training.run import TrainingRun\n"
        "for method in METHODS:\n"
        "    run = TrainingRun(Path(method))\n"
        "    fit_offline(make_episodes(2), make_config(method), make_schedule(method), run)\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={"PYTHONPATH": ":".join(sys.path), "HOME": str(tmp_path), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")
    assert {path.name for path in tmp_path.iterdir()} == set(METHODS)


def test_methods_have_numbers_of_their_own():
    assert OfflineConfig("abr", "dt", 36, 6).hidden_units == (128, 64)
    assert OfflineConfig("abr", "bc", 36, 6, hidden_units=(4,)).hidden_units == (4,)
    assert CQLTraining().learning_rate == 3e-4
