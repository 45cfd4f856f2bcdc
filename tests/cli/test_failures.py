"""What the command line says of errors: of a user's policy, and of names that nobody knows."""

import sys

import pytest

from netllm_gym.cli.main import run
from netllm_gym.evaluation.evaluate import evaluate
from netllm_gym.policies.loading import resolve_policy
from netllm_gym.problems.index import find_problem

POLICIES = """import numpy as np


class Divides:
    def __init__(self, env):
        self.zero = 0

    def act(self, observations, rewards, infos):
        return self.half()

    def half(self):
        return 1 / self.zero


class CannotBegin:
    def __init__(self, env):
        raise OSError("no licence")

    def act(self, observations, rewards, infos):
        return 0


def misuses_a_library(observation):
    return np.concatenate([])


def looks_up(history):
    return {}["roll"]
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)

    def write(name, text):
        monkeypatch.delitem(sys.modules, name, raising=False)
        (tmp_path / f"{name}.py").write_text(text)
        return tmp_path / f"{name}.py"

    return write


def refused(capsys, *arguments):
    assert run([str(argument) for argument in arguments]) == 2
    *progress, said = capsys.readouterr().err.splitlines()
    assert all(line.startswith("bench: ") for line in progress)
    return said.removeprefix("netllm-gym: ")


@pytest.mark.parametrize(
    ("problem", "name", "sentence", "line"),
    [
        ("abr", "Divides", "policy Divides raised ZeroDivisionError: division by zero", 12),
        ("abr", "CannotBegin", "policy CannotBegin raised OSError: no licence", 17),
        # The error is numpy's; the line is that of the user's file which called it.
        (
            "abr",
            "misuses_a_library",
            "policy misuses_a_library raised ValueError: need at least one array to concatenate",
            24,
        ),
        ("vp", "looks_up", "policy looks_up raised KeyError: 'roll'", 28),
    ],
)
def test_a_policy_that_raises_is_one_sentence(capsys, module, problem, name, sentence, line):
    file = module("failing_policies", POLICIES)
    said = refused(capsys, "bench", problem, "--policies", f"failing_policies:{name}")
    assert said == f"{sentence} ({file}:{line})"


def test_in_python_a_policy_raises_what_it_raises(module):
    module("failing_policies", POLICIES)
    policy = resolve_policy("failing_policies:Divides", find_problem("abr"))
    with pytest.raises(ZeroDivisionError):
        evaluate("abr", [policy])


def test_a_policy_that_raises_in_another_process_is_one_sentence(capsys, module, tmp_path):
    file = module("failing_policies", POLICIES)
    command = ["collect", "abr", "--policies", "failing_policies:Divides", "--episodes", 2]
    said = refused(capsys, *command, "--workers", 2, "--out", tmp_path / "pool")
    assert said == (
        f"a policy in another process raised ZeroDivisionError: division by zero ({file}:12)"
    )


@pytest.mark.parametrize(
    ("text", "sentence"),
    [("x = 1 / 0\n", "ZeroDivisionError: division"), ("def f(:\n", "SyntaxError: invalid syntax")],
)
def test_a_module_that_cannot_be_imported_is_one_sentence(capsys, module, text, sentence):
    file = module(f"unimportable_{sentence[:6].lower()}", text)
    said = refused(capsys, "bench", "abr", "--policies", f"{file.stem}:Rule")
    assert said.startswith(f"the module {file.stem} of a policy raised {sentence}")
    assert said.endswith(f"({file}:1)")
    assert said.count(file.name) == 1  # the place is said once


def test_a_fault_of_this_package_keeps_its_traceback(monkeypatch):
    def broken(*arguments, **options):
        raise ZeroDivisionError

    monkeypatch.setattr("netllm_gym.evaluation.evaluate.evaluate", broken)
    with pytest.raises(ZeroDivisionError):
        run(["bench", "abr", "--policies", "lowest"])


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        ("benhc abr", "No such command 'benhc'; did you mean bench?"),
        ("data lst", "No such command 'lst'; did you mean list?"),
        ("bench abrr", "problem must be one of abr, cjs, vp, got 'abrr'; did you mean abr?"),
        ("bench abr --polices bba", "No such option: --polices; did you mean --policies?"),
        ("bench abr --colour red", "No such option: --colour"),
        ("train pppo abr --out x", "got 'pppo'; did you mean ppo?"),
        ("train grru vp --out x", "got 'grru'; did you mean gru?"),
        ("train ppo abr --out x --updats 3", "No such option: --updats; did you mean --updates?"),
        ("train ppo abr --out x --backbone tiny", "--backbone is an option of llm, not of ppo"),
        ("train bc abr --out x --width 3", "--width is an option of gru, track, not of bc"),
        (
            "train bc abr --out x --future 3",
            "--future is an option of llm, gru, track, not of bc",
        ),
    ],
)
def test_what_nobody_knows_is_answered_with_what_was_meant(capsys, tmp_path, command, sentence):
    said = refused(capsys, *command.split())
    assert said.endswith(sentence)
    assert not list(tmp_path.iterdir())
