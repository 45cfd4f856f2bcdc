"""Read NetLLM's experience pools, which are pickle files, without unpickling them.

NetLLM keeps a pool as one pickled object of `plm_special.data.exp_pool.ExperiencePool` with four
lists of equal length: `states` (6, 6) float32, `actions` (rungs), `rewards`, `dones`.
`data/pickled.py` reads it and allows five names: that class and numpy's `_reconstruct`, `scalar`,
`ndarray` and `dtype`. A file with another name is refused.

Such a pool has no traces, video, policies or seeds; only the ends of episodes are marked.
"""

import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from netllm_gym.data.pickled import ARRAY_NAMES, SCALAR_NAMES, Array, Instance, replay
from netllm_gym.errors import InputError
from netllm_gym.pools import abr
from netllm_gym.pools.episode import Episode

SERIES = ("states", "actions", "rewards", "dones")
STATE_SHAPE, NUM_RUNGS = (6, 6), 6  # NetLLM's, whatever the video
_POOL = ("plm_special.data.exp_pool", "ExperiencePool")


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
    data = path.read_bytes()
    try:
        series = _series(replay(data, (_POOL, *ARRAY_NAMES, *SCALAR_NAMES)))
    except InputError as error:
        raise InputError(f"{path} must be a pickled pool of NetLLM: {error}") from None
    except Exception as error:  # the file may hold any bytes
        reason = str(error) or type(error).__name__
        raise InputError(f"{path} must be a pickled pool of NetLLM: {reason}") from None
    try:
        return _episodes(series, policy)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _episodes(series: dict[str, list[Any]], policy: str) -> list[Episode]:
    ends = [step + 1 for step, done in enumerate(series["dones"]) if done]
    length = len(series["dones"])
    borders = [0, *ends, *([length] if not ends or ends[-1] < length else [])]
    episodes = []
    for number, (begin, end) in enumerate(pairwise(borders)):
        observations = np.stack(series["states"][begin:end])  # (T, 6, 6) float32
        try:
            abr.to_columns(observations)
        except InputError as error:
            raise InputError(f"episode {number}: {error}") from None
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
    if not isinstance(pool, Instance):
        raise InputError(f"an ExperiencePool must come out of it, got {type(pool).__name__}")
    series = {name: pool.fields.get(name) for name in SERIES}
    lists = [values for values in series.values() if isinstance(values, list)]
    lengths = {len(values) for values in lists}
    if len(lists) < len(SERIES) or len(lengths) != 1 or lengths == {0}:
        raise InputError(f"{', '.join(SERIES)} must be lists of one length above 0")
    if any(isinstance(each, dict) for name in ("states", "actions") for each in series[name] or ()):
        raise InputError("pools of NetLLM's CJS task are not read")
    rules: dict[str, tuple[Callable[[Any], bool], str]] = {
        "states": (_is_state, f"float32 of shape {STATE_SHAPE}"),
        "actions": (_is_rung, f"whole numbers in 0..{NUM_RUNGS - 1}"),
        "rewards": (_is_reward, "finite numbers"),
        "dones": (lambda value: type(value) is bool, "booleans"),
    }
    plain: dict[str, list[Any]] = {}
    for name, (fits, rule) in rules.items():
        values = [one.values if isinstance(one, Array) else one for one in series[name] or ()]
        for step, value in enumerate(values):
            if not fits(value):
                got = f"{value!r:.40}"
                if isinstance(value, np.ndarray):
                    got = f"{value.dtype} of {value.shape}"
                raise InputError(f"{name} must be {rule}, got {got} at {step}")
        plain[name] = values
    return plain


def _is_state(value: Any) -> bool:
    is_array = isinstance(value, np.ndarray)
    return is_array and (value.shape, value.dtype) == (STATE_SHAPE, np.float32)


def _is_rung(value: Any) -> bool:
    return type(value) is int and 0 <= value < NUM_RUNGS


def _is_reward(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)
