"""One ABR episode as curves over time, which pictures are drawn from.

The simulator reports numbers per chunk. Here they become curves over the seconds since the episode
began, the capacity of the link included: the trace has a clock of its own, which does not advance
during a round trip and runs more slowly under noise.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import ArrayLike

from netllm_gym.arrays import FloatArray
from netllm_gym.data.abr.traces import Trace
from netllm_gym.data.abr.video import Video
from netllm_gym.envs.abr.player import PlayerConfig
from netllm_gym.envs.curves import Line, Mark, Steps, bands, line, segments, staircase


@dataclass(frozen=True, eq=False)
class Playback:
    """One episode chunk by chunk; row 0 is the chunk that `reset` downloads."""

    qoe: FloatArray  # (T,) Mbit/s; row 0 does not count for the episode
    bitrate_mbps: FloatArray  # (T,) of the chunk
    rebuffer_s: FloatArray  # (T,) stall; in row 0 the time before playback began
    download_s: FloatArray  # (T,) from the request to the last byte
    throughput_mbps: FloatArray  # (T,) size / download time
    buffer_s: FloatArray  # (T,) after the chunk and the pause
    pause_s: FloatArray  # (T,) wait for room in the buffer, after the chunk
    clock_s: FloatArray  # (T,) end of the pause, when the next chunk is requested

    @classmethod
    def of(cls, infos: Mapping[str, ArrayLike]) -> "Playback":
        """Return the episode from (T,) columns of an environment's infos, chunk 0 first."""
        names = [field.name for field in fields(cls)]
        return cls(**{name: np.asarray(infos[name], np.float64) for name in names})

    @classmethod
    def after_reset(
        cls, infos: Mapping[str, FloatArray], video: Video, first_rung: int
    ) -> "Playback":
        """Return the episode from infos of its steps, which do not include chunk 0.

        Chunk 0 is known without them: it has the first rung, ends with the first request, and
        leaves one chunk in the buffer.
        """
        first_mbps = float(video.ladder_mbps[first_rung])
        startup_s = float(infos["clock_s"][0] - infos["pause_s"][0] - infos["download_s"][0])
        first = {
            "qoe": first_mbps,
            "bitrate_mbps": first_mbps,
            "rebuffer_s": startup_s,
            "download_s": startup_s,
            "throughput_mbps": float(video.size_bytes[0, first_rung]) * 8e-6 / startup_s,
            "buffer_s": float(video.lengths_s[0]),
            "pause_s": 0.0,
            "clock_s": startup_s,
        }
        return cls.of({name: np.concatenate([[first[name]], infos[name]]) for name in first})

    @property
    def arrival_s(self) -> FloatArray:
        """(T,) when the last byte of each chunk arrived."""
        return self.clock_s - self.pause_s

    @property
    def request_s(self) -> FloatArray:
        """(T,) when each chunk was requested."""
        return self.arrival_s - self.download_s

    @property
    def startup_s(self) -> float:
        """When playback began."""
        return float(self.arrival_s[0])

    @property
    def stalls_s(self) -> FloatArray:
        """(K, 2) begin and end of every stall after playback had begun."""
        end_s, long_s = self.arrival_s[1:], self.rebuffer_s[1:]
        return np.column_stack([end_s - long_s, end_s])[long_s > 0]

    def bitrate(self) -> Steps:
        """Return the bitrate of the chunk that downloads, or arrived last."""
        return Steps(np.concatenate([self.request_s, self.clock_s[-1:]]), self.bitrate_mbps)

    def buffer(self) -> Line:
        """Return the buffer: it drains second by second and jumps when a chunk arrives."""
        before_s = np.concatenate([[0.0], self.buffer_s[:-1]])  # (T,)
        drained_s = np.minimum(before_s, self.download_s)
        left_s = before_s - drained_s
        time_s = [self.request_s + drained_s, self.arrival_s, self.arrival_s, self.clock_s]
        value = [left_s, left_s, self.buffer_s + self.pause_s, self.buffer_s]
        line = Line(np.column_stack(time_s).ravel(), np.column_stack(value).ravel())
        return Line(np.append(0.0, line.time_s), np.append(0.0, line.value))

    def rate_marks(self, link: Steps) -> tuple[Mark, ...]:
        """Draw link capacity, measured throughput and bitrate over time."""
        return (
            staircase("link", *link, filled=True),
            *self._waiting_marks(),
            segments("measured", self.request_s, self.arrival_s, self.throughput_mbps),
            staircase("bitrate", *self.bitrate()),
        )

    def buffer_marks(self) -> tuple[Mark, ...]:
        """Draw the buffer over time."""
        return (*self._waiting_marks(), line("buffer", *self.buffer()))

    def _waiting_marks(self) -> tuple[Mark, Mark]:
        """Draw when nothing played."""
        return bands("startup", [0.0], [self.startup_s]), bands("stall", *self.stalls_s.T)


def link_capacity(
    playback: Playback,
    trace: Trace,
    start_pointer: int,
    player: PlayerConfig,
    noise: FloatArray | float = 1.0,
) -> Steps:
    """Return the capacity of the link over the seconds of the episode.

    Args:
        playback: The episode.
        trace: The link.
        start_pointer: Row of the trace in which it began.
        player: Has the round-trip time between request and first byte.
        noise: (T,) factor that each download time was multiplied by.
    """
    plain_s = playback.download_s / noise  # (T,)
    still_s = 0.0 if player.rtt_moves_clock else player.rtt_s
    parts_s = [np.full_like(plain_s, still_s), plain_s - still_s, playback.pause_s]
    moves_s = np.column_stack([np.zeros_like(plain_s), *parts_s[1:]]).ravel()  # (3 T,)
    lasts_s = np.column_stack([parts_s[0] * noise, parts_s[1] * noise, parts_s[2]]).ravel()
    episode_s = np.append(0.0, np.cumsum(lasts_s))  # (3 T + 1,) knots between the two clocks
    start_s = float(trace.time_s[start_pointer - 1])
    trace_s = start_s + np.append(0.0, np.cumsum(moves_s))
    lap_s, laps = float(trace.time_s[-1]), int(trace_s[-1] // trace.time_s[-1]) + 1
    ends_s = (np.arange(laps)[:, None] * lap_s + trace.time_s[1:]).ravel()  # of every segment
    capacity_mbps = np.tile(trace.capacity_mbps[1:], laps)
    first = int(np.searchsorted(ends_s, trace_s[0], side="right"))
    last = int(np.searchsorted(ends_s, trace_s[-1], side="left"))
    inner_s = np.interp(ends_s[first:last], trace_s, episode_s)
    return Steps(np.concatenate([[0.0], inner_s, episode_s[-1:]]), capacity_mbps[first : last + 1])
