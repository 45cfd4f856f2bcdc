"""Every program of `benchmarks/` still runs, with little to do: published numbers name them."""

import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"
SMALL = {  # program -> options that give it little to do
    "abr_speed.py": (),
    "cjs_speed.py": ("--memory",),  # the rest of it takes minutes
    "llm_decision.py": ("--backbone", "tiny"),
    "pool_io.py": ("--steps", "100000"),
}


@pytest.mark.slow
@pytest.mark.parametrize("program", sorted(path.name for path in FOLDER.glob("*.py")))
def test_it_runs_and_prints_what_it_found(program):
    asked = [sys.executable, str(FOLDER / program), *SMALL[program]]
    ended = subprocess.run(asked, capture_output=True, text=True, cwd=FOLDER.parent, timeout=600)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.strip()
