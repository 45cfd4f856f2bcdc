"""NetLLM's experience pools, which are pickle files: read without unpickling them, and imported.

NetLLM keeps a pool as one pickled object of `plm_special.data.exp_pool.ExperiencePool` with four
lists of equal length: `states` (6, 6) float32, `actions` (rungs), `rewards`, `dones`.
`data/pickled.py` reads it and allows five names: that class and numpy's `_reconstruct`, `scalar`,
`ndarray` and `dtype`. A file with another name is refused.

Such a pool has no traces, video, policies or seeds; only the ends of episodes are marked.
"""

import hashlib
import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from netllm_gym.arrays import Float32Array
from netllm_gym.data.pickled import ARRAY_NAMES, SCALAR_NAMES, Array, Instance, replay
from netllm_gym.envs.abr.observation import SIZES
from netllm_gym.errors import InputError
from netllm_gym.files import errors_begin_with, locked, read_regular
from netllm_gym.pools import abr
from netllm_gym.pools.episode import Episode
from netllm_gym.pools.pool import ExperiencePool, PoolWriter
from netllm_gym.problems.index import find_control

UNKNOWN_POLICY = "unknown"
STATE_SHAPE, NUM_RUNGS = (6, 6), 6  # NetLLM's, whatever the video
_POOL = ("plm_special.data.exp_pool", "ExperiencePool")


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
        path: The pickle.
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
    with locked(out):
        writer = PoolWriter(out, problem.name, spec, plan)
        for number in writer.missing():
            begin = number * problem.shard_episodes
            writer.write(number, episodes[begin : begin + problem.shard_episodes])
    return ExperiencePool.load(out, problem.name)


def read_netllm_pool(path: Path, policy: str) -> list[Episode]:
    """Read NetLLM's pickled pool of ABR episodes.

    Args:
        path: The file, `exp_pool.pkl` in NetLLM.
        policy: Name to give to the policy that acted, since the file has none.

    Returns:
        The episodes in the file's order. Their seeds are their numbers, since the file has none,
        and their cases are empty. Steps after the last end are a truncated episode.

    Raises:
        InputError: If the file is no such pool, or asks for a name that is not allowed.
    """
    data = read_regular(path)
    try:
        series = _series(replay(data, (_POOL, *ARRAY_NAMES, *SCALAR_NAMES)))
    except Exception as error:  # the file may hold any bytes
        reason = str(error) or type(error).__name__
        raise InputError(f"{path} must be a pickled pool of NetLLM: {reason}") from None
    ends = [step + 1 for step, done in enumerate(series["dones"]) if done]
    length = len(series["dones"])
    borders = [0, *ends, *([length] if not ends or ends[-1] < length else [])]
    episodes = []
    for number, (begin, end) in enumerate(pairwise(borders)):
        observations = np.stack(series["states"][begin:end])  # (T, 6, 6) float32
        with errors_begin_with(f"{path}: episode {number}"):
            abr.to_columns(observations)
        terminated = bool(series["dones"][end - 1])
        episodes.append(
            Episode(
                observations=observations,
                actions=np.array(series["actions"][begin:end], np.int64),
                rewards=np.array(series["rewards"][begin:end], np.float64),
                terminated=terminated,
                truncated=not terminated,
                policy=policy,
                seed=number,
            )
        )
    return episodes


def _series(pool: Any) -> dict[str, list[Any]]:
    """Check the four lists of a pool."""
    rules: dict[str, tuple[Callable[[Any], bool], str]] = {
        "states": (_is_state, f"float32 of shape {STATE_SHAPE}"),
        "actions": (
            lambda value: type(value) is int and 0 <= value < NUM_RUNGS,
            f"whole numbers in 0..{NUM_RUNGS - 1}",
        ),
        "rewards": (
            lambda value: type(value) in (int, float) and math.isfinite(value),
            "finite numbers",
        ),
        "dones": (lambda value: type(value) is bool, "booleans"),
    }
    if not isinstance(pool, Instance):
        raise InputError(f"an ExperiencePool must come out of it, got {type(pool).__name__}")
    lists = [pool.fields.get(name) for name in rules]
    lengths = {len(values) if isinstance(values, list) else 0 for values in lists}
    if len(lengths) != 1 or lengths == {0}:
        raise InputError(f"{', '.join(rules)} must be lists of one length above 0")
    if any(isinstance(each, dict) for values in lists for each in values or ()):
        raise InputError("pools of NetLLM's CJS task are not read")
    plain: dict[str, list[Any]] = {}
    for name, (fits, rule) in rules.items():
        plain[name] = [one.values if isinstance(one, Array) else one for one in pool.fields[name]]
        for step, value in enumerate(plain[name]):
            if not fits(value):
                got = f"{value!r:.40}"
                if isinstance(value, np.ndarray):
                    got = f"{value.dtype} of {value.shape}"
                raise InputError(f"{name} must be {rule}, got {got} at {step}")
    return plain


def _is_state(value: Any) -> bool:
    is_array = isinstance(value, np.ndarray)
    return is_array and (value.shape, value.dtype) == (STATE_SHAPE, np.float32)


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
