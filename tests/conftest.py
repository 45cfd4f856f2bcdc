"""Fixtures that many tests share."""

import os
from pathlib import Path

import pytest

from netllm_gym.collection import collect

# A worker for each core: threads of torch, which is not loaded yet, would wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")


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
