"""Every program of `benchmarks/` still runs, with little to do: published numbers name them."""

import subprocess
import sys
from pathlib import Path

import pytest

from netllm_gym.evaluation.evaluate import evaluate
from netllm_gym.evaluation.tables import read_table

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"
SMALL = {  # program -> options that give it little to do
    "abr_speed.py": (),
    "cjs_speed.py": ("--memory",),  # the rest of it takes minutes
    "llm_decision.py": ("--backbone", "tiny"),
    "pool_io.py": ("--steps", "100000"),
}


ALONE = sorted(path.name for path in FOLDER.glob("*.py") if path.name != "training_seeds.py")


def training_seeds(*arguments):
    """Run the program that reads a table."""
    asked = [sys.executable, str(FOLDER / "training_seeds.py"), *map(str, arguments)]
    return subprocess.run(asked, capture_output=True, text=True, timeout=600)


def test_the_mean_over_training_seeds_is_that_of_the_rows(tmp_path):
    path = tmp_path / "table.json"
    case = {"traces": "synthetic-test", "video": "synthetic"}
    path.write_text(evaluate("abr", ["bba", "bola", "lowest"], case).to_json())
    bba, bola, lowest = (row.mean for row in read_table(path).rows)
    mean, less = (bba + bola) / 2, (bba + bola) / 2 - lowest
    ended = training_seeds(path, "--policies", "bba,bola", "--versus", "lowest")
    assert f" {mean:.4f} [" in ended.stdout
    assert f" {less:.4f} [" in ended.stdout
    assert f"of each: {bba - lowest:.4f}, {bola - lowest:.4f}" in ended.stdout
    ended = training_seeds(path, "--policies", "bba,bola", "--versus", "lowest,bba")  # each its own
    assert f"of each: {bba - lowest:.4f}, {bola - bba:.4f}" in ended.stdout
    ended = training_seeds(path, "--policies", "bba,bola", "--versus", "lowest,bba,bola")
    assert ended.stderr == "training_seeds: versus must name one row or 2, got 'lowest,bba,bola'\n"
    ended = training_seeds(path, "--policies", "bba,ppo", "--versus", "lowest")
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == f"training_seeds: policies must be rows of {path}, got 'ppo'\n"


@pytest.mark.slow
@pytest.mark.parametrize("program", ALONE)
def test_it_runs_and_prints_what_it_found(program):
    asked = [sys.executable, str(FOLDER / program), *SMALL.get(program, ())]
    ended = subprocess.run(asked, capture_output=True, text=True, cwd=FOLDER.parent, timeout=600)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.strip()
