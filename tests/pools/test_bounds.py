"""Shards that would never end, or inflate to far more than their episodes can need."""

import hashlib
import io
import json
import os
import zipfile

import pytest

from netllm_gym.errors import InputError
from netllm_gym.pools.pool import ExperiencePool, PoolWriter, shard_name
from tests.pools.made import made_episode


@pytest.fixture
def pool(tmp_path):
    """Return the folder of a pool of one episode."""
    PoolWriter(tmp_path, "abr", {}, {"num_shards": 1}).write(0, [made_episode()])
    return tmp_path


def read(folder):
    return list(ExperiencePool.load(folder, "abr").episodes)


def test_a_shard_that_inflates_beyond_its_steps_is_refused_before_it_is_inflated(pool):
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("rewards.npy", bytes(10_000_000))
    (pool / shard_name(0)).write_bytes(data.getvalue())
    meta = json.loads((pool / "meta.json").read_text())
    meta["shards"][0]["num_bytes"] = len(data.getvalue())
    meta["shards"][0]["sha256"] = hashlib.sha256(data.getvalue()).hexdigest()
    (pool / "meta.json").write_text(json.dumps(meta))
    with pytest.raises(
        InputError, match=r"npz.* members must have at most \d+ bytes, got 10000000"
    ):
        read(pool)


@pytest.mark.parametrize("special", ["pipe", "zeros"])
def test_a_shard_or_meta_without_an_end_is_refused(pool, special):
    for name in (shard_name(0), "meta.json"):
        (pool / name).unlink()
        if special == "pipe":
            os.mkfifo(pool / name)
        else:
            (pool / name).symlink_to("/dev/zero")
        with pytest.raises(InputError, match=f"{name} must be a file, got a pipe or a device"):
            read(pool)
