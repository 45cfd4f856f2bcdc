"""What the critic of an ABR network knows of the future in training.

The capacity that a link will have is shown in further rows of the observation, which only the
critic reads. It does not depend on the actions, so the policy's gradient keeps its mean, and most
of its noise is gone.

Source: Mao et al., Variance Reduction for Reinforcement Learning in Input-Driven Environments (ICLR
2019).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from netllm_gym.arrays import Float32Array, FloatArray, IntArray
from netllm_gym.data.abr.traces import Trace
from netllm_gym.envs.abr.vector_env import ABRVectorEnv
from netllm_gym.policies.neural.abr_mlp import with_rows

WINDOW_EDGES_S = np.array([0, 2, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 160], np.float64)
FORESIGHT = len(WINDOW_EDGES_S) - 1  # numbers that only the critic reads
_GRID_S = 0.5


class Outlook:
    """The future capacity of the links of an environment, in a grid of half seconds."""

    def __init__(self, traces: Sequence[Trace]) -> None:
        grids = [_sent_mbit(trace) for trace in traces]
        self._begin = np.cumsum([0, *map(len, grids[:-1])])
        self._sent = np.concatenate(grids)

    def capacity_mbps(self, trace: IntArray, trace_s: FloatArray) -> FloatArray:
        """Return (N, windows) mean capacity in windows of `WINDOW_EDGES_S` from now on.

        A row has the index of its trace, (N,), and its current time there, (N,).
        """
        place = (trace_s[:, None] + WINDOW_EDGES_S) / _GRID_S
        below = place.astype(np.int64)
        share = place - below
        index = self._begin[trace][:, None] + below
        sent = self._sent[index] * (1.0 - share) + self._sent[index + 1] * share
        return np.diff(sent, axis=1) / np.diff(WINDOW_EDGES_S)


def _sent_mbit(trace: Trace) -> FloatArray:
    """Return the Mbit that a trace has carried at each half second; it repeats after its end."""
    period_s = trace.time_s[-1]
    upto = np.concatenate([[0.0], np.cumsum(np.diff(trace.time_s) * trace.capacity_mbps[1:])])
    time_s = _GRID_S * np.arange(int((period_s + WINDOW_EDGES_S[-1]) / _GRID_S) + 3)
    turns = np.floor(time_s / period_s)
    return np.asarray(np.interp(time_s - turns * period_s, trace.time_s, upto) + turns * upto[-1])


class ForesightEnv(ABRVectorEnv):
    """Adds the future capacity to each observation, in further rows."""

    def reset(self, **arguments: Any) -> tuple[Any, dict[str, Any]]:
        """Begin episodes; see `RowVectorEnv`."""
        observations, infos = super().reset(**arguments)
        return self._with_foresight(observations), infos

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Take a step; see `RowVectorEnv`."""
        observations, rewards, terminated, truncated, infos = super().step(actions)
        return self._with_foresight(observations), rewards, terminated, truncated, infos

    def _with_foresight(self, observations: Float32Array) -> Float32Array:
        if not hasattr(self, "_outlook"):
            self._outlook = Outlook(self.trace_set.traces)
        rows = self.batch.rows
        ahead = self._outlook.capacity_mbps(rows["trace"], rows["trace_s"])
        return with_rows(observations, ahead)
