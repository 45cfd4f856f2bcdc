"""Problems of other packages: a row is all that they bring, and a wrong one is one sentence."""

from dataclasses import replace
from importlib.metadata import EntryPoint

import numpy as np
import pytest

from netllm_gym.cli.data import render_catalogue
from netllm_gym.cli.demo import run_demo
from netllm_gym.cli.main import run
from netllm_gym.collection.collect import collect
from netllm_gym.errors import InputError
from netllm_gym.evaluation.evaluate import evaluate
from netllm_gym.policies.llm.parts import model_parts_of, parts_of, prediction_parts_of
from netllm_gym.pools.pool import ExperiencePool, PoolWriter
from netllm_gym.problems import index
from netllm_gym.problems.abr import ABR
from netllm_gym.problems.index import (
    PROBLEMS,
    find_control,
    find_prediction,
    find_problem,
    problems,
    register_problem,
)
from netllm_gym.problems.problem import imported
from netllm_gym.report.html import play_episode, render_report
from netllm_gym.report.replay import nameable_policies
from netllm_gym.training.methods import train
from tests.problems.toy import HERE, LENGTH, TOY


@pytest.fixture
def only_here(monkeypatch):
    """Begin with the problems of this package alone, and leave the index as it was."""
    for name in ("toy", "abr"):
        monkeypatch.setitem(PROBLEMS, name, ABR)
    for name in PROBLEMS.keys() - {"abr", "cjs", "vp"}:
        monkeypatch.delitem(PROBLEMS, name)


@pytest.fixture
def toy(only_here):
    register_problem(TOY)
    return TOY


def offer(monkeypatch, **entries):
    """Let packages offer problems."""
    found = [EntryPoint(name, value, index.ENTRY_POINTS) for name, value in entries.items()]
    monkeypatch.setattr(index, "entry_points", lambda group: found)
    index._register_entry_points.cache_clear()


@pytest.fixture
def offering(monkeypatch, only_here):
    yield lambda **entries: offer(monkeypatch, **entries)
    index._register_entry_points.cache_clear()


@pytest.fixture
def pool(toy, tmp_path):
    return collect("toy", ["walker", "right"], 6, tmp_path / "pool", {})


def test_a_pool_of_arrays_needs_no_codec(toy, pool, tmp_path):
    again = ExperiencePool.load(tmp_path / "pool", "toy")
    assert (len(again), again.num_steps) == (12, 12 * LENGTH)
    episode = again.episodes[3]
    assert episode.observations.dtype == np.float32
    assert episode.observations[:, 1].tolist() == [5, 4, 3, 2, 1]
    assert episode.observations[0, 0] == episode.case["goal"] == 103 % 7 - 3
    copy = collect("toy", ["walker", "right"], 6, tmp_path / "copy", {})
    assert copy.sha256 == pool.sha256


@pytest.mark.parametrize("kind", [np.float64, np.uint8, np.int64, np.int32, np.bool_])
def test_observations_keep_their_type(toy, pool, tmp_path, kind):
    made = replace(pool.episodes[0], observations=np.arange(LENGTH * 6).reshape(LENGTH, 2, 3) > 9)
    made = replace(made, observations=made.observations.astype(kind))
    PoolWriter(tmp_path / "made", "toy", {}, {"num_shards": 1}).write(0, [made])
    found = ExperiencePool.load(tmp_path / "made").episodes[0].observations
    np.testing.assert_array_equal(found, made.observations, strict=True)


def test_other_observations_need_a_codec(toy, pool, tmp_path):
    ragged = replace(pool.episodes[0], observations=[{}] * LENGTH)
    writer = PoolWriter(tmp_path / "made", "toy", {}, {"num_shards": 1})
    with pytest.raises(InputError, match="must be an array of numbers where a problem has no cod"):
        writer.write(0, [ragged])


def test_a_report_without_pictures_shows_the_table(toy):
    table = evaluate("toy", ["walker", "right"], {})
    assert nameable_policies(table) == ()
    page = render_report([table], [None])
    assert "walking to a goal" in page
    assert "right" in page
    with pytest.raises(InputError, match="problem must be one whose row names pictures, got 'toy'"):
        play_episode(table, ["walker"])


def test_methods_learn_it_from_its_parts_alone(toy, pool, tmp_path):
    learned_from = {"pool": tmp_path / "pool", "policies": ["walker"]}
    few = {"updates": 60, "threads": 1, "warmup_fraction": 0.0, "layers": 1, "feature_dim": 8}
    train("toy", "llm", tmp_path / "llm", config=few, **learned_from)
    train("toy", "bc", tmp_path / "bc", config={"updates": 300}, **learned_from)
    table = evaluate("toy", ["walker", "right", str(tmp_path / "llm"), str(tmp_path / "bc")], {})
    mean = {row.policy: row.mean for row in table.rows}
    assert mean["walker"] <= mean["llm"] < mean["right"]
    assert mean["walker"] <= mean["bc"] < mean["right"]


