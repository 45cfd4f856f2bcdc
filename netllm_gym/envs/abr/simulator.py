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
from typing import Any, NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from netllm_gym import randomness
from netllm_gym.arrays import Float32Array, FloatArray, IntArray
from netllm_gym.data.abr.traces import Trace
from netllm_gym.data.abr.video import Video
from netllm_gym.envs.abr.observation import (
    BITRATE,
    BUFFER,
    DOWNLOAD,
    HISTORY,
    NUM_ROWS,
    REMAINING,
    SIZES,
    TENS_S,
    THROUGHPUT,
)
from netllm_gym.envs.abr.player import DownloadNoise, PlayerConfig
from netllm_gym.envs.abr.qoe import LinearQoE, chunk_qoe

INFO_KEYS = (
    *("qoe", "bitrate_mbps", "rebuffer_s", "smoothness_mbps", "download_s", "throughput_mbps"),
    *("buffer_s", "pause_s", "size_bytes", "chunk", "clock_s"),
)
# Draws of an episode's key: which trace, where in it, then the noise of chunk n at NOISE_DRAW + n.
TRACE_DRAW, POINTER_DRAW, NOISE_DRAW = np.uint64(1), np.uint64(2), np.uint64(3)
NOISE_COUNTER = int(NOISE_DRAW) - 1  # `randomness.uniform` counts from 0

# Nothing is allocated in here, so no reference need be counted.
_OPTIONS: dict[str, Any] = {"_nrt": False}
_jit = numba.njit(cache=True, inline="always", **_OPTIONS)
_mix64, _to_unit, _chunk_qoe = _jit(randomness.mix64), _jit(randomness.to_unit), _jit(chunk_qoe)
_GAMMA = randomness.GAMMA


class SimulatorArrays(NamedTuple):
    """What all rows share, made by `pack_arrays`.

    Two plain tuples, since numba's cache on disk would remember the classes of named ones and
    break when a class is renamed.

    Attributes:
        link: Traces end to end: time_s (all rows,), rate (all rows,) in bytes/s, which holds until
            time_s of the same row, and offset (traces + 1,), where each trace begins.
        video: size_bytes (chunks, rungs), next_sizes_mb (chunks + 1, W) as they are observed (past
            the last chunk the first one's), ladder_mbps (rungs,), chunk_s, and the QoE's
            rebuffer_penalty and smoothness_penalty.
    """

    link: tuple[FloatArray, FloatArray, IntArray]
    video: tuple[FloatArray, Float32Array, FloatArray, float, float, float]


# Constants of one row's player and link, and the noise on its downloads.
PLAYER = np.dtype(
    [
        ("rtt_s", np.float64),
        ("buffer_cap_s", np.float64),
        ("pause_step_s", np.float64),
        ("payload_fraction", np.float64),
        ("noise_low", np.float64),
        ("noise_high", np.float64),
        ("rtt_moves_clock", np.bool_),
    ],
    align=True,
)
# Everything that a row's next download depends on; the kernel changes it in place.
ROW = np.dtype(
    [
        ("key", np.uint64),  # of the episode: the source of its random numbers
        ("trace", np.int64),
        ("start_pointer", np.int64),
        ("pointer", np.int64),  # trace row whose capacity holds now, counted over all traces
        ("trace_s", np.float64),  # position in the trace
        ("buffer_s", np.float64),
        ("clock_s", np.float64),  # since the episode began
        ("chunk", np.int64),  # chunks downloaded so far
        ("rung", np.int64),  # of the last chunk
        ("done", np.bool_),
    ],
    align=True,
)


