"""Import of NetLLM's pickled experience pools, with what is known of the episodes in them."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from netllm_gym.arrays import Float32Array
from netllm_gym.envs.abr.observation import SIZES
from netllm_gym.errors import InputError
from netllm_gym.files import read_regular
from netllm_gym.pools.episode import Episode
from netllm_gym.pools.netllm_pool import read_netllm_pool
from netllm_gym.pools.pool import ExperiencePool, PoolWriter
from netllm_gym.problems.index import find_control

UNKNOWN_POLICY = "unknown"


def import_netllm_pool(
    path: Path,
    out: Path,
    traces: str | None = None,
    video: str | None = None,
    noise: bool = False,
    policy: str = UNKNOWN_POLICY,
) -> ExperiencePool:
    """Write NetLLM's pickled pool as an experience pool; run it again after an interruption.

    The file does not name traces, video, seeds or policies. Without `traces` and `video` the pool
    can be read, but not trained on: training records what it saw, and chooses its validation by it.
    With them it can be trained on. The video is checked against the chunk sizes in the file; the
    traces, the noise and the name of the policy cannot be checked. Which trace an episode played
    stays unknown, so its case is empty and its seed is only its number.

    Args:
        path: The pickle; `pools/netllm_pool.py` describes how it is read.
        out: Folder of the pool.
        traces: Name or folder of the traces that were played.
        video: Name, folder or manifest of the video.
        noise: Whether download times were noisy; NetLLM's are, unless all traces were played in a
            fixed order.
        policy: Name of the policy that acted.

    Raises:
        InputError: If the file is not such a pool or does not fit the video; nothing is written
            then.
    """
    problem = find_control("abr")
    if (traces is None) != (video is None):
        raise InputError(f"traces and video must be given together, got {traces} and {video}")
    if traces is None and noise:
        raise InputError("noise must come with traces and video, got noise alone")
    spec: dict[str, Any] = {}
    episodes = read_netllm_pool(path, policy)
    if traces is not None:
        arguments = {"traces": traces, "video": video} | ({"noise": True} if noise else {})
        env = problem.make_env(1, **arguments)
        _check_sizes(path, episodes, _sizes_on_offer(env), str(video))
        spec = {"id": problem.env_id, "arguments": arguments, "worlds": env.provenance([])}
    plan = {
        "imported": "pickled pool of NetLLM; seeds number the episodes",
        "sha256": hashlib.sha256(read_regular(path)).hexdigest(),
        "policies": [policy],
        "episodes": len(episodes),
        "num_shards": -(-len(episodes) // problem.shard_episodes),
    }
    writer = PoolWriter(out, problem.name, spec, plan)
    for number in writer.missing():
        begin = number * problem.shard_episodes
        writer.write(number, episodes[begin : begin + problem.shard_episodes])
    return ExperiencePool.load(out, problem.name)


def _sizes_on_offer(env: Any) -> Float32Array:
    """Play one episode; return (decisions, rungs or more) the sizes seen before each decision."""
    seen, _ = env.reset(seed=0)
    sizes: list[Float32Array] = []
    over = np.array([False])
    while not over[0]:
        sizes.append(seen[0, SIZES])
        seen, _, over, _, _ = env.step(np.zeros(1, np.int64))
    return np.array(sizes)


def _check_sizes(path: Path, episodes: Sequence[Episode], sizes: Float32Array, video: str) -> None:
    for number, episode in enumerate(episodes):
        seen = episode.observations[:, SIZES]
        begun = sizes[: len(seen)] if episode.truncated else sizes
        if seen.shape != begun.shape or not np.array_equal(seen, begun):
            raise InputError(
                f"video must offer the chunk sizes of {path}, got {video!r}, which has others "
                f"than episode {number}"
            )
