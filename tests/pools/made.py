"""Made-up episodes for the tests of shards, pools and windows, and shards taken apart."""

import io
import zipfile
from types import SimpleNamespace

import numpy as np

from netllm_gym.pools.episode import Episode

RAGGED = SimpleNamespace(  # T graphs: (n_t, 2) nodes each, and perhaps no edges at all
    to_columns=lambda graphs: {
        "nodes": np.concatenate(graphs),
        "num_nodes": np.array([len(graph) for graph in graphs], np.int32),
    },
    from_columns=lambda columns: np.split(columns["nodes"], np.cumsum(columns["num_nodes"])[:-1]),
)


def made_observations(num_steps, rng, width=6):
    """Write matrices as the simulator does: shift all, write the newest column and the sizes."""
    matrix, seen = np.zeros((6, width), np.float32), []
    for _ in range(num_steps):
        matrix = np.roll(matrix, -1, axis=1)
        matrix[:, -1] = rng.random(6, np.float32)
        matrix[4] = rng.random(width, np.float32)
        for row in (0, 1, 2, 3, 5):
            matrix[row, : width - 6] = 0.0  # history is six chunks long however wide the ladder
        seen.append(matrix.copy())
    return np.array(seen)


def made_episode(seed=0, num_steps=5, policy="bba", infos=("rebuffer_s",), width=6):
    """Return an episode that its seed decides."""
    rng = np.random.default_rng([seed, num_steps])
    return Episode(
        observations=made_observations(num_steps, rng, width),
        actions=rng.integers(0, width, num_steps),
        rewards=rng.normal(size=num_steps),
        terminated=seed % 3 != 0,
        truncated=seed % 3 == 0,
        policy=policy,
        seed=seed,
        case={"trace": f"trace_{seed % 4}", "recording": f"rec_{seed % 2}", "start_pointer": seed},
        infos={name: rng.random(num_steps) for name in infos},
    )


def assert_equal_episodes(found, expected):
    """Compare all fields, bit for bit."""
    np.testing.assert_array_equal(found.observations, expected.observations, strict=True)
    np.testing.assert_array_equal(found.actions, expected.actions, strict=True)
    np.testing.assert_array_equal(found.rewards, expected.rewards, strict=True)
    assert (found.terminated, found.truncated) == (expected.terminated, expected.truncated)
    assert (found.policy, found.seed) == (expected.policy, expected.seed)
    assert dict(found.case) == dict(expected.case)
    assert set(found.infos) == set(expected.infos)
    for name, values in expected.infos.items():
        np.testing.assert_array_equal(found.infos[name], values, strict=True)


def members(data):
    """Return the files of a zip."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def zipped(parts):
    """Return a zip of these files, with checksums that fit."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, part in parts.items():
            archive.writestr(name, part)
    return buffer.getvalue()
