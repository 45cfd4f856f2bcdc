"""Fixtures of the cluster's tests."""

import pytest

from netllm_gym.envs.cjs import tpch


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
