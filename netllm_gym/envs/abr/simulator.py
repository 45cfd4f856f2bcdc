"""The ABR simulator: one numba kernel under the scalar and the vector environment.

A player downloads a video chunk by chunk over a link whose capacity follows a trace. Every
row of the arrays is one player; rows know nothing of each other, and every random number is keyed
by the row's episode, so a batch of one and a batch of a thousand play the same episodes.

Units: seconds, bytes, bytes/s inside the link (packed from Mbit/s once), Mbit/s for bitrates.

Source: the chunk-level simulator of Pensieve (SIGCOMM 2017) as NetLLM ships it, `spec/abr.md`
section 2. What looks odd there and shapes results is kept: row 0 of a trace is never used, the
trace wraps to its second row, the round trip and the noise lengthen a download without moving the
trace clock, a full buffer pauses in steps of half a second.
Differs: the pause that is reported is the whole pause (the reference reports its last segment);
times are in seconds (the reference's are in milliseconds), so values agree to rounding only.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from netllm_gym import randomness
from netllm_gym.envs.abr.batch import HISTORY
from netllm_gym.envs.abr.player import DownloadNoise, PlayerConfig
from netllm_gym.envs.abr.qoe import LinearQoE, chunk_qoe
from netllm_gym.envs.abr.traces import Trace
from netllm_gym.envs.abr.video import Video

INFO_KEYS = (
    *("qoe", "bitrate_mbps", "rebuffer_s", "smoothness_mbps", "download_s", "throughput_mbps"),
    *("buffer_s", "pause_s", "size_bytes", "chunk", "clock_s"),
)
# Draws of an episode's key: which trace, where in it, then the noise of chunk n at NOISE_DRAW + n.
TRACE_DRAW, POINTER_DRAW, NOISE_DRAW = np.uint64(1), np.uint64(2), np.uint64(3)

_jit = numba.njit(cache=True, inline="always")
_mix64, _to_unit, _chunk_qoe = _jit(randomness.mix64), _jit(randomness.to_unit), _jit(chunk_qoe)
_GAMMA = randomness.GAMMA


class World(NamedTuple):
    """What all rows share: traces, video, weights. Made by `pack_world`."""

    time_s: NDArray[np.float64]  # (all rows of all traces,)
    rate: NDArray[np.float64]  # (same,) bytes/s, holds until time_s of the same row
    offset: NDArray[np.int64]  # (traces + 1,) where each trace begins
    size_bytes: NDArray[np.float64]  # (chunks, rungs)
    ladder_mbps: NDArray[np.float64]  # (rungs,)
    chunk_s: float
    rebuffer_penalty: float
    smoothness_penalty: float


class Players(NamedTuple):
    """Constants of each row's player and link, (N,) each. Made by `pack_players`."""

    rtt_s: NDArray[np.float64]
    buffer_cap_s: NDArray[np.float64]
    pause_step_s: NDArray[np.float64]
    payload_fraction: NDArray[np.float64]
    rtt_moves_clock: NDArray[np.bool_]
    noise_low: NDArray[np.float64]
    noise_high: NDArray[np.float64]


class Rows(NamedTuple):
    """Everything the next download of each row depends on, (N,) each, changed in place."""

    key: NDArray[np.uint64]  # of the episode: the source of its random numbers
    trace: NDArray[np.int64]
    start_pointer: NDArray[np.int64]
    pointer: NDArray[np.int64]  # trace row whose capacity holds now
    trace_s: NDArray[np.float64]  # position in the trace
    buffer_s: NDArray[np.float64]
    clock_s: NDArray[np.float64]  # since the episode began
    chunk: NDArray[np.int64]  # chunks downloaded so far
    rung: NDArray[np.int64]  # of the last chunk
    done: NDArray[np.bool_]


def pack_world(traces: Sequence[Trace], video: Video, qoe: LinearQoE) -> World:
    """Lay traces end to end and convert Mbit/s to bytes/s, once."""
    rows = [len(trace.time_s) for trace in traces]
    return World(
        time_s=np.concatenate([trace.time_s for trace in traces]),
        rate=np.concatenate([trace.capacity_mbps for trace in traces]) * 1_000_000.0 / 8.0,
        offset=np.concatenate([[0], np.cumsum(rows)]).astype(np.int64),
        size_bytes=video.size_bytes[: video.num_chunks].astype(np.float64),
        ladder_mbps=video.ladder_mbps,
        chunk_s=video.chunk_s,
        rebuffer_penalty=qoe.rebuffer_penalty,
        smoothness_penalty=qoe.smoothness_penalty,
    )


