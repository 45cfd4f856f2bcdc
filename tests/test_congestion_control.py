"""The example package, installed beside netllm-gym: every command works for its problem."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
EXAMPLE = ROOT / "examples/congestion_control"


def python(installed, folder, *arguments):
    """Run Python where the package is installed; return what it printed."""
    command = [sys.executable, "-m", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT), str(installed)))}
    ended = subprocess.run(
        command, cwd=folder, env=environment | {"OMP_NUM_THREADS": "1"}, capture_output=True
    )
    assert ended.returncode == 0, ended.stdout.decode() + ended.stderr.decode()
    return ended.stdout.decode()


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Return a folder in which the package is installed, with its entry point."""
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("installed")
    offline = ("--no-deps", "--no-build-isolation", "--no-index", "--quiet")
    python(folder, folder, "pip", "install", *offline, "--target", folder, EXAMPLE)
    return folder


@pytest.fixture
def run(installed, tmp_path):
    """Return a function that runs a command of netllm-gym in the test's folder."""
    return lambda command: python(installed, tmp_path, "netllm_gym", *command.split())


def test_the_package_is_listed_compared_and_reported(run, tmp_path):
    assert "CongestionControl-v0  cc: congestion control" in run("envs")
    table = run("bench cc --policies aimd,copa_like,bound --json table.json")
    assert [line.split()[0] for line in table.splitlines()[2:5]] == ["bound", "copa_like", "aimd"]
    run("report table.json --out report.html")
    page = (tmp_path / "report.html").read_text("utf-8")
    assert "One link, played through" in page
    assert "link synthetic-test" in page


@pytest.mark.slow
def test_every_method_learns_its_problem(run, tmp_path):
    pytest.importorskip("d3rlpy")
    assert "20 episodes, 4000 steps" in run(
        "collect cc --policies copa_like --episodes 20 --out pool"
    )
    few = "--layers 1 --feature-dim 8 --updates 2"
    run(f"train llm cc --pool pool --out runs/llm {few}")
    run("train bc cc --pool pool --out runs/bc --updates 20")
    run("train ppo cc --out runs/ppo --episodes 4 --minibatch 400 --updates 2")
    run("train ppo cc --init-from runs/llm --out runs/further --episodes 2 --updates 1")
    learned = "runs/llm,runs/bc,runs/ppo,runs/further"
    table = run(f"bench cc --policies {learned},random,bound --json table.json")
    assert table.splitlines()[2].startswith("bound")
    run("report table.json --play runs/ppo,random --out report.html")
    assert "One link, played through" in (tmp_path / "report.html").read_text("utf-8")


@pytest.mark.slow
def test_its_own_tests_pass(installed, tmp_path):
    options = ("--quiet", "--import-mode=importlib", "-p", "no:cacheprovider")
    assert " passed" in python(installed, tmp_path, "pytest", *options, EXAMPLE / "tests")
