"""The padded face of a batch of clusters: Gymnasium's observations, actions and masks."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import ArrayLike

from netllm_gym.arrays import BoolArray, IntArray
from netllm_gym.envs.cjs.batch import ClusterBatch
from netllm_gym.envs.cjs.observation import ClusterView
from netllm_gym.envs.cjs.padding import Padded, PaddedSize, pad
from netllm_gym.envs.rows import Outcome
from netllm_gym.errors import InputError

_NOT_IN_VIEW = 2**62  # a place that holds no stage, and is not "no stage" either


class PublicFace:
    """A batch whose schedulers see a fixed size and answer with places in it.

    Args:
        batch: The clusters.
        size: How much of them is shown.
        strict_actions: Raise where an action names no schedulable stage.
    """

    def __init__(self, batch: ClusterBatch, size: PaddedSize, strict_actions: bool) -> None:
        workload = batch.workload
        for name, shown, largest in (
            ("max_stages", size.max_stages, workload.max_stages_per_job),
            ("max_edges", size.num_edges, workload.max_edges_per_job),
        ):
            if shown < largest:
                raise InputError(
                    f"{name} must hold the largest job of {workload.name}, {largest}, got {shown}"
                )
        self.batch, self.size, self.strict_actions = batch, size, strict_actions
        self.action_space = spaces.MultiDiscrete(
            np.array([size.max_stages + 1, batch.num_executors])
        )
        self._stage_mask = np.zeros((batch.num_rows, size.max_stages), np.int32)
        self._executor_mask = np.zeros((batch.num_rows, batch.num_executors), np.int32)

    @property
    def done(self) -> BoolArray:
        """(N,) whether each row's episode is over, or has not begun."""
        return self.batch.done

    def begin(
        self,
        begins: BoolArray,
        seeds: Sequence[int | None],
        options: Mapping[str, Any] | None,
        generator: np.random.Generator,
    ) -> Outcome:
        """Begin an episode in some rows; the others stand still."""
        return self._show(self.batch.begin(begins, seeds, options, generator))

    def step(self, actions: ArrayLike) -> Outcome:
        """Take one decision in every row that is not done.

        Args:
            actions: (N, 2) of the action space.
        """
        return self._show(self.batch.step(self._inner_actions(actions, _NOT_IN_VIEW)))

    def native_actions(self, actions: ArrayLike) -> IntArray:
        """Return the same decisions as actions of the batch, (N, 2).

        A stage that is not schedulable becomes -1, "no stage", which is what it counts as.

        Args:
            actions: (N, 2) of the action space.
        """
        return self._inner_actions(actions, -1)

    def observe(self, view: ClusterView) -> Padded:
        """Return what is shown of a view; `action_masks` then belong to it."""
        padded = pad(view, self.size, self.batch.num_executors)
        self._stage_mask = padded.observation["stage_mask"].copy()
        self._executor_mask = padded.observation["executor_mask"].copy()
        return padded

    def _inner_actions(self, actions: ArrayLike, illegal_stage: int) -> IntArray:
        """Return (N, 2) actions of the batch, with `illegal_stage` where a stage is illegal."""
        actions = np.array(actions)
        if actions.shape != (self.batch.num_rows, 2) or actions.dtype.kind not in "iu":
            raise InputError(
                f"actions must be whole numbers of shape ({self.batch.num_rows}, 2), "
                f"got shape {actions.shape} of {actions.dtype}"
            )
        slots, no_stage = actions[:, 0].astype(np.int64), self.size.max_stages
        if slots.min() < 0 or slots.max() > no_stage:
            wrong = slots[(slots < 0) | (slots > no_stage)][0]
            raise InputError(f"stage of an action must be in 0..{no_stage}, got {wrong}")
        named = slots < no_stage
        rows = np.arange(len(slots))
        illegal = named & (self._stage_mask[rows, np.where(named, slots, 0)] == 0)
        if self.strict_actions and (illegal & ~self.batch.done).any():
            self._refuse(int(np.flatnonzero(illegal & ~self.batch.done)[0]), slots)
        inner = np.where(named, np.where(illegal, illegal_stage, slots), -1)
        return np.stack([inner, actions[:, 1]], axis=1)

    def action_masks(self) -> BoolArray:
        """Return (N, max_stages + 1 + num_executors) what each part of an action may be now."""
        always = np.ones((self.batch.num_rows, 1), np.bool_)  # "no stage"
        executors = self._executor_mask.astype(np.bool_)
        executors[:, 0] = True  # of a finished row, where nothing is asked
        return np.concatenate([self._stage_mask.astype(np.bool_), always, executors], axis=1)

    def _show(self, outcome: Outcome) -> Outcome:
        padded = self.observe(self.batch.view())
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
