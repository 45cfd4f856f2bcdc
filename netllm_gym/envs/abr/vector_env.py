"""`gym.make_vec("NetLLM-ABR-v0", num_envs=N)`: N players a call, equal to N scalar envs."""

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from netllm_gym.arrays import IntArray
from netllm_gym.data.abr.traces import TraceSet
from netllm_gym.data.abr.video import Video
from netllm_gym.envs.abr.batch import NoiseLike, PlayerBatch, PlayerLike, TracesLike
from netllm_gym.envs.abr.player import DownloadNoise, PlayerConfig
from netllm_gym.envs.abr.qoe import LinearQoE
from netllm_gym.envs.plan import PlannedEpisode
from netllm_gym.envs.rows import RowVectorEnv


class ABRVectorEnv(RowVectorEnv):
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

    batch: PlayerBatch

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
        self._set_modes(num_envs, autoreset_mode, render_mode)
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
    def loaded(self) -> dict[str, Any]:
        """Arguments that make another environment of the same worlds, without reading them."""
        return {"traces": self.trace_set, "video": self.video}

    @property
    def trace_index(self) -> IntArray:
        """(N,) trace that each row plays now."""
        return self.batch.trace_index

    @property
    def start_pointer(self) -> IntArray:
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

    def evaluation_plan(self, at_least: int = 1) -> list[PlannedEpisode]:
        """Return the episodes of an evaluation: every trace from one or more rows.

        Args:
            at_least: Episodes. One per trace begins at the published start pointer, else in the
                first row; where more are asked for, all begin in rows spread evenly over the trace.
        """
        starts = max(1, math.ceil(at_least / len(self.trace_set.traces)))
        plan: list[PlannedEpisode] = []
        for index, trace in enumerate(self.trace_set.traces):
            last = len(trace.time_s) - 1
            pointers = [1 + last * part // starts for part in range(starts)]
            for pointer in pointers if starts > 1 else [self.trace_set.start_pointer(index)]:
                options = {"trace": index, "start_pointer": pointer}
                plan.append(PlannedEpisode(len(plan), options))
        return plan

    def training_plan(self, seeds: Sequence[int]) -> list[PlannedEpisode]:
        """Return training episodes, whose trace and start their seed draws."""
        return [PlannedEpisode(seed) for seed in seeds]

    def provenance(self, plan: Sequence[PlannedEpisode]) -> dict[str, Any]:
        """Say which worlds planned episodes are drawn from, as JSON: all traces of the set.

        `recordings` holds both what traces were cut from and their contents, so that a copy is
        recognised under another name; `sha256` is of all that is played.
        """
        traces = self.trace_set.traces
        digest = hashlib.sha256("".join(trace.content for trace in traces).encode())
        digest.update(self.video.size_bytes.tobytes() + self.video.ladder_mbps.tobytes())
        return {
            "traces": self.trace_set.name,
            "recordings": self.trace_set.known_by,
            "video": self.video.name,
            "sha256": digest.hexdigest(),
        }