def pack_arrays(traces: Sequence[Trace], video: Video, qoe: LinearQoE) -> SimulatorArrays:
    """Lay traces end to end and convert Mbit/s to bytes/s, once."""
    rows = [len(trace.time_s) for trace in traces]
    size_bytes = video.size_bytes[: video.num_chunks].astype(np.float64)
    next_sizes_mb = np.zeros((video.num_chunks + 1, max(HISTORY, video.num_rungs)), np.float32)
    next_sizes_mb[:, : video.num_rungs] = np.concatenate([size_bytes, size_bytes[:1]]) / 1e6
    time_s = np.concatenate([trace.time_s for trace in traces])
    rate = np.concatenate([trace.capacity_mbps for trace in traces]) * 1_000_000.0 / 8.0
    offset = np.concatenate([[0], np.cumsum(rows)]).astype(np.int64)
    weights = (float(qoe.rebuffer_penalty), float(qoe.smoothness_penalty))
    return SimulatorArrays(
        link=(time_s, rate, offset),
        video=(size_bytes, next_sizes_mb, video.ladder_mbps, float(video.chunk_s), *weights),
    )


def pack_players(
    players: Sequence[PlayerConfig], noises: Sequence[DownloadNoise]
) -> NDArray[np.void]:
    """Lay the constants of N players out as (N,) records of `PLAYER`."""
    packed = np.zeros(len(players), PLAYER)
    for name in ("rtt_s", "buffer_cap_s", "pause_step_s", "payload_fraction", "rtt_moves_clock"):
        packed[name] = [getattr(player, name) for player in players]
    packed["noise_low"] = [noise.low for noise in noises]
    packed["noise_high"] = [noise.high for noise in noises]
    return packed


def new_rows(num_rows: int) -> NDArray[np.void]:
    """Return (N,) records of `ROW` that have not begun an episode."""
    rows = np.zeros(num_rows, ROW)
    rows["done"] = True
    return rows


def noise_factors(key: np.uint64, noise: DownloadNoise, num_chunks: int) -> FloatArray:
    """Return (num_chunks,) the factors that an episode's first download times are multiplied by."""
    share = randomness.uniform(np.asarray(key, np.uint64), NOISE_COUNTER + np.arange(num_chunks))
    return noise.low + (noise.high - noise.low) * share


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


# fmt: off
@_jit
def _download(  # type: ignore[no-untyped-def]
    time_s, rate, first, end,
    size_bytes, next_sizes_mb, ladder_mbps, chunk_s, rebuffer_penalty, smoothness_penalty,
    player, row, rung, i, observation, info,
):
    # fmt: on
    """Download row i's next chunk; shift and write observation[i] and info[i].

    Inlined, and given whole arrays one by one: numba counts the references to every slice and
    tuple that is taken inside a loop, which costs more than the download itself.
    """
    chunk = row.chunk
    size = size_bytes[chunk, rung]
    pointer, trace_s = row.pointer, row.trace_s
    if player.rtt_moves_clock:
        pointer, trace_s = wait(time_s, first, end, pointer, trace_s, player.rtt_s)
    download_s, pointer, trace_s = carry(
        time_s, rate, first, end, pointer, trace_s, size, player.payload_fraction
    )
    download_s += player.rtt_s
    if player.noise_low != 1.0 or player.noise_high != 1.0:
        share = _unit(row.key, NOISE_DRAW + np.uint64(chunk))
        download_s *= player.noise_low + (player.noise_high - player.noise_low) * share
    rebuffer_s = max(download_s - row.buffer_s, 0.0)
    buffer_s = max(row.buffer_s - download_s, 0.0) + chunk_s
    pause_s = pause_for(buffer_s, player.buffer_cap_s, player.pause_step_s)
    if pause_s > 0.0:
        buffer_s -= pause_s
        pointer, trace_s = wait(time_s, first, end, pointer, trace_s, pause_s)

    bitrate_mbps, last_mbps = ladder_mbps[rung], ladder_mbps[row.rung]
    num_chunks, num_rungs = size_bytes.shape
    row.pointer, row.trace_s, row.buffer_s = pointer, trace_s, buffer_s
    row.clock_s += download_s + pause_s
    row.chunk, row.rung = chunk + 1, rung
    row.done = chunk + 1 == num_chunks

    newest = observation.shape[2] - 1
    oldest = newest + 1 - HISTORY  # the history stays as long, however wide the matrix is
    for kind in range(NUM_ROWS):
        for column in range(oldest, newest):  # the row of sizes is written anew below
            observation[i, kind, column] = observation[i, kind, column + 1]
    observation[i, BITRATE, newest] = bitrate_mbps / ladder_mbps[num_rungs - 1]
    observation[i, BUFFER, newest] = buffer_s / TENS_S
    observation[i, THROUGHPUT, newest] = size / download_s / 1e6
    observation[i, DOWNLOAD, newest] = download_s / TENS_S
    for column in range(newest + 1):
        observation[i, SIZES, column] = next_sizes_mb[chunk + 1, column]
    observation[i, REMAINING, newest] = (num_chunks - chunk - 1) / num_chunks

    info[i, 0] = _chunk_qoe(
        bitrate_mbps, last_mbps, rebuffer_s, rebuffer_penalty, smoothness_penalty
    )
    info[i, 1] = bitrate_mbps
    info[i, 2] = rebuffer_s
    info[i, 3] = abs(bitrate_mbps - last_mbps)
    info[i, 4] = download_s
    info[i, 5] = size * 8e-6 / download_s
    info[i, 6] = buffer_s
    info[i, 7] = pause_s
    info[i, 8] = size
    info[i, 9] = chunk
    info[i, 10] = row.clock_s


