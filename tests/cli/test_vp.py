"""The command line on viewport prediction: what it prints, and one sentence for wrong input."""

import json

import pytest

from netllm_gym.cli.main import run


def test_bench_prints_a_table_and_writes_it(tmp_path, capsys):
    arguments = "bench vp --history 5 --future 10 --trim-tail 20 --policies hold_last,velocity"
    assert run([*arguments.split(), "--json", str(tmp_path / "t.json")]) == 0
    out = capsys.readouterr().out
    assert "viewport prediction, synthetic-test x history 5 x future 10 x trim_tail 20" in out
    assert [row["policy"] for row in json.loads((tmp_path / "t.json").read_text())["rows"]] == [
        "hold_last",
        "velocity",
    ]


def test_data_list_says_which_head_movements_are_here(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("NETLLM_GYM_DATA", str(tmp_path))
    assert run(["data", "list"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "synthetic-test 10 people watch 6 videos, generated" in out
    assert f"jin2022-test not here; its file belongs in {tmp_path / 'vp'}" in out
    (tmp_path / "vp").mkdir()
    (tmp_path / "vp/jin2022_test.npz").touch()
    assert run(["data", "list"]) == 0
    assert (
        f"6 videos and 21 people, in {tmp_path / 'vp/jin2022_test.npz'}" in capsys.readouterr().out
    )


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("bench vp --traces x", "traces must be left out for vp, which has dataset, history"),
        ("bench abr --dataset x", "dataset must be left out for abr, which has traces, video"),
        ("bench vp --future 40", "trim_tail must be at least future, 40, got 30"),
        ("bench vp --dataset nowhere", "dataset must be a folder or one of synthetic"),
        ("bench vp --euler-order xyz", "euler_order must be one of zxy, yxz, got 'xyz'"),
        ("bench vp --features nowhere", "features must be left out for generated sets"),
        ("bench vp --policies optimum", "policy must be a folder or one of hold_last"),
        (
            "collect vp --policies hold_last --episodes 1 --out x",
            "problem must be a control problem",
        ),
    ],
)
def test_wrong_input_is_one_sentence(arguments, sentence, capsys):
    assert run(arguments.split()) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("netllm-gym: ")
    assert sentence in error
