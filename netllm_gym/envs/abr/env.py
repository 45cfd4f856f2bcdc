"""`NetLLM-ABR-v0`: the scalar face of the ABR simulator. No dynamics here; see `simulator.py`."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from netllm_gym.arrays import Float32Array, IntArray
from netllm_gym.data.abr.traces import TraceSet
from netllm_gym.data.abr.video import Video
from netllm_gym.envs.abr.batch import NoiseLike, PlayerBatch, PlayerLike, TracesLike
from netllm_gym.envs.abr.playback import Playback, link_capacity
from netllm_gym.envs.abr.player import DownloadNoise, PlayerConfig
from netllm_gym.envs.abr.qoe import LinearQoE
from netllm_gym.envs.abr.rendering import Painter, Scene, episode_text
from netllm_gym.envs.drawing import check_can_draw
from netllm_gym.envs.rows import scalar_info
from netllm_gym.errors import InputError

Observation = Float32Array


class ABREnv(gym.Env[Observation, np.int64]):
    """Choose the bitrate of each next chunk of a video that plays over a changing link.

    ## Description
    A player downloads a video chunk by chunk. The link's capacity follows a recorded or generated
    trace; while a chunk downloads, the buffer drains, and when it is empty the video stalls. The
    dynamics are those of the chunk-level simulator of Pensieve (SIGCOMM 2017) as NetLLM (SIGCOMM
    2024) ships it, to rounding.

    What looks odd there and is kept, because published numbers rest on it: the round trip and the
    noise lengthen a download but the trace stands still meanwhile (`PlayerConfig.rtt_moves_clock`
    lets it run); a full buffer pauses in steps of 0.5 s (`PlayerConfig.pause_step_s=0` pauses
    exactly); the capacity in a trace's first row is never used; 5 % of the capacity is headers
    (`PlayerConfig.payload_fraction`).

    ## Action Space
    `Discrete(rungs)`: rung of the bitrate ladder for the next chunk, 0 the lowest.

    ## Observation Space
    `Box(0, inf, (6, max(6, rungs)), float32)`. Rows 0, 1, 2, 3 and 5 hold the last six chunks,
    newest in the last column, zeros before the first chunk.

    | row | what | unit |
    | --- | --- | --- |
    | 0 | bitrate of the chunk | share of the top rung |
    | 1 | buffer after the chunk and the pause | 10 s |
    | 2 | measured throughput | MB/s (10^6 bytes) |
    | 3 | download time | 10 s |
    | 4 | sizes of the next chunk on each rung (of chunk 0 after the last) | MB |
    | 5 | chunks left | share of the video |

    ## Rewards
    Linear QoE of the chunk in Mbit/s: bitrate - 4.3 x stall in s - |change of bitrate|. The mean
    over an episode is the published QoE.

    ## Starting State
    A trace and a row in it, drawn from the episode's seed, or named by
    `reset(options={"trace": i, "start_pointer": p})`; with `trace` alone the published start
    pointer is taken, else row 1. `reset` downloads chunk 0 at the lowest rung.

    ## Episode End
    Terminates after the last chunk: 47 steps for a video of 48 chunks. Never truncates.

    ## Information
    Floats: `qoe` (this chunk's reward), `bitrate_mbps`, `rebuffer_s`, `smoothness_mbps`,
    `download_s` (with round trip and noise), `throughput_mbps` (size / download), `buffer_s`
    (after the chunk and the pause), `pause_s`, `size_bytes`, `chunk` (index just downloaded),
    `clock_s` (since the episode began: downloads and pauses). `reset` adds `startup_s`, the
    download time of chunk 0.

    ## Arguments
    - `traces`: name of a set (`"synthetic"`, `"fcc-test"`, `"clean-train"`), a folder of trace
      files (`docs/formats.md`), a `TraceSet` or a list of `Trace`.
    - `video`: name, folder of chunk sizes, DASH manifest `x.mpd`, or `Video`.
    - `qoe`: weights of the reward, `LinearQoE(rebuffer_penalty=4.3, smoothness_penalty=1.0)`.
    - `player`: round-trip time, buffer cap and the switches above, `PlayerConfig(...)`.
    - `noise`: False, True for the reference's range, or (low, high): every download time is
      multiplied by a factor drawn from it.
    - `render_mode`: `"ansi"` gives the episode so far as six lines of text, `"rgb_array"` as a
      (480, 800, 3) uint8 picture (with matplotlib, of the extra `report`): link capacity, measured
      throughput and bitrate, buffer and stalls on one time axis. One frame per chunk.

    ## Version History
    - v0: first release.

    Raises:
        InputError: If an argument breaks a rule; the message names it and the value.
    """

    # Gymnasium reads a plain class attribute; a frame is a chunk, so this is fast motion.
    metadata = {"render_modes": ["ansi", "rgb_array"], "render_fps": 4}  # noqa: RUF012
    num_envs = 1

    def __init__(
        self,
        traces: TracesLike = "synthetic",
        video: str | Path | Video = "synthetic",
        qoe: LinearQoE | None = None,
        player: PlayerLike | None = None,
        noise: NoiseLike = False,
        render_mode: str | None = None,
    ) -> None:
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise InputError(f"render_mode must be None, ansi or rgb_array, got {render_mode!r}")
        if render_mode == "rgb_array":
            check_can_draw()
        self.render_mode = render_mode
        self._played: list[dict[str, Any]] = []  # infos of the episode, only if it is rendered
        self._painter: Painter | None = None
        self.batch = PlayerBatch(1, traces, video, qoe, player, noise)
        self.observation_space = self.batch.observation_space
        self.action_space = self.batch.action_space

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
        """(1,) constants of player and link."""
        return self.batch.players

    @property
    def noises(self) -> tuple[DownloadNoise, ...]:
        """(1,) noise on the download times."""
        return self.batch.noises

    @property
    def trace_index(self) -> IntArray:
        """(1,) trace that is played now."""
        return self.batch.trace_index

    @property
    def start_pointer(self) -> IntArray:
        """(1,) trace row in which the episode began."""
        return self.batch.start_pointer

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin an episode: by seed, by `options`, or the next of the last seed's chain."""
        super().reset(seed=seed)
        if options and "reset_mask" in options:
            raise InputError("options must be trace or start_pointer, got reset_mask")
        outcome = self.batch.begin(np.ones(1, np.bool_), [seed], options, self.np_random)
        info = scalar_info(outcome)
        if self.render_mode is not None:
            self._played = [info]
        return outcome.observation[0], info

    def step(self, action: np.int64 | int) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Download the next chunk at the chosen rung."""
        if self.batch.done[0]:
            raise InputError("step must follow reset, got a step after the episode's end")
        outcome = self.batch.step(np.atleast_1d(action))
        terminated = bool(outcome.terminated[0])
        info = scalar_info(outcome)
        if self.render_mode is not None:
            self._played.append(info)
        return outcome.observation[0], info["qoe"], terminated, False, info

    def render(self) -> Any:
        """Return the episode so far as `render_mode` says: text, or (480, 800, 3) uint8."""
        if self.render_mode is None:
            gym.logger.warn(
                "render gives nothing without a render_mode: "
                'gym.make("NetLLM-ABR-v0", render_mode="rgb_array")'
            )
            return None
        if not self._played:
            raise InputError("render must follow reset, got no episode to show")
        playback = Playback.of(
            {
                key: [info[key] for info in self._played]
                for key in self._played[0]
                if key != "startup_s"  # of the first chunk alone
            }
        )
        trace, pointer = self.trace_set.traces[self.trace_index[0]], int(self.start_pointer[0])
        player = self.players[0]
        scene = Scene(playback, self.video, player.buffer_cap_s, trace.name, pointer)
        if self.render_mode == "ansi":
            return episode_text(scene)
        noise = self.batch.noise_factors(0, len(self._played))
        self._painter = self._painter or Painter()
        return self._painter.paint(scene, link_capacity(playback, trace, pointer, player, noise))