def test_commands_know_it(toy, capsys, tmp_path):
    said = render_catalogue()
    assert "fields (--field of toy):\n  near  made up" in said
    with pytest.raises(InputError, match="problem must be one whose row has a demo, got 'toy'"):
        run_demo("toy", tmp_path / "out", print)
    assert run(["bench", "toy", "--policies", "walker,right"]) == 0
    assert "walking to a goal, near: 4 episodes" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"name": "con gestion"}, "problem con gestion: name must be an identifier"),
        ({"dataset_option": "traces"}, "problem toy: dataset_option must be part of default_case"),
        (
            {"default_case": {"field": "near", "noise": True}},
            "problem toy: default_case must name parts of case_options, got 'noise'",
        ),
        ({"bound": "optimum"}, "default_policies and bound must be among policies, got 'optimum'"),
        ({"default_policies": ("left",)}, "must be among policies, got 'left'"),
    ],
)
def test_a_wrong_row_is_refused_in_one_sentence(changes, sentence):
    with pytest.raises(InputError, match=sentence) as refused:
        replace(TOY, **changes)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("target", "sentence"),
    [
        ("", "problem must be one whose row names language_model, got 'toy'"),
        (f"{HERE}:Nothing", "'tests.problems.toy:Nothing' must name a module or an attribute of"),
        ("no_such_package:Parts", "'no_such_package:Parts' must name a module or an attribute of"),
        (f"{HERE}:ToyEncoders", "language_model of the problem toy must name a subclass of netllm"),
        (f"{HERE}:walker", "language_model of the problem toy must name a subclass of netllm_gym"),
        (f"{HERE}:NoParts", "language_model of the problem toy must define encoders of netllm_gym"),
    ],
)
def test_wrong_parts_are_refused_in_one_sentence(only_here, target, sentence):
    register_problem(replace(TOY, language_model=target))
    with pytest.raises(InputError, match=sentence) as refused:
        parts_of("toy")
    assert "\n" not in str(refused.value)


def test_a_wrong_codec_is_refused_in_one_sentence(only_here, tmp_path):
    register_problem(replace(TOY, codec="netllm_gym.pools.episode"))
    with pytest.raises(InputError, match="codec of the problem toy must have to_columns, got"):
        PoolWriter(tmp_path / "pool", "toy", {}, {"num_shards": 1})


def test_a_name_belongs_to_one_problem(toy):
    register_problem(TOY)  # again, as when a module is imported twice
    with pytest.raises(InputError, match="problem must have a name that is not taken, got 'toy'"):
        register_problem(replace(TOY, title="another"))
    with pytest.raises(InputError, match="problem must be a ControlProblem or PredictionProblem"):
        register_problem("toy")


def test_an_installed_package_offers_its_problem(offering):
    offering(toy=f"{HERE}:TOY")
    assert find_problem("toy") is TOY
    assert list(problems()) == ["abr", "cjs", "vp", "toy"]


@pytest.mark.parametrize(
    ("name", "target", "got"),
    [
        ("broken", "no_such_package.problem:ROW", "got No module named 'no_such_package'"),
        ("broken", f"{HERE}:NOTHING", "got module .* has no attribute 'NOTHING'"),
        ("broken", f"{HERE}:LENGTH", "got problem must be a ControlProblem or PredictionProblem"),
        ("broken", f"{HERE}:TOY", "got the name 'toy' there"),
    ],
)
def test_a_broken_package_is_one_sentence_and_hinders_nobody(offering, name, target, got):
    offering(**{name: target, "toy": f"{HERE}:TOY"})
    assert {"abr", "cjs", "vp", "toy"} <= problems().keys()
    with pytest.raises(InputError, match=f"problem broken must be offered as .*, {got}") as refused:
        find_problem(name)
    assert "\n" not in str(refused.value)
    with pytest.raises(InputError, match="problem must be one of abr, cjs, vp, toy, got 'other'"):
        find_problem("other")


def test_known_problems_import_no_other_package(offering, monkeypatch):
    def hinders(group):
        raise AssertionError("entry points are not needed")

    monkeypatch.setattr(index, "entry_points", hinders)
    assert find_control("abr") is ABR


def test_each_kind_of_problem_has_its_parts(only_here):
    for name, problem in PROBLEMS.items():
        assert set(model_parts_of(name).layouts) >= {"compact"}
        for target in (problem.pictures, problem.language_model):
            assert isinstance(imported(target), type)
    with pytest.raises(InputError, match="problem must be a control problem, abr or cjs, got 'vp'"):
        parts_of("vp")
    for find in (find_prediction, prediction_parts_of):
        with pytest.raises(InputError, match="must be a prediction problem, vp, got 'abr', which"):
            find("abr")