@numba.njit(cache=True, error_model="numpy", **_OPTIONS)
def step_rows(link, video, players, rows, actions, observations, info):  # type: ignore[no-untyped-def]
    """Download one chunk in every row that is not done; done rows stand still.

    Args:
        link: Of `SimulatorArrays`.
        video: Of `SimulatorArrays`.
        players: (N,) `PLAYER`.
        rows: (N,) `ROW`, changed in place.
        actions: (N,) rung of each row's next chunk.
        observations: (N, 6, W) what each row saw; changed to what it sees now.
        info: (N, 11) written in the order of `INFO_KEYS`.
    """
    time_s, rate, offset = link
    size_bytes, next_sizes_mb, ladder_mbps, chunk_s, rebuffer_penalty, smoothness_penalty = video
    for i in range(len(actions)):
        row = rows[i]
        if not row.done:
            first, end = offset[row.trace], offset[row.trace + 1]
            _download(
                time_s, rate, first, end,
                size_bytes, next_sizes_mb, ladder_mbps, chunk_s,
                rebuffer_penalty, smoothness_penalty,
                players[i], row, actions[i], i, observations, info,
            )  # fmt: skip


@numba.njit(cache=True, error_model="numpy", **_OPTIONS)
def begin_rows(link, video, players, rows, begins, trace, start_pointer, observations, info):  # type: ignore[no-untyped-def]
    """Begin an episode in the rows of `begins` and download its first chunk at the lowest rung.

    Args:
        link: Of `SimulatorArrays`.
        video: Of `SimulatorArrays`.
        players: (N,) `PLAYER`.
        rows: (N,) `ROW`, changed in place; the caller has set their keys.
        begins: (N,) bool.
        trace: (N,) index of the trace, or -1 to draw one.
        start_pointer: (N,) trace row to start in, or -1 to draw one.
        observations: (N, 6, W) written where an episode begins.
        info: (N, 11) written there.
    """
    time_s, rate, offset = link
    size_bytes, next_sizes_mb, ladder_mbps, chunk_s, rebuffer_penalty, smoothness_penalty = video
    for i in range(len(begins)):
        if not begins[i]:
            continue
        row = rows[i]
        row.trace = trace[i]
        if row.trace < 0:
            row.trace = int(_unit(row.key, TRACE_DRAW) * (len(offset) - 1))
        first, end = offset[row.trace], offset[row.trace + 1]
        row.start_pointer = start_pointer[i]
        if row.start_pointer < 0:
            row.start_pointer = 1 + int(_unit(row.key, POINTER_DRAW) * (end - first - 1))
        row.pointer = first + row.start_pointer
        row.trace_s = time_s[row.pointer - 1]
        row.buffer_s, row.clock_s, row.chunk, row.rung = 0.0, 0.0, 0, 0
        observations[i] = 0.0
        _download(
            time_s, rate, first, end,
            size_bytes, next_sizes_mb, ladder_mbps, chunk_s, rebuffer_penalty, smoothness_penalty,
            players[i], row, 0, i, observations, info,
        )  # fmt: skip
