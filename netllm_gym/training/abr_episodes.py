"""Episodes over traces in which ABR networks train by playing, and what their critic sees of them.

What the links will carry stands below the observation, for the critic alone: it is the same
whatever is done, so a return judged against it leaves the policy's gradient where it was and takes
most of the noise out of it.

Source: Mao et al., Variance Reduction for Reinforcement Learning in Input-Driven Environments (ICLR
2019).
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from netllm_gym.arrays import Float32Array, FloatArray, IntArray
from netllm_gym.data.abr.traces import Trace
from netllm_gym.data.abr.video import Video
from netllm_gym.envs.abr.vector_env import ABRVectorEnv
from netllm_gym.envs.plan import PlannedEpisode
from netllm_gym.policies.neural.abr_mlp import with_rows
from netllm_gym.policies.policy import TrainedPolicyFactory
from netllm_gym.training.config import PPOConfig
from netllm_gym.training.ppo import episode_seeds

WINDOW_EDGES_S = np.array([0, 2, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 160], np.float64)
FORESIGHT = len(WINDOW_EDGES_S) - 1  # numbers that the critic sees besides
_GRID_S = 0.5


class Outlook:
    """What links will carry, read off a grid of half seconds.

    Args:
        traces: That rows play over.
    """

    def __init__(self, traces: Sequence[Trace]) -> None:
        grids = [_sent_mbit(trace) for trace in traces]
        self._begin = np.cumsum([0, *map(len, grids[:-1])])
        self._sent = np.concatenate(grids)

    def capacity_mbps(self, trace: IntArray, trace_s: FloatArray) -> FloatArray:
        """Return (N, windows) mean capacity between the edges, counted from now.

        Args:
            trace: (N,) index of each row's trace.
            trace_s: (N,) where in it the row stands.
        """
        place = (trace_s[:, None] + WINDOW_EDGES_S) / _GRID_S
        below = place.astype(np.int64)
        share = place - below
        index = self._begin[trace][:, None] + below
        sent = self._sent[index] * (1.0 - share) + self._sent[index + 1] * share
        return np.diff(sent, axis=1) / np.diff(WINDOW_EDGES_S)


def _sent_mbit(trace: Trace) -> FloatArray:
    """Return what a trace has carried, in Mbit, at each half second, wrapped beyond its end."""
    period_s = trace.time_s[-1]
    upto = np.concatenate([[0.0], np.cumsum(np.diff(trace.time_s) * trace.capacity_mbps[1:])])
    time_s = _GRID_S * np.arange(int((period_s + WINDOW_EDGES_S[-1]) / _GRID_S) + 3)
    turns = np.floor(time_s / period_s)
    return np.asarray(np.interp(time_s - turns * period_s, trace.time_s, upto) + turns * upto[-1])


class ForesightEnv(ABRVectorEnv):
    """Shows below each observation, in as many further rows as it takes, what is to come."""

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


class TraceEpisodes:
    """Episodes over the traces of a set: an `EpisodeSource`.

    Args:
        traces: Trained on.
        video: Played.
        ppo: Says how many episodes an update plays, and the seed.
    """

    settings: Mapping[str, Any] = {}  # the traces decide, which a run remembers

    def __init__(self, traces: Sequence[Trace], video: Video, ppo: PPOConfig) -> None:
        self._ppo = ppo
        self._env = ForesightEnv(
            num_envs=ppo.episodes,
            traces=traces,
            video=video,
            autoreset_mode="Disabled",
        )

    def episodes(
        self, update: int, policy: Callable[[], TrainedPolicyFactory]
    ) -> tuple[ForesightEnv, list[PlannedEpisode]]:
        """Return the environment and the plan of an update; seeds draw trace and start."""
        seeds = episode_seeds(self._ppo.seed, update, self._ppo.episodes)
        return self._env, self._env.training_plan(seeds.tolist())

    def state(self) -> dict[str, Any]:
        """Return nothing: all updates play over the same traces."""
        return {}

    def restore(self, state: Mapping[str, Any], path: Path) -> None:
        """Put nothing back."""
