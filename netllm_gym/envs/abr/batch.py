"""A batch of players and what Gymnasium needs to know of it: one body under two faces.

`ABREnv` is a batch of one and `ABRVectorEnv` a batch of N over the same class, hence the same
kernel, the same draws and the same checks. The kernel (and numba with it) is imported when the
first episode begins, so that `gym.make` stays light.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar, cast

import numpy as np
from gymnasium import spaces
from numpy.typing import ArrayLike

from netllm_gym.arrays import BoolArray, Float32Array, FloatArray, IntArray
from netllm_gym.data.abr.sets import load_trace_set
from netllm_gym.data.abr.traces import Trace, TraceSet, check_start_pointer
from netllm_gym.data.abr.video import Video, load_video
from netllm_gym.envs.abr.observation import HISTORY, NUM_ROWS
from netllm_gym.envs.abr.player import DownloadNoise, PlayerConfig
from netllm_gym.envs.abr.qoe import LinearQoE
from netllm_gym.envs.rows import Outcome, keys_of, next_keys
from netllm_gym.errors import InputError
from netllm_gym.randomness import keys_of_seeds

T = TypeVar("T")
TracesLike = str | Path | TraceSet | Sequence[Trace]
PlayerLike = PlayerConfig | Sequence[PlayerConfig]
NoiseLike = bool | tuple[float, float] | DownloadNoise | Sequence[DownloadNoise]


class PlayerBatch:
    """N players of one video over the traces of one set.

    Args:
        num_rows: N.
        traces: Set name, folder, `TraceSet` or traces.
        video: Name, folder or `Video`.
        qoe: Weights of the reward.
        player: Constants of player and link, one for all rows or one per row.
        noise: Off (False), the reference's (True: 0.9, 1.1), a range, or one per row.
    """

    def __init__(
        self,
        num_rows: int,
        traces: TracesLike,
        video: str | Path | Video,
        qoe: LinearQoE | None,
        player: PlayerLike | None,
        noise: NoiseLike,
    ) -> None:
        if num_rows < 1:
            raise InputError(f"num_envs must be at least 1, got {num_rows}")
        self.num_rows = num_rows
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
        self._simulator: ModuleType | None = None

    def _simulate(self) -> ModuleType:
        if self._simulator is None:
            from netllm_gym.envs.abr import simulator

            self._simulator = simulator
            self._world = simulator.pack_arrays(self.trace_set.traces, self.video, self.qoe)
            self._packed_players = simulator.pack_players(self.players, self.noises)
            self.rows = simulator.new_rows(self.num_rows)
        return self._simulator

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        state["_simulator"] = self._simulator is not None  # a module cannot be copied
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        started = state.pop("_simulator")
        self.__dict__.update(state)
        self._simulator = None
        if started:
            from netllm_gym.envs.abr import simulator

            self._simulator = simulator

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
        self._simulate()
        return np.array(self.rows["done"])

    def stand_as(self, other: "PlayerBatch", rows: IntArray) -> Float32Array:
        """Let each row stand where a row of another batch of the same world and player stands.

        Args:
            other: Whose episodes have begun; it is not changed.
            rows: (N,) of the other batch.

        Returns:
            (N, 6, W) what the rows see.
        """
        self._simulate()
        self.rows[:] = other.rows[rows]
        self._observation[:] = other._observation[rows]
        return self._observation.copy()

    def begin(
        self,
        begins: BoolArray,  # (N,)
        seeds: Sequence[int | None],  # (N,) None goes on with the row's own chain of episodes
        options: Mapping[str, Any] | None,
        generator: np.random.Generator,  # for rows that never had a seed
    ) -> Outcome:
        """Begin an episode in some rows; the others stand still."""
        simulator = self._simulate()
        trace, pointer = self._chosen_episodes(options or {})
        self._renew_keys(begins, seeds, generator)
        info = np.zeros((self.num_rows, len(simulator.INFO_KEYS)))
        simulator.begin_rows(
            *(*self._world, self._packed_players, self.rows, begins, trace, pointer),
            *(self._observation, info),
        )
        outcome = self._outcome(info)
        outcome = outcome._replace(reward=np.zeros(self.num_rows))
        startup_s = np.where(begins, outcome.info["download_s"], 0.0)
        return outcome._replace(
            info={**outcome.info, "startup_s": startup_s}, where={"startup_s": begins}
        )

    def step(self, actions: ArrayLike) -> Outcome:
        """Download the next chunk of every row that is not done; the others stand still."""
        simulator = self._simulate()
        actions = np.asarray(actions)
        if actions.shape != (self.num_rows,) or actions.dtype.kind not in "iu":
            raise InputError(
                f"actions must be {self.num_rows} whole numbers, "
                f"got shape {actions.shape} of {actions.dtype}"
            )
        if actions.min() < 0 or actions.max() >= self.video.num_rungs:
            wrong = actions[(actions < 0) | (actions >= self.video.num_rungs)][0]
            raise InputError(f"action must be a rung in 0..{self.video.num_rungs - 1}, got {wrong}")
        info = np.zeros((self.num_rows, len(simulator.INFO_KEYS)))
        simulator.step_rows(
            *(*self._world, self._packed_players, self.rows, actions.astype(np.int64)),
            *(self._observation, info),
        )
        return self._outcome(info)

    def noise_factors(self, row: int, num_chunks: int) -> FloatArray:
        """Return (num_chunks,) what a row's download times were multiplied by, chunk 0 first."""
        factors = self._simulate().noise_factors(
            self.rows["key"][row], self.noises[row], num_chunks
        )
        return np.asarray(factors, np.float64)

    def _outcome(self, info: FloatArray) -> Outcome:
        names = self._simulate().INFO_KEYS
        return Outcome(
            observation=self._observation.copy(),
            reward=info[:, names.index("qoe")].copy(),
            terminated=np.array(self.rows["done"]),
            truncated=np.zeros(self.num_rows, np.bool_),
            info={name: info[:, place] for place, name in enumerate(names)},
        )

    def _chosen_episodes(self, options: Mapping[str, Any]) -> tuple[IntArray, IntArray]:
        """Return (N,) trace and start pointer from reset's options; -1 lets the kernel draw."""
        unknown = sorted(set(options) - {"trace", "start_pointer", "reset_mask"})
        if unknown:
            raise InputError(
                f"options must be trace, start_pointer or reset_mask, got {unknown[0]}"
            )
        drawn = np.full(self.num_rows, -1, np.int64)
        if "trace" not in options:
            if "start_pointer" in options:
                raise InputError("start_pointer must come with trace, got start_pointer alone")
            return drawn, drawn
        trace = self._whole_per_row("trace", options["trace"])
        for index in trace:
            if not 0 <= index < len(self.trace_set.traces):
                raise InputError(
                    f"trace must be in 0..{len(self.trace_set.traces) - 1}, got {index}"
                )
        if "start_pointer" not in options:
            published = [self.trace_set.start_pointer(int(index)) for index in trace]
            return trace, np.array(published, np.int64)
        pointer = self._whole_per_row("start_pointer", options["start_pointer"])
        for index, start in zip(trace, pointer, strict=True):
            check_start_pointer(int(start), self.trace_set.traces[index])
        return trace, pointer

    def _whole_per_row(self, name: str, value: ArrayLike) -> IntArray:
        numbers = np.asarray(value)
        if numbers.dtype.kind not in "iu" or numbers.shape not in ((), (self.num_rows,)):
            raise InputError(
                f"{name} must be one whole number or one per row, {self.num_rows} in all, "
                f"got {value!r}"
            )
        return np.broadcast_to(numbers.astype(np.int64), self.num_rows)

    def _renew_keys(
        self,
        begins: BoolArray,
        seeds: Sequence[int | None],
        generator: np.random.Generator,
    ) -> None:
        key = self.rows["key"]  # (N,) a view
        fresh = begins & (key == 0)
        if fresh.any():
            drawn = generator.integers(0, 2**31, self.num_rows)
            key[fresh] = keys_of_seeds(drawn)[fresh]
        seeded = np.array([seed is not None for seed in seeds])
        continues = begins & ~seeded & ~fresh
        if continues.any():
            key[continues] = next_keys(key[continues])
        named = begins & seeded
        if named.any():
            key[named] = keys_of(seeds)[named]


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
