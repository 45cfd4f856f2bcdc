"""The ABR simulator: one compiled kernel for the scalar and the vector environment.

A player downloads a video chunk by chunk over a link whose capacity follows a trace. Every row of
the arrays is one player, and the rows do not influence each other. Every random number is keyed by
the row's episode, so a batch of one and a batch of a thousand play the same episodes.

Units: seconds, bytes, bytes/s inside the link (converted from Mbit/s once), Mbit/s for bitrates.

Source: the chunk-level simulator of Pensieve (SIGCOMM 2017) as NetLLM (SIGCOMM 2024) ships it.
Where it is unusual and this shapes results, it is followed: row 0 of a trace is never used, the
trace wraps to its second row, the round trip and the noise lengthen a download without moving the
trace clock, and a full buffer pauses in steps of half a second.
Differences: the reported pause is the whole pause (the reference reports its last segment); times
are in seconds (the reference's are in milliseconds), so values agree up to rounding only.
"""

import math
from collections.abc import Sequence
from dataclasses import fields
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from netllm_gym import randomness
from netllm_gym.arrays import Float32Array, FloatArray, IntArray
from netllm_gym.compiled import cached_njit, njit
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
from netllm_gym.envs.abr.qoe import LinearQoE, linear_qoe

# Draws of an episode's key: which trace, where in it, then the noise of chunk n at NOISE_DRAW + n.
TRACE_DRAW, POINTER_DRAW, NOISE_DRAW = np.uint64(1), np.uint64(2), np.uint64(3)
NOISE_COUNTER = int(NOISE_DRAW) - 1  # `randomness.uniform` counts from 0

# Nothing is allocated in here, so no reference need be counted.
_OPTIONS: dict[str, Any] = {"_nrt": False}
_inlined = njit(inline="always", **_OPTIONS)
_jit = cached_njit(error_model="numpy", **_OPTIONS)
_mix64, _to_unit = _inlined(randomness.mix64), _inlined(randomness.to_unit)
_GAMMA = randomness.GAMMA
chunk_qoe = _inlined(linear_qoe)


class SimulatorArrays(NamedTuple):
    """What all rows share, made by `pack_arrays`; the traces lie end to end.

    Kernels take it as a plain tuple, because numba's cache on disk would otherwise remember this
    class by its name, and fail to load after a renaming.
    """

    time_s: FloatArray  # (rows of all traces,)
    rate: FloatArray  # (rows of all traces,) in bytes/s, until time_s of the same row
    offset: IntArray  # (traces + 1,) where each trace begins
    size_bytes: FloatArray  # (chunks, rungs)
    next_sizes_mb: Float32Array  # (chunks + 1, W) as observed; past the last chunk those of chunk 0
    ladder_mbps: FloatArray  # (rungs,)
    chunk_s: FloatArray  # (chunks,)
    quality: FloatArray  # (chunks, rungs) this and the next two: of the QoE
    rebuffer_penalty: float
    smoothness_penalty: float


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
        ("first_rung", np.int64),
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
        ("quality", np.float64),  # of the last chunk
        ("done", np.bool_),
    ],
    align=True,
)


# What is reported of a chunk; `ABREnv` says what each number is.
_REPORTED = (
    *("qoe", "bitrate_mbps", "rebuffer_s", "smoothness_mbps", "download_s", "throughput_mbps"),
    *("buffer_s", "pause_s", "size_bytes", "chunk", "clock_s"),
)
INFO = np.dtype([(name, np.float64) for name in _REPORTED])


def pack_arrays(traces: Sequence[Trace], video: Video, qoe: LinearQoE) -> SimulatorArrays:
    """Lay the traces end to end and convert Mbit/s to bytes/s, once."""
    rows = [len(trace.time_s) for trace in traces]
    size_bytes = video.size_bytes[: video.num_chunks].astype(np.float64)
    next_sizes_mb = np.zeros((video.num_chunks + 1, max(HISTORY, video.num_rungs)), np.float32)
    next_sizes_mb[:, : video.num_rungs] = np.concatenate([size_bytes, size_bytes[:1]]) / 1e6
    return SimulatorArrays(
        time_s=np.concatenate([trace.time_s for trace in traces]),
        rate=np.concatenate([trace.capacity_mbps for trace in traces]) * 1_000_000.0 / 8.0,
        offset=np.concatenate([[0], np.cumsum(rows)]).astype(np.int64),
        size_bytes=size_bytes,
        next_sizes_mb=next_sizes_mb,
        ladder_mbps=video.ladder_mbps,
        chunk_s=np.array(video.lengths_s),
        quality=qoe.quality_of(video),
        rebuffer_penalty=float(qoe.rebuffer_penalty),
        smoothness_penalty=float(qoe.smoothness_penalty),
    )


