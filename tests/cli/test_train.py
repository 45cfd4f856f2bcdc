"""`train` on the command line: options from configs, their help, and a method of somebody else."""

import json
import re
from dataclasses import dataclass

import pytest

from netllm_gym.cli.main import run
from netllm_gym.configs import options_of
from netllm_gym.problems.index import find_problem, problems
from netllm_gym.training import methods as registry
from netllm_gym.training.methods import METHODS, Method, TrainResult, find_method, register_method

NAMES = sorted({each.name for each in METHODS})


def help_of(capsys, monkeypatch, *command):
    monkeypatch.setenv("COLUMNS", "80")
    assert run(["train", *command]) == 0
    return capsys.readouterr().out


def own_options(name):
    """Return the options of a method: the fields of its config, and what it learns from."""
    own = set()
    for method in (each for each in METHODS if each.name == name):
        own |= options_of(method.default_config()).keys()
        if method.learns_from == "pool":
            own |= {"pool", "policies"}
        else:
            own |= {
                option
                for problem in problems().values()
                if method.suits(problem)
                for option in problem.case_options
                if not (method.learns_from == "playing" and option in problem.online_without)
            }
    return {option.replace("_", "-") for option in own}


@pytest.mark.parametrize("name", NAMES)
def test_the_help_of_a_method_fits_on_a_screen(name, capsys, monkeypatch):
    text = help_of(capsys, monkeypatch, name, "--help")
    assert len(text.splitlines()) <= 45
    for problem in problems():
        assert len(help_of(capsys, monkeypatch, name, problem, "--help").splitlines()) <= 45
    full = help_of(capsys, monkeypatch, name, "--help-all")
    own = own_options(name)
    others = set().union(*map(own_options, NAMES)) - own
    assert others  # no method has the options of all
    for shown in (text, full):
        assert not set(re.findall(r"--([\w-]+)", shown)) & others
    assert own <= set(re.findall(r"--([\w-]+)", full))


@pytest.mark.parametrize("name", NAMES)
def test_every_field_is_an_option_and_every_default_is_the_configs(name, capsys, monkeypatch):
    text = " ".join(help_of(capsys, monkeypatch, name, "--help-all").split())
    for problem in problems().values():
        if not any(each.name == name and each.suits(problem) for each in METHODS):
            continue
        config = find_method(name, problem).default_config(problem)
        for option, each in options_of(config).items():
            assert f"--{option.replace('_', '-')} " in text, option
            told = re.search(re.escape(each.help) + r"(?: \[default: ([^]]*)\])?", text)
            assert told, option
            shown = told[1]
            defaults = dict.fromkeys(problems(), "")
            for part in shown.split("; ") if shown else ():
                whose, colon, value = part.rpartition(": ")
                for key in [whose] if colon else defaults:
                    defaults[key] = value
            value = each.default
            text_of = (
                {bool: str(value).lower(), tuple: ",".join(map(str, value or ()))}
                if (isinstance(value, bool | tuple))
                else {}
            )
            expected = text_of.get(type(value), "" if value is None else str(value))
            assert defaults[problem.name] == expected, option


@pytest.mark.parametrize("flag", ["--help", "--help-all"])
def test_the_help_of_a_method_shows_what_its_problem_has(flag, capsys, monkeypatch):
    text = help_of(capsys, monkeypatch, "llm", "vp", flag)
    assert "Adapt a language model to windows of a prediction problem." in text
    assert "Example: netllm-gym train llm vp --dataset jin2022-train" in text
    shown = set(re.findall(r"--([\w-]+)", text))
    assert {"dataset", "history", "backbone"} <= shown
    has_no_use = find_method("llm", find_problem("vp")).without
    assert not shown & {"pool", "policies", *(each.replace("_", "-") for each in has_no_use)}
    assert "Updates in all. [default: 800]" in text
    of_pools = help_of(capsys, monkeypatch, "llm", "abr", flag)
    assert "--pool <str>" in of_pools
    assert "--dataset" not in of_pools.replace("--dataset jin", "")
    assert "Updates in all. [default: 2000]" in of_pools
    assert f"vp: {find_problem('vp').case_options['history'].help}" in " ".join(
        help_of(capsys, monkeypatch, "llm", flag).split()
    )


def test_what_online_training_refuses_is_no_option_of_it(capsys, monkeypatch):
    refused = find_problem("abr").online_without
    assert set(refused) == {"noise", "noise_range"}
    for name in ("ppo", "udr", "genet"):
        assert "--noise" not in help_of(capsys, monkeypatch, name, "--help-all")


@dataclass(frozen=True)
class ToyConfig:
    """All options of a method that trains nothing.

    Attributes:
        updates: Updates in all.
        mood: good or bad.
        sizes: Sizes of the layers.
    """

    updates: int = 3
    mood: str = "good"
    sizes: tuple[int, ...] = (4, 2)


def train_toy(request, config):
    request.out.mkdir(exist_ok=True)
    told = {"mood": config.mood, "sizes": config.sizes, "problem": request.problem.name}
    (request.out / "told.json").write_text(json.dumps(told | {"case": dict(request.case)}))
    for update in range(config.updates):
        request.on_progress({"update": update + 1, "loss": 1.0})
    return TrainResult(config.updates, None, None, request.out)


def test_a_method_of_somebody_else_trains_by_one_row(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(registry, "METHODS", list(METHODS))
    monkeypatch.setattr("netllm_gym.cli.train.METHODS", registry.METHODS)
    here = "tests.cli.test_train"
    register_method(
        Method(
            name="toy",
            title="Train nothing.",
            learns_from="playing",
            config=f"{here}:ToyConfig",
            run=f"{here}:train_toy",
            example="toy abr --out runs/toy",
        )
    )
    text = help_of(capsys, monkeypatch, "toy", "--help")
    assert "--mood <str>" in text
    assert "[default: 4,2]" in text
    out = tmp_path / "run"
    command = ["train", "toy", "abr", "--traces", "synthetic", "--out", str(out), "--sizes", "8,3"]
    config = tmp_path / "toy.toml"
    config.write_text('mood = "bad"\nsizes = [1, 1]\n')
    assert run([*command, "--config", str(config)]) == 0
    told = json.loads((out / "told.json").read_text())
    assert told == {
        "mood": "bad",
        "sizes": [8, 3],
        "problem": "abr",
        "case": {"traces": "synthetic"},
    }
    assert f"policy in {out}" in capsys.readouterr().out
    config.write_text("help-all = true\n")
    assert run([*command, "--config", str(config)]) == 2
    assert "must hold options of this command only, got 'help-all'" in capsys.readouterr().err
    assert run([*command, "--backbone", "tiny"]) == 2
    assert "--backbone is an option of llm, not of toy" in capsys.readouterr().err


def test_a_method_is_found_for_its_problems_only():
    assert find_method("llm", find_problem("abr")).learns_from == "pool"
    assert find_method("llm", find_problem("vp")).learns_from == "windows"
