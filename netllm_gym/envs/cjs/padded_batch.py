"""A batch of clusters whose observations are padded to a fixed size, as Gymnasium needs them."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from netllm_gym.arrays import BoolArray, IntArray
from netllm_gym.envs.batch import Outcome, check_within, whole_actions
from netllm_gym.envs.cjs.batch import ClusterBatch
from netllm_gym.envs.cjs.padding import pad
from netllm_gym.errors import InputError

_NOT_IN_VIEW = 2**62  # a place that holds no stage, and is not "no stage" either


class PaddedClusterBatch(ClusterBatch):
    """N clusters with observations and actions of a fixed size.

    Args:
        *arguments: Of `ClusterBatch`.
        strict_actions: Raise an error for an action that names a stage that is not schedulable.
        **named: Of `ClusterBatch`.
    """

    def __init__(self, *arguments: Any, strict_actions: bool, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.strict_actions = strict_actions
        self._stage_mask = np.zeros((self.num_rows, self.size.max_stages), np.int32)
        self._executor_mask = np.zeros((self.num_rows, self.num_executors), np.int32)

    def step(self, actions: ArrayLike) -> Outcome:
        """Take one decision in every row that is not done; see `RowBatch`.

        Args:
            actions: (N, 2) of the action space.
        """
        inner, no_stage = whole_actions(actions, (self.num_rows, 2)), self.size.max_stages
        slots = inner[:, 0]
        check_within("stage of an action must be in", slots, 0, no_stage)
        named = slots < no_stage
        illegal = named & (self._stage_mask[np.arange(self.num_rows), slots * named] == 0)
        if self.strict_actions and (illegal & ~self.done).any():
            self._refuse(int(np.flatnonzero(illegal & ~self.done)[0]), slots)
        inner[:, 0] = np.where(named, np.where(illegal, _NOT_IN_VIEW, slots), -1)
        return super().step(inner)

    def action_masks(self) -> BoolArray:
        """Return (N, max_stages + 1 + num_executors) what each part of an action may be."""
        always = np.ones((self.num_rows, 1), np.bool_)  # "no stage"
        executors = self._executor_mask.astype(np.bool_)
        executors[:, 0] = True  # of a finished row, where nothing is asked
        return np.concatenate([self._stage_mask.astype(np.bool_), always, executors], axis=1)

    def _outcome(self, ended: BoolArray) -> Outcome:
        outcome = super()._outcome(ended)
        padded = pad(outcome.observation, self.size, self.num_executors)
        self._stage_mask = padded.observation["stage_mask"].copy()
        self._executor_mask = padded.observation["executor_mask"].copy()
        hidden = padded.hidden_stages.astype(np.float64)
        return outcome._replace(
            observation=padded.observation, info={**outcome.info, "hidden_stages": hidden}
        )

    def _refuse(self, row: int, slots: IntArray) -> None:
        legal = [*np.flatnonzero(self._stage_mask[row]).tolist(), self.size.max_stages]
        raise InputError(
            f"stage of an action must be schedulable, one of {', '.join(map(str, legal))} "
            f"(the last: no stage), got {slots[row]}"
        )