def pack_players(
    players: Sequence[PlayerConfig], noises: Sequence[DownloadNoise]
) -> NDArray[np.void]:
    """Lay the constants of N players out as (N,) records of `PLAYER`."""
    packed = np.zeros(len(players), PLAYER)
    for each in fields(PlayerConfig):
        packed[each.name] = [getattr(player, each.name) for player in players]
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


@_inlined
def carry(link, first, end, pointer, trace_s, size_bytes, payload_fraction):  # type: ignore[no-untyped-def]
    """Send `size_bytes` over the trace in rows [first, end) of a link.

    Args:
        link: Has `time_s` and `rate`, as `SimulatorArrays` does.
        first: First row of the trace.
        end: Row behind its last.
        pointer: Row whose capacity holds now.
        trace_s: Position in the trace.
        size_bytes: What is sent.
        payload_fraction: Share of the capacity that carries it.

    Returns:
        How many seconds it takes, and the new pointer and position.
    """
    seconds, sent = 0.0, 0.0
    while True:
        span = link.time_s[pointer] - trace_s
        payload = link.rate[pointer] * span * payload_fraction
        if sent + payload > size_bytes:
            last = (size_bytes - sent) / link.rate[pointer] / payload_fraction
            return seconds + last, pointer, trace_s + last
        sent += payload
        seconds += span
        trace_s = link.time_s[pointer]
        pointer += 1
        if pointer >= end:
            pointer, trace_s = first + 1, 0.0


@_inlined
def wait(link, first, end, pointer, trace_s, pause_s):  # type: ignore[no-untyped-def]
    """Let the trace run on for `pause_s` without sending; return the new pointer and position."""
    while True:
        span = link.time_s[pointer] - trace_s
        if span > pause_s:
            return pointer, trace_s + pause_s
        pause_s -= span
        trace_s = link.time_s[pointer]
        pointer += 1
        if pointer >= end:
            pointer, trace_s = first + 1, 0.0


@_inlined
def pause_for(buffer_s, buffer_cap_s, pause_step_s):  # type: ignore[no-untyped-def]
    """Return how long a player with this buffer pauses before its next request."""
    excess_s = buffer_s - buffer_cap_s
    if excess_s <= 0.0:
        return 0.0
    if pause_step_s == 0.0:
        return excess_s
    return math.ceil(excess_s / pause_step_s) * pause_step_s


@_inlined
def _unit(key, draw):  # type: ignore[no-untyped-def]
    return _to_unit(_mix64(key + draw * _GAMMA))


