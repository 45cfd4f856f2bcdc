"""A million steps on disk: how much they take there, and how little memory reading them takes."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).resolve().parents[2] / "benchmarks" / "pool_io.py"


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the limit is Linux's RLIMIT_DATA")
def test_a_million_steps_are_small_and_stream_through_a_tenth_of_their_size():
    ran = subprocess.run([sys.executable, BENCHMARK], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr  # a MemoryError where all episodes were kept
    steps, megabytes = re.search(r"([\d,]+) steps: ([\d.]+) MB", ran.stdout).groups()
    assert int(steps.replace(",", "")) >= 1_000_000
    assert float(megabytes) < 25
    streamed, limit = re.search(r"streamed (\d+) MB .* grow by (\d+) MB", ran.stdout).groups()
    assert int(streamed) >= 9.9 * int(limit)
