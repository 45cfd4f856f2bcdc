"""One episode as data: observations, actions and rewards from reset to end, and their origin.

`terminated` and `truncated` are kept apart: an episode that was truncated could have had further
rewards, which a learner must not take for zero.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from netllm_gym.arrays import FloatArray, IntArray
from netllm_gym.errors import InputError

MAX_INT64 = 2**63 - 1
ACTION_VALUE = "value_"  # infos value_0, value_1, ...: the value of each action, if known


@dataclass(frozen=True, eq=False)
class Episode:
    """T decisions of one policy, and the case that it played.

    Attributes:
        observations: (T, ...) what the policy saw before each action; no terminal observation. An
            array, or whatever the problem's columns are made from; None where it was not kept.
        actions: (T,) int64, or (T, parts) where an action has parts.
        rewards: (T,) float64, of the step that each action led to.
        terminated: Whether the last step reached a terminal state.
        truncated: Whether the episode was cut off after the last step.
        policy: Name of the policy that acted.
        seed: Seed of the episode.
        case: What was played, such as trace and start pointer; str or int values.
        infos: Name -> (T,) float64, what the environment reported in each step.
        expert_actions: The action of an expert in each step, shaped as `actions`; None if no expert
            was asked. See `collection/expert.py`.
    """

    observations: Any
    actions: IntArray
    rewards: FloatArray
    terminated: bool
    truncated: bool
    policy: str
    seed: int
    case: Mapping[str, str | int] = field(default_factory=dict)
    infos: Mapping[str, FloatArray] = field(default_factory=dict)
    expert_actions: IntArray | None = None

    def __post_init__(self) -> None:
        _check_series("rewards", self.rewards, np.float64)
        if self.rewards.ndim != 1 or not len(self.rewards):
            raise InputError(f"rewards must have shape (T,), T >= 1, got {self.rewards.shape}")
        _check_series("actions", self.actions, np.int64, self.num_steps)
        if self.expert_actions is not None:
            _check_series("expert_actions", self.expert_actions, np.int64, self.num_steps)
            if self.expert_actions.shape != self.actions.shape:
                raise InputError(
                    f"expert_actions must have shape {self.actions.shape} as actions, "
                    f"got {self.expert_actions.shape}"
                )
        if isinstance(self.observations, np.ndarray):
            _check_series("observations", self.observations, None, self.num_steps)
        elif self.observations is not None and len(self.observations) != self.num_steps:
            raise InputError(
                f"observations must have {self.num_steps} steps as rewards, "
                f"got {len(self.observations)}"
            )
        for name, values in self.infos.items():
            _check_name("infos", name)
            _check_series(f"infos[{name!r}]", values, np.float64, self.num_steps)
            if values.ndim != 1:
                raise InputError(f"infos[{name!r}] must have shape (T,), got {values.shape}")
        if not np.isfinite(self.rewards).all():
            step = int(np.argmin(np.isfinite(self.rewards)))
            raise InputError(f"rewards must be finite, got {self.rewards[step]} at step {step}")
        if not (self.terminated or self.truncated):
            raise InputError("an episode must end terminated or truncated, got neither")
        if not isinstance(self.policy, str) or not self.policy:
            raise InputError(f"policy must be a name, got {self.policy!r}")
        _check_int("seed", self.seed, low=0)
        for name, value in self.case.items():
            _check_name("case", name)
            if not isinstance(value, str):
                _check_int(f"case[{name!r}]", value, low=-MAX_INT64, kind="text or a whole number")

    @property
    def num_steps(self) -> int:
        """T, the number of decisions."""
        return len(self.rewards)

    @property
    def action_values(self) -> FloatArray | None:
        """(T, A) value of each action, None where not known; see `collection/lookahead.py`."""
        names = [name for name in self.infos if name.startswith(ACTION_VALUE)]
        columns = [self.infos[f"{ACTION_VALUE}{action}"] for action in range(len(names))]
        return np.stack(columns, axis=1) if columns else None


def _check_series(name: str, values: Any, dtype: type | None, num_steps: int | None = None) -> None:
    if not isinstance(values, np.ndarray) or (dtype is not None and values.dtype != dtype):
        wanted = "an array" if dtype is None else f"an array of {np.dtype(dtype)}"
        raise InputError(f"{name} must be {wanted}, got {getattr(values, 'dtype', type(values))}")
    if num_steps is not None and (not values.ndim or len(values) != num_steps):
        raise InputError(f"{name} must have {num_steps} steps as rewards, got {values.shape}")


def _check_int(name: str, value: Any, low: int, kind: str = "a whole number") -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= MAX_INT64:
        raise InputError(f"{name} must be {kind} in {low}..{MAX_INT64}, got {value!r}")


def _check_name(where: str, name: Any) -> None:
    # The names become names of files inside a shard.
    if not isinstance(name, str) or not name.isascii() or not name.isidentifier():
        raise InputError(f"names in {where} must be identifiers, got {name!r}")
