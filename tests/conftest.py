"""Fixtures that many tests share."""

import os
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from netllm_gym.collection.collect import collect
from netllm_gym.data.cjs import tpch

# A worker for each core: threads of torch, which is not loaded yet, would wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# No test fails because the machine is slow or busy. A folder for all examples of a test is fine.
settings.register_profile(
    "netllm-gym",
    max_examples=50,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.register_profile(
    "at-length", settings.get_profile("netllm-gym"), deadline=timedelta(seconds=10)
)  # of `test_readers_at_length.py`: a reader that takes so long for a small file hangs
settings.load_profile("netllm-gym")


@pytest.fixture
def shared_data():
    """Return the folder of real data, or skip with a reason."""
    folder = Path(os.environ.get("NETLLM_GYM_DATA", ""))
    if not (folder / "abr/traces/fcc-test").is_dir():
        pytest.skip("NETLLM_GYM_DATA must name a folder with abr/traces/fcc-test")
    return folder


@pytest.fixture
def viewport_data():
    """Return the folder of real data with head movements, or skip with a reason."""
    folder = Path(os.environ.get("NETLLM_GYM_DATA", ""))
    if not (folder / "vp/jin2022_splits.npz").is_file():
        pytest.skip("NETLLM_GYM_DATA must name a folder with vp/jin2022_splits.npz")
    return folder


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    """Return a pool of two episodes of each of two rules of ABR."""
    folder = tmp_path_factory.mktemp("pools") / "pool"
    collect("abr", ["bba", "lowest"], 2, folder, {"traces": "synthetic", "video": "synthetic"})
    return folder


@pytest.fixture
def valid(tmp_path):
    """Return a folder with one trace to validate on, as text."""
    folder = tmp_path / "valid"
    folder.mkdir()
    (folder / "one.txt").write_text("".join(f"{second} 2.5\n" for second in range(60)))
    return str(folder)


@pytest.fixture
def shared(shared_data):
    """Return the folder that holds the data, golden runs and reference numbers, or skip."""
    folder = shared_data.parent
    for part in ("data/cjs/tpch", "golden/cjs", "reference/cjs"):
        if not (folder / part).is_dir():
            pytest.skip(f"{part} must lie beside the data of NETLLM_GYM_DATA")
    return folder


@pytest.fixture(autouse=True, scope="session")
def cache_of_the_tests(tmp_path_factory):
    """Convert TPC-H once for all tests, and leave the user's cache alone."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tpch, "cache_folder", lambda: folder)
        yield