def pack_players(players: Sequence[PlayerConfig], noises: Sequence[DownloadNoise]) -> Players:
    """Lay the constants of N players out as arrays."""

    def column(values: list[float]) -> NDArray[np.float64]:
        return np.array(values, np.float64)

    return Players(
        rtt_s=column([player.rtt_s for player in players]),
        buffer_cap_s=column([player.buffer_cap_s for player in players]),
        pause_step_s=column([player.pause_step_s for player in players]),
        payload_fraction=column([player.payload_fraction for player in players]),
        rtt_moves_clock=np.array([player.rtt_moves_clock for player in players], np.bool_),
        noise_low=column([noise.low for noise in noises]),
        noise_high=column([noise.high for noise in noises]),
    )


def new_rows(num_rows: int) -> Rows:
    """Return N rows that have not begun an episode."""
    whole, real = np.int64, np.float64
    return Rows(
        key=np.zeros(num_rows, np.uint64),
        trace=np.zeros(num_rows, whole),
        start_pointer=np.zeros(num_rows, whole),
        pointer=np.zeros(num_rows, whole),
        trace_s=np.zeros(num_rows, real),
        buffer_s=np.zeros(num_rows, real),
        clock_s=np.zeros(num_rows, real),
        chunk=np.zeros(num_rows, whole),
        rung=np.zeros(num_rows, whole),
        done=np.ones(num_rows, np.bool_),
    )


@_jit
def carry(time_s, rate, first, end, pointer, trace_s, size_bytes, payload_fraction):  # type: ignore[no-untyped-def]
    """Send `size_bytes` over the trace in rows [first, end); return seconds and new position."""
    seconds, sent = 0.0, 0.0
    while True:
        span = time_s[pointer] - trace_s
        payload = rate[pointer] * span * payload_fraction
        if sent + payload > size_bytes:
            last = (size_bytes - sent) / rate[pointer] / payload_fraction
            return seconds + last, pointer, trace_s + last
        sent += payload
        seconds += span
        trace_s = time_s[pointer]
        pointer += 1
        if pointer >= end:
            pointer, trace_s = first + 1, 0.0


@_jit
def wait(time_s, first, end, pointer, trace_s, pause_s):  # type: ignore[no-untyped-def]
    """Let the trace run on for `pause_s` without sending; return the new position."""
    while True:
        span = time_s[pointer] - trace_s
        if span > pause_s:
            return pointer, trace_s + pause_s
        pause_s -= span
        trace_s = time_s[pointer]
        pointer += 1
        if pointer >= end:
            pointer, trace_s = first + 1, 0.0


@_jit
def pause_for(buffer_s, buffer_cap_s, pause_step_s):  # type: ignore[no-untyped-def]
    """Return how long a player with this buffer pauses before its next request."""
    excess_s = buffer_s - buffer_cap_s
    if excess_s <= 0.0:
        return 0.0
    if pause_step_s == 0.0:
        return excess_s
    return math.ceil(excess_s / pause_step_s) * pause_step_s


@_jit
def _unit(key, draw):  # type: ignore[no-untyped-def]
    return _to_unit(_mix64(key + draw * _GAMMA))


