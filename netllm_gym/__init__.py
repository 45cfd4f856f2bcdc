"""Gymnasium environments, experience pools and adapted language models for networking.

Importing this registers the environments. The functions below are imported when they are first
used, so that neither torch nor numba is loaded for an environment's sake.

    collect(problem, policies, episodes, out, case)   play episodes, write an experience pool
    ExperiencePool.load(folder)                       read one
    train(problem, method, out, ...)                  train a policy by any method
    load_policy(policy)                               find a baseline or read a trained policy
    register_policy(name, target, problem)            give a policy of your own a name
    register_problem(problem)                         add a problem of your own
    evaluate(problem, policies, case)                 play a case with every policy -> Table
"""

import importlib
from typing import TYPE_CHECKING, Any

from netllm_gym.envs import register_envs
from netllm_gym.version import __version__ as __version__

if TYPE_CHECKING:
    from netllm_gym.collection.collect import collect as collect
    from netllm_gym.evaluation.evaluate import evaluate as evaluate
    from netllm_gym.policies.loading import load_policy as load_policy
    from netllm_gym.policies.loading import register_policy as register_policy
    from netllm_gym.pools.pool import ExperiencePool as ExperiencePool
    from netllm_gym.problems.index import register_problem as register_problem
    from netllm_gym.training.methods import train as train


_HOMES = {
    "ExperiencePool": "netllm_gym.pools.pool",
    "collect": "netllm_gym.collection.collect",
    "evaluate": "netllm_gym.evaluation.evaluate",
    "load_policy": "netllm_gym.policies.loading",
    "register_policy": "netllm_gym.policies.loading",
    "register_problem": "netllm_gym.problems.index",
    "train": "netllm_gym.training.methods",
}
__all__ = [
    "ExperiencePool",
    "collect",
    "evaluate",
    "load_policy",
    "register_envs",
    "register_policy",
    "register_problem",
    "train",
]

register_envs()


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'netllm_gym' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
