"""The batch of players that `ABREnv` (one row) and `ABRVectorEnv` (N rows) share.

The simulator, and numba with it, is imported when the first episode begins, so `gym.make` is fast.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import fields
from functools import cache, cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import ArrayLike, NDArray

from netllm_gym.arrays import BoolArray, Float32Array, FloatArray, IntArray
from netllm_gym.data.abr.sets import load_trace_set
from netllm_gym.data.abr.traces import Trace, TraceSet, check_start_pointer
from netllm_gym.data.abr.video import (
    PENSIEVE_CHUNK_S,
    PENSIEVE_LADDER_MBPS,
    Video,
    VideoOptions,
    load_video,
)
from netllm_gym.envs.abr.observation import HISTORY, NUM_ROWS
from netllm_gym.envs.abr.player import DownloadNoise, PlayerConfig, noises_of, players_of
from netllm_gym.envs.abr.qoe import LinearQoE, qoe_of
from netllm_gym.envs.batch import Outcome, RowBatch, check_within, whole_actions
from netllm_gym.errors import InputError

MOST_ROWS = 1e9  # of a trace that one chunk takes; the compiled simulator needs some seconds
TracesLike = str | Path | TraceSet | Sequence[Trace]
QoELike = LinearQoE | str | Mapping[str, Any]
PlayerLike = PlayerConfig | Mapping[str, Any] | Sequence[PlayerConfig | Mapping[str, Any]]
NoiseLike = bool | tuple[float, float] | DownloadNoise | Sequence[DownloadNoise]


@cache
def _simulator() -> ModuleType:
    from netllm_gym.envs.abr import simulator

    return simulator


class PlayerBatch(RowBatch):
    """N players of one video over the traces of one set.

    Args:
        num_rows: N.
        traces: Set name, folder, `TraceSet` or traces.
        video: Name, folder or `Video`.
        qoe: Measure of the reward, by its name or as an object.
        player: Constants of player and link, one for all rows or one per row.
        noise: Off (False), the reference's (True: 0.9, 1.1), a range, or one per row.
        start_row: Row of its trace in which every episode begins whose `reset` names none.
        noise_range: Range of the noise, in place of `noise`.
        options: Fields of `VideoOptions`, of `PlayerConfig` and of `LinearQoE`, by which a case
            differs from what `video`, `player` and `qoe` say; None has no effect.
    """

    option_names = ("trace", "start_pointer")

    def __init__(
        self,
        num_rows: int,
        traces: TracesLike,
        video: str | Path | Video,
        qoe: QoELike | None,
        player: PlayerLike | None,
        noise: NoiseLike,
        start_row: int | None = None,
        noise_range: Sequence[float] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(num_rows)
        of_video, of_player, of_qoe = (
            {each.name: options.pop(each.name) for each in fields(kind) if each.name in options}
            for kind in (VideoOptions, PlayerConfig, LinearQoE)
        )
        if options:  # as Python says it of any function
            raise TypeError(f"got an unexpected keyword argument '{next(iter(options))}'")
        self.trace_set = load_trace_set(traces)
        video_options = VideoOptions(**of_video)
        self.qoe = qoe_of(qoe, of_qoe)
        if self.qoe.kind != "table":
            why = f"the qoe {self.qoe.kind}, which does not use it (table does)"
            video_options.refuse("quality_file", why=why)
        self.video = load_video(video, video_options)
        self.players = players_of(player, of_player, num_rows)
        self.noises = noises_of(noise, noise_range, num_rows)
        self.start_row = start_row
        self._check()
        width = max(HISTORY, self.video.num_rungs)
        self.observation_space = spaces.Box(0.0, np.inf, (NUM_ROWS, width), np.float32)
        self.action_space = spaces.Discrete(self.video.num_rungs)
        self._observation = np.zeros((num_rows, NUM_ROWS, width), np.float32)
        self._startup_s = np.full(num_rows, np.nan)

    def _check(self) -> None:
        """Refuse parts that do not fit each other."""
        self.qoe.quality_of(self.video)
        for config in set(self.players):
            if config.buffer_cap_s < self.video.longest_s:
                raise InputError(
                    f"buffer_cap_s must hold one chunk of {self.video.longest_s} s, "
                    f"got {config.buffer_cap_s}, or chunk_s is not in seconds"
                )
            if config.first_rung >= self.video.num_rungs:
                raise InputError(
                    f"first_rung must be a rung of the ladder, in 0..{self.video.num_rungs - 1}, "
                    f"got {config.first_rung}"
                )
        self._check_times()
        if self.start_row is None:
            return
        if not isinstance(self.start_row, int | np.integer) or isinstance(self.start_row, bool):
            raise InputError(f"start_row must be a whole number, got {self.start_row!r}")
        for trace in self.trace_set.traces:
            last = len(trace.time_s) - 1
            if not 1 <= self.start_row <= last:
                raise InputError(
                    f"start_row must be in 1..{last} for trace {trace.name}, got {self.start_row}"
                )

    def _check_times(self) -> None:
        """Refuse a trace that one chunk passes through almost without end: nothing stops that."""
        largest_mb = float(self.video.size_bytes.max()) / 1e6
        least_share = min(config.payload_fraction for config in self.players)
        longest_s = self.video.longest_s + max(
            config.rtt_s + config.pause_step_s for config in self.players
        )
        for trace in self.trace_set.traces:
            pass_mb = float(np.diff(trace.time_s) @ trace.capacity_mbps[1:]) / 8.0 * least_share
            pass_s = float(trace.time_s[-1] - trace.time_s[0])
            rows = len(trace.time_s) * max(largest_mb / pass_mb, longest_s / pass_s)
            if rows > MOST_ROWS:
                place = f"trace {trace.name}" if trace.path is None else str(trace.path)
                raise InputError(
                    f"{place} must carry the largest chunk, {largest_mb:,.0f} MB, and "
                    f"last for the longest pause within {MOST_ROWS:.0e} of its rows, got {rows:.1e}"
                )

    @property
    def unusual(self) -> dict[str, str]:
        """Say in which options of the case, apart from data, these episodes are not the default."""
        found = dict(self.qoe.unusual)
        if self.qoe.kind == "table":
            table = self.qoe.quality_of(self.video)
            found["quality_file"] = f"sha256 {hashlib.sha256(table.tobytes()).hexdigest()[:12]}"
        if len(set(self.players)) == 1:
            found |= self.players[0].unusual
        if len(set(self.noises)) == 1:
            found |= self.noises[0].unusual
        video = self.video
        if not np.array_equal(video.ladder_mbps, PENSIEVE_LADDER_MBPS):
            found["ladder_mbps"] = ",".join(f"{each:g}" for each in video.ladder_mbps)
        if (video.lengths_s != PENSIEVE_CHUNK_S).any():
            low, high = video.lengths_s.min(), video.lengths_s.max()
            found["chunk_s"] = f"{low:g}" if low == high else f"{low:g} to {high:g}"
        if self.start_row is not None:
            found["start_row"] = str(self.start_row)
        return found

    @cached_property
    def _arrays(self) -> tuple[Any, ...]:
        return tuple(_simulator().pack_arrays(self.trace_set.traces, self.video, self.qoe))

    @cached_property
    def _packed_players(self) -> NDArray[np.void]:
        packed: NDArray[np.void] = _simulator().pack_players(self.players, self.noises)
        return packed

    @cached_property
    def rows(self) -> NDArray[np.void]:
        """(N,) state of the players, `ROW` of the simulator."""
        rows: NDArray[np.void] = _simulator().new_rows(self.num_rows)
        return rows

    @property
    def trace_index(self) -> IntArray:
        """(N,) trace that each row plays now."""
        return np.array(self.rows["trace"])

    @property
    def start_pointer(self) -> IntArray:
        """(N,) trace row in which each row's episode began."""
        return np.array(self.rows["start_pointer"])

    @property
    def done(self) -> BoolArray:
        """(N,) whether each row's episode is over, or has not begun."""
        return np.array(self.rows["done"])

    def stop(self, rows: BoolArray) -> None:
        """End the episodes of some rows before their time; see `RowBatch`."""
        self.rows["done"][rows] = True

    def stand_as(self, other: "PlayerBatch", rows: IntArray) -> Float32Array:
        """Copy the state of rows of another batch, which has the same traces, video and players.

        Args:
            other: Its episodes have begun; it is not changed.
            rows: (N,) row of the other batch for each row of this one.

        Returns:
            (N, 6, W) what the rows see.
        """
        self.rows[:] = other.rows[rows]
        self.keys[:] = other.keys[rows]
        self._startup_s[:] = other._startup_s[rows]
        self._observation[:] = other._observation[rows]
        return self._observation.copy()

    def begin(
        self,
        begins: BoolArray,
        seeds: Sequence[int | None],
        options: Mapping[str, Any] | None,
        generator: np.random.Generator,
    ) -> Outcome:
        """Begin an episode in some rows; see `RowBatch`."""
        trace, pointer = self._chosen_episodes(options or {})
        self.renew_keys(begins, seeds, generator)
        self.rows["key"][begins] = self.keys[begins]
        self.rows["trace"][begins] = trace[begins]
        self.rows["start_pointer"][begins] = pointer[begins]
        info = np.zeros(self.num_rows, _simulator().INFO)
        _simulator().begin_rows(
            self._arrays, self._packed_players, self.rows, begins, self._observation, info
        )
        self._startup_s[begins] = info["download_s"][begins]
        return self._outcome(info)._replace(reward=np.zeros(self.num_rows))

    def step(self, actions: ArrayLike) -> Outcome:
        """Download the next chunk of every row that is not done; see `RowBatch`."""
        rungs = whole_actions(actions, (self.num_rows,))
        check_within("action must be a rung in", rungs, 0, self.video.num_rungs - 1)
        info = np.zeros(self.num_rows, _simulator().INFO)
        _simulator().step_rows(
            self._arrays, self._packed_players, self.rows, rungs, self._observation, info
        )
        return self._outcome(info)

    def noise_factors(self, row: int, num_chunks: int) -> FloatArray:
        """Return (num_chunks,) what a row's download times were multiplied by, chunk 0 first."""
        key, noise = self.rows["key"][row], self.noises[row]
        return np.asarray(_simulator().noise_factors(key, noise, num_chunks), np.float64)

    def _outcome(self, info: NDArray[np.void]) -> Outcome:
        return Outcome(
            observation=self._observation.copy(),
            reward=info["qoe"].copy(),
            terminated=np.array(self.rows["done"]),
            truncated=np.zeros(self.num_rows, np.bool_),
            info={
                **{name: info[name] for name in info.dtype.names or ()},
                "startup_s": self._startup_s.copy(),
            },
        )

    def first_row(self, trace: int) -> int:
        """Return the row of a trace in which its episode begins if nothing else is asked for."""
        return self.trace_set.start_pointer(trace) if self.start_row is None else self.start_row

    def _chosen_episodes(self, options: Mapping[str, Any]) -> tuple[IntArray, IntArray]:
        """Return (N,) trace and start pointer from reset's options; -1 lets the kernel draw."""
        self.check_options(options)
        drawn = np.full(self.num_rows, -1, np.int64)
        if "trace" not in options:
            if "start_pointer" in options:
                raise InputError("start_pointer must come with trace, got start_pointer alone")
            return drawn, drawn if self.start_row is None else np.full_like(drawn, self.start_row)
        last = len(self.trace_set.traces) - 1
        trace = self.whole_per_row("trace", options["trace"], 0, last)
        if "start_pointer" not in options:
            return trace, np.array([self.first_row(int(index)) for index in trace], np.int64)
        pointer = self.whole_per_row("start_pointer", options["start_pointer"])
        for index, start in zip(trace, pointer, strict=True):
            check_start_pointer(int(start), self.trace_set.traces[index])
        return trace, pointer


class PlayerRows:
    """What both ABR environments say of their batch."""

    batch: PlayerBatch

    @property
    def unusual(self) -> dict[str, str]:
        """In which options of the case, apart from data, the episodes are not the default."""
        return self.batch.unusual

    @property
    def remarks(self) -> tuple[str, ...]:
        """What was assumed, inferred or left out when the data were read, a sentence each."""
        return (*self.trace_set.remarks, *self.video.remarks)

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
    def trace_index(self) -> IntArray:
        """(N,) trace that each row plays now."""
        return self.batch.trace_index

    @property
    def start_pointer(self) -> IntArray:
        """(N,) trace row in which each row's episode began."""
        return self.batch.start_pointer
