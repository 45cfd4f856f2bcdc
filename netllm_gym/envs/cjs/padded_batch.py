"""A batch of clusters whose observations are padded to a fixed size, as Gymnasium needs them."""

import numpy as np
from numpy.typing import ArrayLike

from netllm_gym.arrays import BoolArray
from netllm_gym.envs.batch import Outcome
from netllm_gym.envs.cjs.batch import ClusterBatch

_NOT_IN_VIEW = 2**62  # a place that holds no stage, and is not "no stage" either


class PaddedClusterBatch(ClusterBatch):
    """N clusters with observations and actions of a fixed size; see `ClusterBatch`."""

    def step(self, actions: ArrayLike) -> Outcome:
        """Take one decision in every row that is not done; see `RowBatch`.

        Args:
            actions: (N, 2) of the action space.
        """
        return super().step(self.padder.native_actions(actions, self.done, _NOT_IN_VIEW))

    def _outcome(self, ended: BoolArray) -> Outcome:
        outcome = super()._outcome(ended)
        padded = self.padder.observe(outcome.observation)
        hidden = padded.hidden_stages.astype(np.float64)
        return outcome._replace(
            observation=padded.observation, info={**outcome.info, "hidden_stages": hidden}
        )
