"""`gym.make_vec("NetLLM-ABR-v0", num_envs=N)`: N players in one call, equal to N scalar ones."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from gymnasium.vector import AutoresetMode

from netllm_gym.data.abr.video import Video, VideoOptions
from netllm_gym.envs.abr.batch import (
    NoiseLike,
    PlayerBatch,
    PlayerLike,
    PlayerRows,
    QoELike,
    TracesLike,
)
from netllm_gym.envs.plan import PlannedEpisode
from netllm_gym.envs.rows import RowVectorEnv
from netllm_gym.errors import InputError


class ABRVectorEnv(PlayerRows, RowVectorEnv):
    """Choose the bitrates of N videos that are streamed over N independent links.

    ## Description
    N independent `ABREnv` in one call of the simulator. Row i of `reset(seed=s)` plays the episodes
    of `ABREnv.reset(seed=s + i)`, bit for bit, whatever the other rows do.

    ## Action Space
    `MultiDiscrete([rungs] * N)`: the rung of each row's next chunk; 0 is the lowest bitrate.

    ## Observation Space
    `Box(0, inf, (N, 6, max(6, rungs)), float32)`: in each row the observation of `ABREnv`, whose
    six rows are

    | row | what | unit |
    | --- | --- | --- |
    | 0, 1 | bitrate; buffer | share of the highest bitrate; 10 s |
    | 2, 3 | measured throughput; download time | MB/s; 10 s |
    | 4, 5 | sizes of the next chunk; chunks left | MB; share of the video |

    ## Rewards
    (N,) float64, the QoE of each row's chunk; 0 in rows that take no step.

    ## Starting State
    As in `ABREnv`. `reset` takes one seed, or a sequence of N seeds, and
    `options={"trace": (N,), "start_pointer": (N,), "reset_mask": (N,) bool}`; with a mask only
    these rows begin an episode.

    ## Episode End
    Each row terminates after its last chunk. `autoreset_mode` says what happens then, see
    `RowVectorEnv`.

    ## Arguments
    - `num_envs`: N.
    - `player`, `noise`: as in `ABREnv`, or a sequence of N, one per row.
    - All others of `ABREnv`, the same for all rows.
    - `autoreset_mode`: `NEXT_STEP` (default), `SAME_STEP` or `DISABLED`.
    - `max_episode_steps`: steps after which an episode is truncated. Default: None.
    - `render_mode`: only None. To render, make scalar environments with
      `gym.make_vec(..., vectorization_mode="sync", render_mode="rgb_array")`.

    ## Version History
    - v0: first release.
    """

    batch: PlayerBatch

    def __init__(
        self,
        num_envs: int = 1,
        traces: TracesLike = "synthetic",
        video: str | Path | Video = "synthetic",
        qoe: QoELike | None = None,
        player: PlayerLike | None = None,
        noise: NoiseLike = False,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        render_mode: str | None = None,
        max_episode_steps: int | None = None,
        **options: Any,
    ) -> None:
        batch = PlayerBatch(num_envs, traces, video, qoe, player, noise, **options)
        super().__init__(batch, autoreset_mode, render_mode, max_episode_steps)

    @property
    def loaded(self) -> dict[str, Any]:
        """Arguments that make another environment of the same data without reading it again."""
        said = dict.fromkeys(each.name for each in fields(VideoOptions))  # the video knows it
        return {"traces": self.trace_set, "video": self.video, **said}

    def case(self, row: int) -> dict[str, str | int]:
        """Describe the episode that a row plays."""
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
            at_least: Episodes. One per trace begins in the row of the case, or at the published
                start pointer, else in the first row; where more are asked for, all begin in rows
                spread evenly over the trace.

        Raises:
            InputError: If there are to be more than one per trace, which begin in one row.
        """
        starts = max(1, math.ceil(at_least / len(self.trace_set.traces)))
        if starts > 1 and self.batch.start_row is not None:
            raise InputError(
                f"episodes must be at most {len(self.trace_set.traces)}, one per trace, where "
                f"start_row is given, got {at_least}"
            )
        plan: list[PlannedEpisode] = []
        for index, trace in enumerate(self.trace_set.traces):
            last = len(trace.time_s) - 1
            pointers = [1 + last * part // starts for part in range(starts)]
            for pointer in pointers if starts > 1 else [self.batch.first_row(index)]:
                options = {"trace": index, "start_pointer": pointer}
                plan.append(PlannedEpisode(len(plan), options))
        return plan

    def provenance(self, plan: Sequence[PlannedEpisode]) -> dict[str, Any]:
        """Describe where planned episodes come from, as JSON: from all traces of the set.

        `recordings` holds both the names of the recordings and their contents, so that a copy is
        recognised under another name; `sha256` is the hash of traces and video. Options of the case
        are named where they are not the default.
        """
        traces = self.trace_set.traces
        digest = hashlib.sha256("".join(trace.content for trace in traces).encode())
        digest.update(self.video.size_bytes.tobytes() + self.video.ladder_mbps.tobytes())
        if not isinstance(self.video.chunk_s, float):
            digest.update(self.video.lengths_s.tobytes())
        return {
            "traces": self.trace_set.name,
            "recordings": self.trace_set.known_by,
            "video": self.video.name,
            "sha256": digest.hexdigest(),
            **self.unusual,
        }


def case_in_words(env: ABRVectorEnv) -> str:
    """Return the bitrates that the actions choose between, and what the rewards measure."""
    ladder = ", ".join(f"{each:g}" for each in env.video.ladder_mbps)
    of_rewards = (*env.qoe.unusual, "quality_file")
    told = [f", {name} {value}" for name, value in env.unusual.items() if name in of_rewards]
    return f"bitrates of {ladder} Mbit/s{''.join(told)}"
