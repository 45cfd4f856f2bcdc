"""Training by playing: what is remembered of the worlds, and what a command refuses."""

import json

import pytest

from netllm_gym.cli.main import run
from netllm_gym.data.abr.sets import load_trace_set
from netllm_gym.errors import InputError
from netllm_gym.policies.loading import load_policy
from netllm_gym.training.config import PPOConfig, UDRConfig
from netllm_gym.training.online import train_online

ONE = PPOConfig(updates=1, episodes=4, threads=0)


@pytest.fixture
def folders(tmp_path):
    """Return folders with one trace each, to train and to validate on."""
    found = []
    for name, capacity in (("home", 2.0), ("away", 2.5)):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "one.txt").write_text("".join(f"{second} {capacity}\n" for second in range(60)))
        found.append(str(folder))
    return found


def kept(out):
    return json.loads((out / "best" / "config.json").read_text())["trained_on"]


def test_altered_copies_count_as_the_recording_that_they_were_made_of(tmp_path, folders):
    home, away = folders
    case = {"traces": f"{home}~2"}
    train_online("abr", "ppo", tmp_path / "run", case, None, ONE, validate_on=away)
    (one,), (other,) = (load_trace_set(folder).traces for folder in folders)
    told = kept(tmp_path / "run")
    assert told["recordings"] == [one.content]
    assert told["validation_recordings"] == [other.content]
    loaded = load_policy(str(tmp_path / "run"))
    assert loaded.trained_on == f"{home}~2"
    assert (loaded.recordings, loaded.selected_on) == ({one.content}, {other.content})


def test_generated_links_have_no_recordings_and_named_traces_do(tmp_path, folders):
    home, away = folders
    train_online("abr", "udr", tmp_path / "links", None, None, ONE)
    assert kept(tmp_path / "links")["recordings"] == []
    assert kept(tmp_path / "links")["validated_on"] == "synthetic-valid"
    assert load_policy(str(tmp_path / "links")).trained_on == "generated links"
    train_online("abr", "udr", tmp_path / "both", {"traces": home}, None, ONE, away)
    assert kept(tmp_path / "both")["recordings"] == [load_trace_set(home).traces[0].content]
    assert load_policy(str(tmp_path / "both")).trained_on == "home + generated links"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("abr", "sarsa"), "method must be one of ppo, udr, genet, decima, got 'sarsa'"),
        (("cjs", "ppo"), "problem must be abr for the method ppo, got 'cjs'"),
    ],
)
def test_what_cannot_be_trained_is_one_sentence(tmp_path, arguments, sentence):
    with pytest.raises(InputError, match=sentence):
        train_online(*arguments, tmp_path / "run")
    with pytest.raises(InputError, match="worlds must be left out for ppo, got UDRConfig"):
        train_online("abr", "ppo", tmp_path / "run", worlds=UDRConfig())
    with pytest.raises(InputError, match="noise must be left out for udr, got True"):
        train_online("abr", "udr", tmp_path / "run", {"noise": True})
    assert not (tmp_path / "run").exists()


def test_the_command_trains_goes_on_and_refuses_the_options_of_other_methods(
    tmp_path, folders, capsys
):
    home, away = folders
    out = tmp_path / "run"
    command = ["train", "ppo", "abr", "--traces", home, "--validate-on", away]
    command += ["--episodes", "4", "--updates", "1", "--out", str(out)]
    assert run(command) == 0
    assert "policy in" in capsys.readouterr().out
    assert run(command) == 0  # nothing is left to do
    for more, sentence in [
        (["--pool", "p"], "pool must be left out for the method ppo, got 'p'; it is an option of"),
        (["--difficulty", "2"], "difficulty must be left out for the method ppo"),
        (["--clip", "1"], "No such option"),
        (["--seed", "1"], "must be that of the run in"),
        (["--method", "llm"], "must be left out for the method llm"),
        (
            ["--method", "sarsa"],
            "method must be one of llm, bc, cql, dt, ppo, udr, genet, decima, got 'sarsa'",
        ),
    ]:
        capsys.readouterr()
        assert run([*command, *more]) == 2
        assert sentence in capsys.readouterr().err
    assert run(["train", "udr", "abr", "--difficulty", "4", "--out", str(out)]) == 2
    assert "difficulty must be 1, 2 or 3, got 4" in capsys.readouterr().err
    assert run(["train", "llm", "abr", "--out", str(out)]) == 2
    assert "pool must be given for the method llm, got none" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("problem", "method", "option", "sentence"),
    [
        ("abr", "ppo", "--traces", "traces must be a folder or one of"),
        ("abr", "udr", "--video", "video must be"),
        ("cjs", "decima", "--workload", "workload must be"),
    ],
)
def test_worlds_that_are_not_there_are_named_before_their_validation(
    tmp_path, capsys, problem, method, option, sentence
):
    command = ["train", method, problem, option, "nosuch", "--out", str(tmp_path / "a")]
    assert run(command) == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "a").exists()
