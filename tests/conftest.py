"""Fixtures that many tests share."""

import os
from pathlib import Path

import pytest


@pytest.fixture
def shared_data():
    """Return the folder of real data, or skip with a reason."""
    folder = Path(os.environ.get("NETLLM_GYM_DATA", ""))
    if not (folder / "abr/traces/fcc-test").is_dir():
        pytest.skip("NETLLM_GYM_DATA must name a folder with abr/traces/fcc-test")
    return folder
