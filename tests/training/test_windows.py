"""Training predictors from names: which windows, what is remembered, from the command line too."""

import json

import numpy as np
import pytest

from netllm_gym.cli.main import run
from netllm_gym.errors import InputError
from netllm_gym.policies.loading import load_policy
from netllm_gym.training.supervised import train_predictor, window_training_data

SMALL = {"history": 4, "future": 3, "trim_tail": 10}


def test_a_lesson_trains_densely_and_validates_as_the_case_says():
    data = window_training_data("vp", {"dataset": "synthetic", **SMALL}, 7, None)
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
        ("abr", "gru", {}, 5, "problem must be one of predictions, got 'abr', which is played"),
        ("vp", "lstm", {}, 5, "method must be one of gru, track, got 'lstm'"),
        ("vp", "gru", {}, 0, "train_stride must be in 1..1000000, got 0"),
        ("vp", "gru", {"dataset": "synthetic-test"}, 5, "validate_on must name dataset, since syn"),
        ("vp", "gru", {"traces": "x"}, 5, "traces must be left out for vp"),
    ],
)
def test_what_cannot_be_learned_is_refused(tmp_path, problem, method, case, stride, sentence):
    with pytest.raises(InputError, match=sentence):
        train_predictor(problem, method, tmp_path / "out", case, train_stride=stride)
    assert not (tmp_path / "out").exists()


def test_angles_of_another_order_are_no_validation(tmp_path):
    file = tmp_path / "set/video1/5Hz/simple_5Hz_user1.csv"
    file.parent.mkdir(parents=True)
    file.write_text("".join(f"{0.2 * n},{n},0,0\n" for n in range(90)))
    validation = str(file.parents[2])
    with pytest.raises(InputError, match="validation must have the euler_order of synthetic, yxz"):
        window_training_data("vp", {"dataset": "synthetic"}, 5, validation)
    case = {"dataset": "synthetic", "euler_order": "zxy"}
    assert window_training_data("vp", case, 5, validation).validation.dataset.euler_order == "zxy"


@pytest.mark.parametrize("method", ["gru", "track", "llm"])
def test_trained_and_benched_from_the_command_line(tmp_path, capsys, method):
    sizes = ["--history", "4", "--future", "3", "--trim-tail", "10"]
    options = ["--layers", "1"] if method == "llm" else ["--batch-size", "8"]
    out = tmp_path / "mine"
    train = ["train", "vp", "--method", method, "--out", str(out), "--updates", "2", *options]
    assert run([*train, "--stride", "40", "--validate-every", "1", *sizes]) == 0
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
        "vp",
        "--dataset",
        str(tmp_path / "learned"),
        "--validate-on",
        str(tmp_path / "chosen_on"),
        "--updates",
        "1",
        "--layers",
        "1",
        "--stride",
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
    assert run(["train", "vp", "--features", str(folder), "--out", "x"]) == 2
    assert "features must be left out for generated sets" in capsys.readouterr().err
    wrong = [*arguments[:6], "--method", "gru", "--features", str(folder), "--out", "x"]
    capsys.readouterr()
    assert run(wrong) == 2
    assert "features must be left out for the method gru" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        ("--trim-tail", "trim_tail must be at most 1000000, got "),
        ("--stride", "train_stride must be in 1..1000000, got "),
        ("--accumulate", "accumulate must be at most 1000000, got "),
        ("--batch-episodes", "batch_episodes must be at most 1000000, got "),
        ("--threads", "threads must be at most 1024, got "),
        ("--updates", "updates must be at most 2147483647, got "),
        ("--method gru --batch-size", "batch_size must be at most 1000000, got "),
    ],
)
def test_numbers_beyond_all_sense_are_one_sentence(tmp_path, option, sentence, capsys):
    out = tmp_path / "out"
    assert run(["train", "vp", "--out", str(out), *option.split(), str(10**18)]) == 2
    assert sentence in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            "train vp --pool p --out x",
            "pool must be left out for the method llm, got 'p'; it is",
        ),
        ("train vp --method ppo --out x", "method must be one of llm, gru, track, got 'ppo'"),
        ("train abr --dataset d --out x", "dataset must be left out for the method llm"),
        ("train vp --stride 0 --out x", "train_stride must be in 1..1000000, got 0"),
    ],
)
def test_options_of_others_are_one_sentence(arguments, sentence, capsys):
    assert run(arguments.split()) == 2
    assert sentence in capsys.readouterr().err
