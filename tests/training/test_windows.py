"""Training predictors from names: which windows, what is remembered, from the command line too."""

import json
from pathlib import Path

import numpy as np
import pytest

from netllm_gym.cli.main import run
from netllm_gym.errors import InputError
from netllm_gym.policies.loading import load_policy
from netllm_gym.problems.index import find_problem
from netllm_gym.training.methods import TrainRequest, train
from netllm_gym.training.viewport import window_training_data

SMALL = {"history": 4, "future": 3, "trim_tail": 10}


def data_of(case, stride=5, validate_on=None):
    where = {"out": Path("unused"), "case": case, "validate_on": validate_on}
    request = TrainRequest(problem=find_problem("vp"), method="gru", **where)
    return window_training_data(request, stride)


def test_a_case_trains_densely_and_validates_as_the_case_says():
    data = data_of({"dataset": "synthetic", **SMALL}, 7)
    config = data.windows.config
    assert (config.trim_head, config.trim_tail, config.stride) == (4, 3, 7)
    assert data.validation.dataset.name == "synthetic-valid"
    assert (data.validation.config.trim_tail, data.validation.config.stride) == (10, 15)
    known = data.trained_on
    assert (known["dataset"], known["validated_on"]) == ("synthetic", "synthetic-valid")
    assert not set(known["recordings"]) & set(known["validation_recordings"])


@pytest.mark.parametrize(
    ("problem", "method", "case", "stride", "sentence"),
    [
        ("abr", "gru", {}, 5, "method must be one of llm, bc, cql, dt.* for abr, got 'gru'"),
        ("vp", "lstm", {}, 5, "method must be one of llm, gru, track for vp, got 'lstm'"),
        ("vp", "gru", {}, 0, "train_stride must be in 1..1000000, got 0"),
        (
            "vp",
            "gru",
            {"dataset": "synthetic-test"},
            5,
            "synthetic-test has none of its own for validation$",
        ),
        ("vp", "gru", {"traces": "x"}, 5, "traces must be left out for vp"),
    ],
)
def test_what_cannot_be_learned_is_refused(tmp_path, problem, method, case, stride, sentence):
    with pytest.raises(InputError, match=sentence):
        train(problem, method, tmp_path / "out", case=case, config={"train_stride": stride})
    assert not (tmp_path / "out").exists()


def test_angles_of_another_order_are_no_validation(tmp_path):
    file = tmp_path / "set/video1/5Hz/simple_5Hz_user1.csv"
    file.parent.mkdir(parents=True)
    file.write_text("".join(f"{0.2 * n},{n},0,0\n" for n in range(90)))
    validation = str(file.parents[2])
    with pytest.raises(InputError, match="validation must have the euler_order of synthetic, yxz"):
        data_of({"dataset": "synthetic"}, validate_on=validation)
    case = {"dataset": "synthetic", "euler_order": "zxy"}
    assert data_of(case, validate_on=validation).validation.dataset.euler_order == "zxy"


@pytest.mark.parametrize("method", ["gru", "track", "llm"])
def test_trained_and_benched_from_the_command_line(tmp_path, capsys, method):
    sizes = ["--history", "4", "--future", "3", "--trim-tail", "10"]
    options = ["--layers", "1"] if method == "llm" else ["--batch-size", "8"]
    out = tmp_path / "mine"
    train = ["train", method, "vp", "--out", str(out), "--updates", "2", *options]
    assert run([*train, "--train-stride", "40", "--validate-every", "1", *sizes]) == 0
    assert "best after update" in capsys.readouterr().out
    file = tmp_path / "t.json"
    bench = ["bench", "vp", "--policies", f"hold_last,{out}", "--json", str(file), *sizes]
    assert run(bench) == 0
    hold, mine = json.loads(file.read_text())["rows"]
    assert (mine["policy"], mine["trained_on"]) == ("mine", "synthetic")
    assert abs(mine["mean"] - hold["mean"]) < 2.0
    capsys.readouterr()
    assert run(["bench", "vp", "--policies", str(out)]) == 2
    assert "history must be 4, which the predictor was trained for" in capsys.readouterr().err


def test_frames_are_learned_from_and_said(tmp_path, capsys):
    folder = tmp_path / "frames"
    folder.mkdir()
    rng = np.random.default_rng(0)
    sets = {"learned": 1, "chosen_on": 2}
    for name, video in sets.items():
        np.savez(folder / f"video{video}.npz", features=rng.normal(size=(60, 3)), frequency_hz=1.0)
        file = tmp_path / name / f"video{video}/5Hz/simple_5Hz_user1.csv"
        file.parent.mkdir(parents=True)
        angles = rng.normal(size=(90, 3)).tolist()
        lines = [f"{0.2 * n},{r},{p},{y}" for n, (r, p, y) in enumerate(angles)]
        file.write_text("\n".join(lines))
    arguments = [
        "train",
        "llm",
        "vp",
        "--dataset",
        str(tmp_path / "learned"),
        "--validate-on",
        str(tmp_path / "chosen_on"),
        "--updates",
        "1",
        "--layers",
        "1",
        "--train-stride",
        "60",
        "--history",
        "4",
        "--future",
        "3",
    ]
    assert run([*arguments, "--features", str(folder), "--out", str(tmp_path / "out")]) == 0
    assert load_policy(str(tmp_path / "out"), "vp").factory.config.content_size == 3
    again = [*arguments, "--features", str(folder), "--out", str(tmp_path / "out")]
    np.savez(folder / "video1.npz", features=rng.normal(size=(60, 3)), frequency_hz=1.0)
    capsys.readouterr()
    assert run(again) == 2  # what it saw is another thing now
    assert "with features_sha256" in capsys.readouterr().err
    assert run(["train", "llm", "vp", "--features", str(folder), "--out", "x"]) == 2
    assert "features must be left out for generated sets" in capsys.readouterr().err
    wrong = ["train", "gru", *arguments[2:7], "--features", str(folder), "--out", "x"]
    capsys.readouterr()
    assert run(wrong) == 2
    assert "features must be left out for the method gru" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        ("--trim-tail", "trim_tail must be at most 1000000, got "),
        ("--train-stride", "train_stride must be in 1..1000000, got "),
        ("--accumulate", "accumulate must be at most 1000000, got "),
        ("--batch-episodes", "batch_episodes must be at most 1000000, got "),
        ("--threads", "threads must be at most 1024, got "),
        ("--updates", "updates must be at most 2147483647, got "),
        ("--batch-size", "batch_size must be at most 1000000, got "),
    ],
)
def test_numbers_beyond_all_sense_are_one_sentence(tmp_path, option, sentence, capsys):
    out, method = tmp_path / "out", "gru" if option == "--batch-size" else "llm"
    assert run(["train", method, "vp", "--out", str(out), option, str(10**18)]) == 2
    assert sentence in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            "llm vp --pool p --out x",
            "pool must be left out for the method llm, which learns from win",
        ),
        ("bc vp --pool p --out x", "method must be one of llm, gru, track for vp, got 'bc'"),
        (
            "ppp abr --out x",
            "method must be one of llm, bc, cql, dt, ppo, udr, genet, decima, gru, track",
        ),
        ("llm abr --dataset d --out x", "dataset must be left out for the method llm of abr"),
        ("llm abr --train-stride 3 --out x", "train-stride must be left out for the method llm"),
        ("llm vp --train-stride 0 --out x", "train_stride must be in 1..1000000, got 0"),
    ],
)
def test_options_of_others_are_one_sentence(arguments, sentence, capsys):
    assert run(["train", *arguments.split()]) == 2
    assert sentence in capsys.readouterr().err
