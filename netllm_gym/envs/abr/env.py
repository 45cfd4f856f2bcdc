"""`NetLLM-ABR-v0`: the scalar environment of ABR. The dynamics are in `simulator.py`."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from netllm_gym.arrays import Float32Array
from netllm_gym.data.abr.video import Video
from netllm_gym.envs.abr.batch import (
    NoiseLike,
    PlayerBatch,
    PlayerLike,
    PlayerRows,
    QoELike,
    TracesLike,
)
from netllm_gym.envs.abr.playback import Playback, link_capacity
from netllm_gym.envs.abr.rendering import Painter, Scene, episode_text
from netllm_gym.envs.rows import RowEnv

Observation = Float32Array


class ABREnv(PlayerRows, RowEnv[Observation, np.int64]):
    """Choose the bitrate of each next chunk of a video that is streamed over a changing link.

    ## Description
    A player downloads a video chunk by chunk. The capacity of the link follows a recorded or
    generated trace. While a chunk downloads, the player's buffer drains, and when it is empty the
    video stalls. The dynamics are those of the chunk-level simulator of Pensieve (SIGCOMM 2017) as
    NetLLM (SIGCOMM 2024) ships it, up to rounding.

    Some of its properties are unusual. They are kept, because published results depend on them:

    - The round trip and the noise lengthen a download, but the trace does not advance meanwhile.
      `PlayerConfig(rtt_moves_clock=True)` lets it advance during the round trip.
    - A full buffer pauses the player in steps of 0.5 s. `PlayerConfig(pause_step_s=0)` pauses for
      exactly as long as needed.
    - The first row of a trace is never used, and a trace that ends continues with its second row.
    - 5 % of the capacity is taken by headers (`PlayerConfig.payload_fraction`).

    ## Action Space
    `Discrete(rungs)`: the rung of the bitrate ladder for the next chunk; 0 is the lowest bitrate.

    ## Observation Space
    `Box(0, inf, (6, max(6, rungs)), float32)`. Rows 0, 1, 2, 3 and 5 hold the last six chunks. The
    newest chunk is in the last column, and columns before the first chunk are 0.

    | row | what | unit |
    | --- | --- | --- |
    | 0 | bitrate of the chunk | share of the highest bitrate |
    | 1 | buffer after the chunk and the pause | 10 s |
    | 2 | measured throughput | MB/s (10^6 bytes/s) |
    | 3 | download time | 10 s |
    | 4 | size of the next chunk on each rung (after the last chunk: of chunk 0) | MB (10^6 bytes) |
    | 5 | chunks left | share of the video |

    ## Rewards
    The QoE of the chunk: quality - rebuffer_penalty x stall in seconds - smoothness_penalty x
    |change of quality|. The mean over an episode is the published QoE. By default it is linear in
    the bitrate: bitrate - 4.3 x stall - |change of bitrate|, in Mbit/s.

    | `qoe` | quality of a chunk | rebuffer_penalty |
    | --- | --- | --- |
    | `"linear"` | its bitrate in Mbit/s | 4.3 |
    | `"log"` | ln(bitrate / lowest bitrate) | 2.66 |
    | `"hd"` | 1, 2, 3, 12, 15, 20 on the rungs of Pensieve's ladder (no other has numbers) | 8 |
    | `"table"` | what the video states, such as VMAF, see `quality_file` | must be given |

    ## Starting State
    A trace and a row of it, drawn from the episode's seed or chosen by
    `reset(options={"trace": i, "start_pointer": p})`. With `trace` alone the published start
    pointer is used, or row 1 if there is none. `start_row` sets one row for all episodes. `reset`
    downloads chunk 0 on `first_rung`, the lowest bitrate.

    ## Episode End
    The episode terminates after the last chunk: 47 steps for a video of 48 chunks. It is never
    truncated.

    ## Information
    Floats, in each step: `qoe` (the reward), `bitrate_mbps`, `rebuffer_s` (stall),
    `smoothness_mbps` (change of bitrate), `download_s` (with round trip and noise),
    `throughput_mbps` (size / download time), `buffer_s` (after the chunk and the pause), `pause_s`,
    `size_bytes`, `chunk` (index of the chunk), `clock_s` (since the episode began: downloads and
    pauses), `startup_s` (the download time of chunk 0). `reset` has the same.

    ## Arguments
    - `traces`: name of a trace set (`"synthetic"`, `"fcc-test"`, `"clean-train"`), folder of trace
      files (`docs/formats.md`), `TraceSet` or list of `Trace`. Default: `"synthetic"`.
    - `video`: name of a video, folder of chunk sizes, DASH manifest `x.mpd` or `Video`. Default:
      `"synthetic"`.
    - `qoe`: measure of the reward, one of the names above or a `LinearQoE`. Default: `"linear"`.
    - `rebuffer_penalty`, `smoothness_penalty`: its weights. Default: those of the measure, and 1.
    - `player`: round-trip time, buffer limit and the switches above. Default: `PlayerConfig()`.
    - `rtt_s`, `buffer_cap_s`, `first_rung` and the other fields of `PlayerConfig`: replace those of
      `player`.
    - `chunk_s`, `ladder_mbps`, `quality_file`: what the files of a video folder do not say
      (`docs/formats.md`): length of a chunk, bitrates, and the qualities of the chunks.
    - `start_row`: row of the trace in which every episode begins. Default: None, see above.
    - `noise`: `(low, high)`, every download time is multiplied by a factor drawn from this range;
      True for (0.9, 1.1), False (default) for none. `noise_range` replaces it by a range.
    - `render_mode`: `"ansi"` renders the episode so far as six lines of text, `"rgb_array"` as a
      (480, 800, 3) uint8 picture (needs matplotlib, in the extra `report`): link capacity, measured
      throughput and bitrate, buffer and stalls on one time axis. There is one frame per chunk.

    ## Version History
    - v0: first release.

    Raises:
        InputError: If an argument breaks a rule; the message names it and the value.
    """

    # A frame is a chunk of some seconds, so this is faster than real time.
    metadata = {"render_modes": ["ansi", "rgb_array"], "render_fps": 4}  # noqa: RUF012
    batch: PlayerBatch

    def __init__(
        self,
        traces: TracesLike = "synthetic",
        video: str | Path | Video = "synthetic",
        qoe: QoELike | None = None,
        player: PlayerLike | None = None,
        noise: NoiseLike = False,
        render_mode: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(PlayerBatch(1, traces, video, qoe, player, noise, **options), render_mode)
        self._played: list[dict[str, Any]] = []  # infos of the episode, only if it is rendered
        self._painter: Painter | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin an episode and download chunk 0; see `RowEnv`."""
        observation, info = super().reset(seed=seed, options=options)
        if self.render_mode is not None:
            self._played = [info]
        return observation, info

    def step(self, action: np.int64 | int) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Download the next chunk on the chosen rung."""
        outcome = super().step(action)
        if self.render_mode is not None:
            self._played.append(outcome[-1])
        return outcome

    def render_text(self) -> str:
        """Return the episode so far as six lines of text."""
        return episode_text(self._scene())

    def render_frame(self) -> NDArray[np.uint8]:
        """Return (480, 800, 3) uint8 pixels of the episode so far."""
        scene = self._scene()
        trace = self.trace_set.traces[self.trace_index[0]]
        noise = self.batch.noise_factors(0, len(self._played))
        link = link_capacity(scene.playback, trace, scene.start_pointer, self.players[0], noise)
        self._painter = self._painter or Painter()
        return self._painter.paint(scene, link)

    def _scene(self) -> Scene:
        return Scene(
            playback=Playback.of(
                {key: [info[key] for info in self._played] for key in self._played[0]}
            ),
            video=self.video,
            buffer_cap_s=self.players[0].buffer_cap_s,
            trace=self.trace_set.traces[self.trace_index[0]].name,
            start_pointer=int(self.start_pointer[0]),
            top_qoe=float(self.qoe.quality_of(self.video).max()),
            qoe_unit=self.qoe.unit,
        )