@_inlined
def _download(arrays, player, row, rung, i, observation, info):  # type: ignore[no-untyped-def]
    """Download the next chunk of a row; shift and write observation[i] and write info[i]."""
    chunk = row.chunk
    size = arrays.size_bytes[chunk, rung]
    first, end = arrays.offset[row.trace], arrays.offset[row.trace + 1]
    pointer, trace_s = row.pointer, row.trace_s
    if player.rtt_moves_clock:
        pointer, trace_s = wait(arrays, first, end, pointer, trace_s, player.rtt_s)
    download_s, pointer, trace_s = carry(
        arrays, first, end, pointer, trace_s, size, player.payload_fraction
    )
    download_s += player.rtt_s
    if player.noise_low != 1.0 or player.noise_high != 1.0:
        share = _unit(row.key, NOISE_DRAW + np.uint64(chunk))
        download_s *= player.noise_low + (player.noise_high - player.noise_low) * share
    rebuffer_s = max(download_s - row.buffer_s, 0.0)
    buffer_s = max(row.buffer_s - download_s, 0.0) + arrays.chunk_s[chunk]
    pause_s = pause_for(buffer_s, player.buffer_cap_s, player.pause_step_s)
    if pause_s > 0.0:
        buffer_s -= pause_s
        pointer, trace_s = wait(arrays, first, end, pointer, trace_s, pause_s)

    bitrate_mbps, last_mbps = arrays.ladder_mbps[rung], arrays.ladder_mbps[row.rung]
    quality, last_quality = arrays.quality[chunk, rung], row.quality
    num_chunks, num_rungs = arrays.size_bytes.shape
    row.pointer, row.trace_s, row.buffer_s = pointer, trace_s, buffer_s
    row.clock_s += download_s + pause_s
    row.chunk, row.rung, row.quality = chunk + 1, rung, quality
    row.done = chunk + 1 == num_chunks

    newest = observation.shape[2] - 1
    oldest = newest + 1 - HISTORY  # the history stays as long, however wide the matrix is
    for kind in range(NUM_ROWS):
        for column in range(oldest, newest):  # the sizes are overwritten below
            observation[i, kind, column] = observation[i, kind, column + 1]
    observation[i, BITRATE, newest] = bitrate_mbps / arrays.ladder_mbps[num_rungs - 1]
    observation[i, BUFFER, newest] = buffer_s / TENS_S
    observation[i, THROUGHPUT, newest] = size / download_s / 1e6
    observation[i, DOWNLOAD, newest] = download_s / TENS_S
    for column in range(newest + 1):
        observation[i, SIZES, column] = arrays.next_sizes_mb[chunk + 1, column]
    observation[i, REMAINING, newest] = (num_chunks - chunk - 1) / num_chunks

    report = info[i]
    report.qoe = chunk_qoe(
        quality,
        rebuffer_s,
        abs(quality - last_quality),
        arrays.rebuffer_penalty,
        arrays.smoothness_penalty,
    )
    report.bitrate_mbps = bitrate_mbps
    report.rebuffer_s = rebuffer_s
    report.smoothness_mbps = abs(bitrate_mbps - last_mbps)
    report.download_s = download_s
    report.throughput_mbps = size * 8e-6 / download_s
    report.buffer_s = buffer_s
    report.pause_s = pause_s
    report.size_bytes = size
    report.chunk = chunk
    report.clock_s = row.clock_s


@_jit
def step_rows(plain_arrays, players, rows, actions, observations, info):  # type: ignore[no-untyped-def]
    """Download one chunk in every row that is not done; done rows stay as they are.

    Args:
        plain_arrays: `SimulatorArrays` as a plain tuple.
        players: (N,) `PLAYER`.
        rows: (N,) `ROW`, changed in place.
        actions: (N,) rung of each row's next chunk.
        observations: (N, 6, W) what each row saw; changed to what it sees now.
        info: (N,) `INFO`, written where a chunk is downloaded.
    """
    arrays = SimulatorArrays(*plain_arrays)
    for i in range(len(actions)):
        row = rows[i]
        if not row.done:
            _download(arrays, players[i], row, actions[i], i, observations, info)


@_jit
def begin_rows(plain_arrays, players, rows, begins, observations, info):  # type: ignore[no-untyped-def]
    """Begin an episode in the rows of `begins` and download its chunk 0 on the first rung.

    Args:
        plain_arrays: `SimulatorArrays` as a plain tuple.
        players: (N,) `PLAYER`.
        rows: (N,) `ROW`, changed in place. Where an episode begins, the caller has set its key,
            and its trace and start pointer, or -1 to draw them.
        begins: (N,) bool.
        observations: (N, 6, W) written where an episode begins.
        info: (N,) `INFO`, written there.
    """
    arrays = SimulatorArrays(*plain_arrays)
    for i in range(len(begins)):
        if not begins[i]:
            continue
        row = rows[i]
        if row.trace < 0:
            row.trace = int(_unit(row.key, TRACE_DRAW) * (len(arrays.offset) - 1))
        first, end = arrays.offset[row.trace], arrays.offset[row.trace + 1]
        if row.start_pointer < 0:
            row.start_pointer = 1 + int(_unit(row.key, POINTER_DRAW) * (end - first - 1))
        row.pointer = first + row.start_pointer
        row.trace_s = arrays.time_s[row.pointer - 1]
        rung = players[i].first_rung
        row.buffer_s, row.clock_s, row.chunk, row.rung = 0.0, 0.0, 0, rung
        row.quality = arrays.quality[0, rung]  # so that chunk 0 changes nothing
        observations[i] = 0.0
        _download(arrays, players[i], row, rung, i, observations, info)
