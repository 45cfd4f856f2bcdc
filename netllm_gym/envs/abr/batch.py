"""The batch of players that `ABREnv` (one row) and `ABRVectorEnv` (N rows) share.

The simulator, and numba with it, is imported when the first episode begins, so `gym.make` is fast.
"""

from collections.abc import Mapping, Sequence
from functools import cache, cached_property
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar, cast

import numpy as np
from gymnasium import spaces
from numpy.typing import ArrayLike, NDArray

from netllm_gym.arrays import BoolArray, Float32Array, FloatArray, IntArray
from netllm_gym.data.abr.sets import load_trace_set
from netllm_gym.data.abr.traces import Trace, TraceSet, check_start_pointer
from netllm_gym.data.abr.video import Video, load_video
from netllm_gym.envs.abr.observation import HISTORY, NUM_ROWS
from netllm_gym.envs.abr.player import DownloadNoise, PlayerConfig
from netllm_gym.envs.abr.qoe import LinearQoE
from netllm_gym.envs.batch import Outcome, RowBatch, check_within, whole_actions
from netllm_gym.errors import InputError

T = TypeVar("T")
TracesLike = str | Path | TraceSet | Sequence[Trace]
PlayerLike = PlayerConfig | Sequence[PlayerConfig]
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
        qoe: Weights of the reward.
        player: Constants of player and link, one for all rows or one per row.
        noise: Off (False), the reference's (True: 0.9, 1.1), a range, or one per row.
    """

    option_names = ("trace", "start_pointer")

    def __init__(
        self,
        num_rows: int,
        traces: TracesLike,
        video: str | Path | Video,
        qoe: LinearQoE | None,
        player: PlayerLike | None,
        noise: NoiseLike,
    ) -> None:
        super().__init__(num_rows)
        self.trace_set = load_trace_set(traces)
        self.video = load_video(video)
        if not isinstance(qoe, LinearQoE | None):
            raise InputError(f"qoe must be a LinearQoE, got {qoe!r}")
        self.qoe = LinearQoE() if qoe is None else qoe
        self.players = _per_row("player", player or PlayerConfig(), PlayerConfig, num_rows)
        self.noises = _per_row("noise", _noise(noise), DownloadNoise, num_rows)
        for config in self.players:
            if config.buffer_cap_s < self.video.chunk_s:
                raise InputError(
                    f"buffer_cap_s must hold one chunk of {self.video.chunk_s} s, "
                    f"got {config.buffer_cap_s}"
                )
        width = max(HISTORY, self.video.num_rungs)
        self.observation_space = spaces.Box(0.0, np.inf, (NUM_ROWS, width), np.float32)
        self.action_space = spaces.Discrete(self.video.num_rungs)
        self._observation = np.zeros((num_rows, NUM_ROWS, width), np.float32)

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
        outcome = self._outcome(info)
        startup_s = np.where(begins, outcome.info["download_s"], 0.0)
        return outcome._replace(
            reward=np.zeros(self.num_rows),
            info={**outcome.info, "startup_s": startup_s},
            where={"startup_s": begins},
        )

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
            info={name: info[name] for name in info.dtype.names or ()},
        )

    def _chosen_episodes(self, options: Mapping[str, Any]) -> tuple[IntArray, IntArray]:
        """Return (N,) trace and start pointer from reset's options; -1 lets the kernel draw."""
        self.check_options(options)
        drawn = np.full(self.num_rows, -1, np.int64)
        if "trace" not in options:
            if "start_pointer" in options:
                raise InputError("start_pointer must come with trace, got start_pointer alone")
            return drawn, drawn
        last = len(self.trace_set.traces) - 1
        trace = self.whole_per_row("trace", options["trace"], 0, last)
        if "start_pointer" not in options:
            published = [self.trace_set.start_pointer(int(index)) for index in trace]
            return trace, np.array(published, np.int64)
        pointer = self.whole_per_row("start_pointer", options["start_pointer"])
        for index, start in zip(trace, pointer, strict=True):
            check_start_pointer(int(start), self.trace_set.traces[index])
        return trace, pointer


class PlayerRows:
    """What both ABR environments say of their batch."""

    batch: PlayerBatch

    @property
    def remarks(self) -> tuple[str, ...]:
        """What was assumed or left out when the data were read, a sentence each."""
        return self.trace_set.remarks

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


def _noise(noise: NoiseLike) -> DownloadNoise | Sequence[DownloadNoise]:
    if noise is True:
        return DownloadNoise(0.9, 1.1)
    if noise is False:
        return DownloadNoise()
    if isinstance(noise, tuple) and len(noise) == 2 and not isinstance(noise[0], DownloadNoise):
        return DownloadNoise(float(noise[0]), float(noise[1]))
    if not isinstance(noise, DownloadNoise | list | tuple):
        raise InputError(f"noise must be True, False or (low, high), got {noise!r}")
    return cast(Sequence[DownloadNoise], noise)  # checked row by row


def _per_row(name: str, value: T | Sequence[T], kind: type[T], num_rows: int) -> tuple[T, ...]:
    if isinstance(value, kind):
        return (value,) * num_rows
    rows = tuple(value) if isinstance(value, Sequence) else ()
    if len(rows) != num_rows or not all(isinstance(row, kind) for row in rows):
        raise InputError(
            f"{name} must be one {kind.__name__} or one per row, {num_rows} in all, got {value!r}"
        )
    return rows
