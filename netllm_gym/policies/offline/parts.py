"""What each problem brings to the offline learners: one row per problem.

Its observations as vectors of fixed size, its decisions as a fixed set of actions, which of these
may be chosen, and what environment and episodes fit.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from netllm_gym.arrays import BoolArray, Float32Array, IntArray
from netllm_gym.envs.cjs.observation import ClusterView
from netllm_gym.errors import InputError
from netllm_gym.policies.baselines.abr import check_trained_for
from netllm_gym.policies.offline import cjs
from netllm_gym.policies.offline.config import OfflineConfig


class Taught(NamedTuple):
    """N decisions of a teacher."""

    features: Float32Array  # (N, D)
    actions: IntArray  # (N,) below 0 where there is none
    is_exact: BoolArray  # (N,) whether the action does just what the teacher did
    is_allowed: BoolArray  # (N,) whether it may be chosen


class Offered(NamedTuple):
    """N decisions to make."""

    features: Float32Array  # (N, D)
    allowed: BoolArray  # (N, A), at least one in each row
    decide: Callable[[IntArray], IntArray]  # (N,) actions -> what the environment takes


class Sizes(NamedTuple):
    """What the config of a policy takes from its problem, by the same names."""

    num_features: int
    num_actions: int
    max_steps: int


class ProblemParts(NamedTuple):
    """One row."""

    taught: Callable[[OfflineConfig, Any, IntArray], Taught]  # observations, decisions
    offered: Callable[[OfflineConfig, Any], Offered]  # observations
    sizes: Callable[[Any, int], Sizes]  # env, longest episode
    check_env: Callable[[OfflineConfig, Any], None]  # raises InputError


def _abr_features(config: OfflineConfig, observations: Any) -> Float32Array:
    """Return the published matrix laid flat, (N, 6 W)."""
    flat = np.asarray(observations, np.float32).reshape(len(observations), -1)
    if flat.shape[1] != config.num_features:
        raise InputError(
            f"observations must have {config.num_features} numbers, got {flat.shape[1]}"
        )
    return flat


def _abr_taught(config: OfflineConfig, observations: Any, rungs: IntArray) -> Taught:
    if rungs.min() < 0 or rungs.max() >= config.num_actions:
        raise InputError(
            f"actions must be in 0..{config.num_actions - 1}, got {rungs.min()}..{rungs.max()}"
        )
    always = np.ones(len(rungs), np.bool_)
    return Taught(_abr_features(config, observations), rungs, always, always)


def _abr_offered(config: OfflineConfig, observations: Any) -> Offered:
    features = _abr_features(config, observations)
    allowed = np.ones((len(features), config.num_actions), np.bool_)
    return Offered(features, allowed, lambda rungs: rungs)


def _abr_sizes(env: Any, longest: int) -> Sizes:
    num_features = int(np.prod(env.single_observation_space.shape))
    return Sizes(num_features, int(env.single_action_space.n), longest)


def _check_abr_env(config: OfflineConfig, env: Any) -> None:
    check_trained_for(env, config.num_actions, config.max_steps if config.method == "dt" else None)


def _cjs_taught(config: OfflineConfig, view: Any, decisions: IntArray) -> Taught:
    if not isinstance(view, ClusterView):
        raise InputError(f"observations must be of cjs, got {type(view).__name__}")
    menu = cjs.menu_of(view)
    actions, is_exact = cjs.number_actions(menu, decisions)
    is_allowed = menu.allowed[np.arange(len(view)), np.maximum(actions, 0)]
    return Taught(cjs.features_of(view, menu), actions, is_exact, is_allowed)


def _cjs_offered(config: OfflineConfig, view: Any) -> Offered:
    menu = cjs.menu_of(view)
    return Offered(
        cjs.features_of(view, menu), menu.allowed, lambda actions: cjs.decisions_of(menu, actions)
    )


def _cjs_sizes(env: Any, longest: int) -> Sizes:
    # The state is whole and episodes have any length: a decision is not told how many came before.
    return Sizes(cjs.NUM_FEATURES, cjs.NUM_ACTIONS, max_steps=1)


def _check_cjs_env(config: OfflineConfig, env: Any) -> None:
    if not hasattr(env, "num_executors"):
        raise InputError(f"env must be one of the problem cjs, got {env}")
    for name, here in (("num_features", cjs.NUM_FEATURES), ("num_actions", cjs.NUM_ACTIONS)):
        if getattr(config, name) != here:
            raise InputError(f"{name} must be {here} for cjs, got {getattr(config, name)}")


PARTS = {
    "abr": ProblemParts(_abr_taught, _abr_offered, _abr_sizes, _check_abr_env),
    "cjs": ProblemParts(_cjs_taught, _cjs_offered, _cjs_sizes, _check_cjs_env),
}


def parts_of(problem: str) -> ProblemParts:
    """Return a problem's row."""
    if problem not in PARTS:
        raise InputError(f"problem must be one of {', '.join(PARTS)}, got {problem!r}")
    return PARTS[problem]
