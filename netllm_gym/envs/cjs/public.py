"""What schedulers see of a batch of clusters: a view of any size, or arrays of fixed size."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import ArrayLike

from netllm_gym.arrays import BoolArray, IntArray
from netllm_gym.envs.batch import Outcome, check_within, whole_actions
from netllm_gym.envs.cjs.batch import ClusterBatch
from netllm_gym.envs.cjs.padding import PaddedSize, observation_space, pad
from netllm_gym.errors import InputError

_NOT_IN_VIEW = 2**62  # a place that holds no stage, and is not "no stage" either


class ClusterFace:
    """A `RowBatch` whose observation is a `ClusterView`, which hides nothing.

    An action names a place in the view, or -1 for no stage. The package's own policies use it. Its
    spaces are those of the padded observation, because a `ClusterView` has no Gymnasium space.

    Args:
        clusters: The batch.
        size: Of the padded observation.
    """

    def __init__(self, clusters: ClusterBatch, size: PaddedSize) -> None:
        workload = clusters.workload
        for name, shown, largest in (
            ("max_stages", size.max_stages, workload.max_stages_per_job),
            ("max_edges", size.num_edges, workload.max_edges_per_job),
        ):
            if shown < largest:
                raise InputError(
                    f"{name} must hold the largest job of {workload.name}, {largest}, got {shown}"
                )
        self.clusters, self.size = clusters, size
        self.num_rows, self.option_names = clusters.num_rows, clusters.option_names
        self.observation_space = observation_space(size, clusters.num_executors)
        self.action_space = spaces.MultiDiscrete(
            np.array([size.max_stages + 1, clusters.num_executors])
        )

    @property
    def done(self) -> BoolArray:
        """(N,) whether each row's episode is over, or has not begun."""
        return self.clusters.done

    def begin(
        self,
        begins: BoolArray,
        seeds: Sequence[int | None],
        options: Mapping[str, Any] | None,
        generator: np.random.Generator,
    ) -> Outcome:
        """Begin an episode in some rows; see `RowBatch`."""
        return self._show(self.clusters.begin(begins, seeds, options, generator))

    def step(self, actions: ArrayLike) -> Outcome:
        """Take one decision in every row that is not done; see `ClusterBatch.step`."""
        return self._show(self.clusters.step(actions))

    def _show(self, outcome: Outcome) -> Outcome:
        """Add what the schedulers see to the outcome."""
        return outcome._replace(observation=self.clusters.view())


class PublicFace(ClusterFace):
    """A `RowBatch` whose observation is padded to a fixed size.

    Args:
        clusters: The batch.
        size: How much of the clusters is shown.
        strict_actions: Raise where an action names a stage that is not schedulable.
    """

    def __init__(self, clusters: ClusterBatch, size: PaddedSize, strict_actions: bool) -> None:
        super().__init__(clusters, size)
        self.strict_actions = strict_actions
        num_rows, num_executors = clusters.num_rows, clusters.num_executors
        self._stage_mask = np.zeros((num_rows, size.max_stages), np.int32)
        self._executor_mask = np.zeros((num_rows, num_executors), np.int32)

    def step(self, actions: ArrayLike) -> Outcome:
        """Take one decision in every row that is not done.

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

    def _show(self, outcome: Outcome) -> Outcome:
        padded = pad(self.clusters.view(), self.size, self.clusters.num_executors)
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
