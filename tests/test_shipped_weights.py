"""Policies that come with the package: whole, small, honest about where they come from."""

import re

import numpy as np
import pytest

from netllm_gym.data.abr.sets import load_trace_set
from netllm_gym.evaluation.evaluate import evaluate
from netllm_gym.files import read_json
from netllm_gym.policies.loading import PACKAGE, load_policy
from netllm_gym.problems.index import PROBLEMS

MOST_BYTES = 4_000_000
SHIPPED = [
    (problem, name)
    for problem, row in PROBLEMS.items()
    for name, entry in row.policies.items()
    if entry.is_folder
]
SMALL_CASES = {
    "abr": {"traces": "synthetic-test"},
    "cjs": {"num_executors": 10, "num_jobs": 10},
    "vp": {"dataset": "synthetic-test"},
}


def folder_of(problem, name):
    """Return where a policy of the package lies."""
    return PACKAGE / PROBLEMS[problem].policies[name].target


def test_every_folder_of_weights_has_a_name():
    named = {folder_of(*each) for each in SHIPPED}
    assert named == {path.parent for path in PACKAGE.glob("weights/*/*/config.json")}


@pytest.mark.parametrize(("problem", "name"), SHIPPED)
def test_a_folder_is_small_and_its_card_tells_all(problem, name):
    folder = folder_of(problem, name)
    files = {path.name for path in folder.iterdir()}
    assert {"config.json", "card.md"} < files
    assert not [file for file in files if not file.endswith((".json", ".md", ".safetensors"))]
    assert sum(path.stat().st_size for path in folder.iterdir()) < MOST_BYTES
    card = (folder / "card.md").read_text("utf-8")
    for heading in ("Data", "Command", "Seed", "Commit", "Scores"):
        assert re.search(rf"^\*\*{heading}\*\*: \S", card, re.MULTILINE), heading
    assert "netllm-gym train " in card


@pytest.mark.parametrize(("problem", "name"), SHIPPED)
def test_a_shipped_policy_plays_without_any_data(problem, name, tmp_path, monkeypatch):
    monkeypatch.setenv("NETLLM_GYM_DATA", str(tmp_path))
    [row] = evaluate(problem, [name], SMALL_CASES[problem]).rows
    assert row.policy == name
    assert np.isfinite(row.mean)
    assert row.trained_on
    assert load_policy(name, problem).learned


def test_shipped_policies_have_seen_no_published_test_trace(shared_data):
    test = set(load_trace_set("fcc-test").known_by)
    for problem, name in SHIPPED:
        if problem != "abr":
            continue
        provenance = read_json(folder_of(problem, name) / "config.json")["trained_on"]
        seen = {*provenance["recordings"], *provenance["validation_recordings"]}
        assert not seen & test, name
