"""Compiled functions work, and give the same, where nothing can be cached."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
from netllm_gym.compiled import cached_njit

@cached_njit(error_model="numpy")
def twice(number):
    return 2 * number

@cached_njit()
def thrice(number):
    return 3 * number

print(twice(21), thrice(5))
"""


def test_without_a_folder_for_the_cache_functions_are_compiled_and_it_is_said_once(tmp_path):
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    nowhere = {
        "NUMBA_CACHE_LOCATOR_CLASSES": "UserProvidedCacheLocator",
        "NUMBA_CACHE_DIR": "/dev/null/cache",
    }
    for places, lines in (({}, 0), (nowhere, 1)):
        ran = subprocess.run(
            [sys.executable, path],
            env={**os.environ, **places},
            capture_output=True,
            text=True,
            check=True,
        )
        assert ran.stdout == "42 15\n"
        assert ran.stderr.count("no folder for numba's cache") == lines


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="no other system limits it")
def test_where_memory_is_limited_the_command_ends_with_a_sentence_and_does_not_hang(tmp_path):
    import resource

    asked = "collect abr --policies lowest --episodes 1 --workers 2 --out pool"
    ran = subprocess.run(
        [sys.executable, "-m", "netllm_gym", *asked.split()],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"},
        cwd=tmp_path,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (400 * 2**20,) * 2),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ran.returncode == 1
    (line,) = ran.stderr.splitlines()
    assert line.startswith("netllm-gym: this machine has too little memory for that: compiled")