@_jit
def _download(world, players, rows, i, rung, before, observation, reward, info):  # type: ignore[no-untyped-def]
    """Download row i's next chunk; write its observation, reward and info column."""
    first, end = world.offset[rows.trace[i]], world.offset[rows.trace[i] + 1]
    chunk = rows.chunk[i]
    size_bytes = world.size_bytes[chunk, rung]
    payload_fraction = players.payload_fraction[i]
    pointer, trace_s = rows.pointer[i], rows.trace_s[i]
    if players.rtt_moves_clock[i]:
        pointer, trace_s = wait(world.time_s, first, end, pointer, trace_s, players.rtt_s[i])
    download_s, pointer, trace_s = carry(
        world.time_s, world.rate, first, end, pointer, trace_s, size_bytes, payload_fraction
    )
    download_s += players.rtt_s[i]
    low, high = players.noise_low[i], players.noise_high[i]
    if low != 1.0 or high != 1.0:
        download_s *= low + (high - low) * _unit(rows.key[i], NOISE_DRAW + np.uint64(chunk))
    rebuffer_s = max(download_s - rows.buffer_s[i], 0.0)
    buffer_s = max(rows.buffer_s[i] - download_s, 0.0) + world.chunk_s
    pause_s = pause_for(buffer_s, players.buffer_cap_s[i], players.pause_step_s[i])
    if pause_s > 0.0:
        buffer_s -= pause_s
        pointer, trace_s = wait(world.time_s, first, end, pointer, trace_s, pause_s)

    bitrate_mbps, last_mbps = world.ladder_mbps[rung], world.ladder_mbps[rows.rung[i]]
    qoe = _chunk_qoe(
        bitrate_mbps, last_mbps, rebuffer_s, world.rebuffer_penalty, world.smoothness_penalty
    )
    num_chunks, num_rungs = world.size_bytes.shape
    rows.pointer[i], rows.trace_s[i], rows.buffer_s[i] = pointer, trace_s, buffer_s
    rows.clock_s[i] += download_s + pause_s
    rows.chunk[i], rows.rung[i] = chunk + 1, rung
    rows.done[i] = chunk + 1 == num_chunks

    newest = observation.shape[2] - 1
    for row in range(6):
        for column in range(newest):
            observation[i, row, column] = before[i, row, column + 1]
    observation[i, 0, newest] = bitrate_mbps / world.ladder_mbps[num_rungs - 1]
    observation[i, 1, newest] = buffer_s / 10.0
    observation[i, 2, newest] = size_bytes / download_s / 1e6
    observation[i, 3, newest] = download_s / 10.0
    next_chunk = 0 if rows.done[i] else chunk + 1  # after the last chunk the first one's sizes show
    for column in range(newest + 1):
        in_ladder = column < num_rungs
        observation[i, 4, column] = world.size_bytes[next_chunk, column] / 1e6 if in_ladder else 0.0
    observation[i, 5, newest] = (num_chunks - chunk - 1) / num_chunks
    for row in range(6):  # history is six chunks long, however wide the ladder makes the matrix
        if row != 4:
            for column in range(newest + 1 - HISTORY):
                observation[i, row, column] = 0.0

    reward[i] = qoe
    info[0, i] = qoe
    info[1, i] = bitrate_mbps
    info[2, i] = rebuffer_s
    info[3, i] = abs(bitrate_mbps - last_mbps)
    info[4, i] = download_s
    info[5, i] = size_bytes * 8e-6 / download_s
    info[6, i] = buffer_s
    info[7, i] = pause_s
    info[8, i] = size_bytes
    info[9, i] = chunk
    info[10, i] = rows.clock_s[i]


@numba.njit(cache=True)
def step_rows(world, players, rows, actions, before, observation, reward, info):  # type: ignore[no-untyped-def]
    """Download one chunk in every row that is not done; done rows stand still, reward 0.

    Args:
        world: What all rows share.
        players: Constants of each row.
        rows: State of each row, changed in place.
        actions: (N,) rung of each row's next chunk.
        before: (N, 6, W) last observation.
        observation: (N, 6, W) written.
        reward: (N,) written.
        info: (11, N) written, in the order of `INFO_KEYS`.
    """
    for i in range(len(actions)):
        if rows.done[i]:
            observation[i] = before[i]
            reward[i] = 0.0
            info[:, i] = 0.0
        else:
            _download(world, players, rows, i, actions[i], before, observation, reward, info)


@numba.njit(cache=True)
def begin_rows(world, players, rows, begins, trace, start_pointer, observation, reward, info):  # type: ignore[no-untyped-def]
    """Begin an episode in the rows of `begins` and download its first chunk at the lowest rung.

    Args:
        world: What all rows share.
        players: Constants of each row.
        rows: State of each row, changed in place; `rows.key` is set by the caller.
        begins: (N,) bool.
        trace: (N,) index of the trace, or -1 to draw one.
        start_pointer: (N,) trace row to start in, or -1 to draw one.
        observation: (N, 6, W) written where an episode begins; reward and info likewise.
        reward: (N,) set to 0: the first chunk is not the policy's doing.
        info: (11, N).
    """
    for i in range(len(begins)):
        if not begins[i]:
            continue
        key = rows.key[i]
        if trace[i] >= 0:
            rows.trace[i] = trace[i]
        else:
            rows.trace[i] = int(_unit(key, TRACE_DRAW) * (len(world.offset) - 1))
        first, end = world.offset[rows.trace[i]], world.offset[rows.trace[i] + 1]
        if start_pointer[i] >= 1:
            pointer = start_pointer[i]
        else:
            pointer = 1 + int(_unit(key, POINTER_DRAW) * (end - first - 1))
        rows.start_pointer[i] = pointer
        rows.pointer[i] = first + pointer
        rows.trace_s[i] = world.time_s[first + pointer - 1]
        rows.buffer_s[i] = 0.0
        rows.clock_s[i] = 0.0
        rows.chunk[i] = 0
        rows.rung[i] = 0
        observation[i] = 0.0
        _download(world, players, rows, i, 0, observation, observation, reward, info)
        reward[i] = 0.0
