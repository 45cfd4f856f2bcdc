"""`gym.make_vec("NetLLM-ABR-v0", num_envs=N)`: N players a call, equal to N scalar envs."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from netllm_gym.envs.abr.batch import NoiseLike, Outcome, PlayerBatch, PlayerLike, TracesLike
from netllm_gym.envs.abr.player import DownloadNoise, PlayerConfig
from netllm_gym.envs.abr.qoe import LinearQoE
from netllm_gym.envs.abr.traces import TraceSet
from netllm_gym.envs.abr.video import Video
from netllm_gym.envs.plan import PlannedEpisode
from netllm_gym.errors import InputError

Observations = NDArray[np.float32]  # (N, 6, W)


class ABRVectorEnv(VectorEnv[Observations, NDArray[np.int64], NDArray[Any]]):
    """N independent `ABREnv` in one kernel call; see `ABREnv` for spaces, reward and arguments.

    Row i of `reset(seed=s)` plays the episodes of `ABREnv.reset(seed=s + i)`, bit for bit, whatever
    the other rows do. `player` and `noise` may be sequences of N, one per row. `reset` takes
    `options={"trace": (N,), "start_pointer": (N,), "reset_mask": (N,) bool}`; with a mask only
    those rows begin anew.

    Autoreset modes (`autoreset_mode`): `NEXT_STEP` resets a finished row in the next `step`,
    ignoring that action; `SAME_STEP` at once, with `final_obs` and `final_info` in the info;
    `DISABLED` leaves a finished row standing, reward 0, until `reset` names it.

    It draws nothing, so that no row keeps what it played:
    `gym.make_vec(..., vectorization_mode="sync", render_mode="rgb_array")` draws a frame per row.
    """

    metadata = {"render_modes": [], "autoreset_mode": AutoresetMode.NEXT_STEP}  # noqa: RUF012

    def __init__(
        self,
        num_envs: int = 1,
        traces: TracesLike = "synthetic",
        video: str | Path | Video = "synthetic",
        qoe: LinearQoE | None = None,
        player: PlayerLike | None = None,
        noise: NoiseLike = False,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        render_mode: str | None = None,
    ) -> None:
        if render_mode is not None:
            raise InputError(
                f"render_mode must be None for many players in one call, got {render_mode!r}: "
                'make the scalar environments with vectorization_mode="sync"'
            )
        self.render_mode = render_mode
        self.num_envs = num_envs
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        self.metadata = {**self.metadata, "autoreset_mode": self.autoreset_mode}
        self.batch = PlayerBatch(num_envs, traces, video, qoe, player, noise)
        self.single_observation_space = self.batch.observation_space
        self.single_action_space = self.batch.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

    @property
    def trace_set(self) -> TraceSet:
        """The traces that episodes play over."""
        return self.batch.trace_set

    @property
    def video(self) -> Video:
        """The video that is played."""
        return self.batch.video

    @property
    def qoe(self) -> LinearQoE:
        """The weights of the reward."""
        return self.batch.qoe

    @property
    def players(self) -> tuple[PlayerConfig, ...]:
        """(N,) constants of each row's player and link."""
        return self.batch.players

    @property
    def noises(self) -> tuple[DownloadNoise, ...]:
        """(N,) noise on each row's download times."""
        return self.batch.noises

    @property
    def trace_index(self) -> NDArray[np.int64]:
        """(N,) trace that each row plays now."""
        return self.batch.trace_index

    @property
    def start_pointer(self) -> NDArray[np.int64]:
        """(N,) trace row in which each row's episode began."""
        return self.batch.start_pointer

    def case(self, row: int) -> dict[str, str | int]:
        """Say what a row plays now."""
        trace = self.trace_set.traces[self.trace_index[row]]
        return {
            "trace": trace.name,
            "start_pointer": int(self.start_pointer[row]),
            "recording": trace.recording,
            "content": trace.content,
            "video": self.video.name,
        }

    def evaluation_plan(self, starts: int = 1) -> list[PlannedEpisode]:
        """Return the episodes of an evaluation: every trace from one or more rows.

        Args:
            starts: Episodes per trace. One begins at the published start pointer, else in the
                first row; more begin in rows spread evenly over the trace.
        """
        plan: list[PlannedEpisode] = []
        for index, trace in enumerate(self.trace_set.traces):
            last = len(trace.time_s) - 1
            pointers = [1 + last * part // starts for part in range(starts)]
            for pointer in pointers if starts > 1 else [self.trace_set.start_pointer(index)]:
                options = {"trace": index, "start_pointer": pointer}
                plan.append(PlannedEpisode(len(plan), options))
        return plan

    def provenance(self) -> dict[str, Any]:
        """Say which worlds episodes are drawn from, as JSON.

        `recordings` holds both what traces were cut from and their contents, so that a copy is
        recognised under another name; `sha256` is of all that is played.
        """
        traces = self.trace_set.traces
        digest = hashlib.sha256("".join(trace.content for trace in traces).encode())
        digest.update(self.video.size_bytes.tobytes() + self.video.ladder_mbps.tobytes())
        return {
            "traces": self.trace_set.name,
            "recordings": sorted({name for t in traces for name in (t.recording, t.content)}),
            "video": self.video.name,
            "sha256": digest.hexdigest(),
        }

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Observations, dict[str, Any]]:
        """Begin an episode in every row, or in those of `options["reset_mask"]`."""
        if seed is None or isinstance(seed, int | np.integer):
            super().reset(seed=None if seed is None else int(seed))
        seeds = self._row_seeds(seed)
        begins = np.ones(self.num_envs, np.bool_)
        if options and "reset_mask" in options:
            begins = np.asarray(options["reset_mask"])
            if begins.shape != (self.num_envs,) or begins.dtype != np.bool_ or not begins.any():
                raise InputError(
                    f"reset_mask must be {self.num_envs} booleans, one of them true, got {begins!r}"
                )
        outcome = self.batch.begin(begins, seeds, options, self.np_random)
        return outcome.observation, self._infos(outcome.info, begins, begins)

    def _row_seeds(self, seed: int | Sequence[int | None] | None) -> Sequence[int | None]:
        if seed is None:
            return [None] * self.num_envs
        if isinstance(seed, int | np.integer):
            return [int(seed) + row for row in range(self.num_envs)]
        if len(seed) != self.num_envs:
            raise InputError(f"seed must be one number or {self.num_envs}, got {len(seed)}")
        return seed

    def step(
        self, actions: NDArray[np.int64]
    ) -> tuple[
        Observations, NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]
    ]:
        """Download one chunk in every row."""
        ended_before = self.batch.done
        outcome = self.batch.step(actions)
        reward, ends, infos = outcome.info[:, 0].copy(), outcome.terminated, {}
        begins = np.zeros(self.num_envs, np.bool_)
        if self.autoreset_mode is AutoresetMode.NEXT_STEP:
            begins = ended_before  # these rows stood still above
            ends = ends & ~begins
        elif self.autoreset_mode is AutoresetMode.SAME_STEP:
            begins = ends
        if begins.any():
            if self.autoreset_mode is AutoresetMode.SAME_STEP:
                infos = self._final(outcome, ends)
            begun = self.batch.begin(begins, [None] * self.num_envs, None, self.np_random)
            info = np.where(begins[:, None], begun.info, outcome.info)
            outcome = Outcome(begun.observation, info, ends)
        infos |= self._infos(outcome.info, np.ones(self.num_envs, np.bool_), begins)
        return outcome.observation, reward, ends, np.zeros(self.num_envs, np.bool_), infos

    def _infos(
        self, info: NDArray[np.float64], present: NDArray[np.bool_], begun: NDArray[np.bool_]
    ) -> dict[str, Any]:
        """Return (N,) columns with Gymnasium's `_key` masks; `startup_s` where rows began."""
        from netllm_gym.envs.abr.simulator import INFO_KEYS

        infos: dict[str, Any] = {}
        for index, key in enumerate(INFO_KEYS):
            infos[key], infos[f"_{key}"] = info[:, index], present
        if begun.any():
            infos["startup_s"] = np.where(begun, infos["download_s"], 0.0)
            infos["_startup_s"] = begun
        return infos

    def _final(self, outcome: Outcome, ended: NDArray[np.bool_]) -> dict[str, Any]:
        """Return what SAME_STEP says of the episodes that just ended, before their rows go on."""
        final_obs = np.full(self.num_envs, None, dtype=object)
        for row in np.flatnonzero(ended):
            final_obs[row] = outcome.observation[row].copy()
        last = np.where(ended[:, None], outcome.info, 0.0)
        return {
            "final_obs": final_obs,
            "_final_obs": ended,
            "final_info": self._infos(last, ended, np.zeros_like(ended)),
            "_final_info": ended,
        }
