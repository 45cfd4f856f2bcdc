"""2,000 files for each reader, in a process with little memory and with a time limit per file.

The tests are the slow ones of the readers. Elsewhere they show that anything is read or refused;
here, that no small file makes a reader take a gigabyte, or ten seconds.
"""

import resource
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
MOST_BYTES = 2**30  # of memory
READERS = {
    "workflows of clusters": "data/cjs/test_wfcommons.py",
    "tables of clusters": "data/cjs/test_alibaba.py",
    "recordings of clusters": "data/cjs/test_workload.py",
    "head movements": "data/vp/test_formats.py",
}


def little_memory():
    resource.setrlimit(resource.RLIMIT_DATA, (MOST_BYTES, MOST_BYTES))


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the limit is Linux's RLIMIT_DATA")
@pytest.mark.parametrize("path", READERS.values(), ids=READERS)
def test_2000_files_are_read_with_little_memory_and_each_in_seconds(path):
    options = ["-q", "-x", "-p", "no:cacheprovider", "--hypothesis-profile", "at-length"]
    what = ["-m", "slow", str(TESTS / path)]
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *what],
        cwd=TESTS.parent,
        preexec_fn=little_memory,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert ran.returncode == 0, ran.stdout[-4000:]  # 5 if the file has no slow test any more
