"""Turn ABR observations into flat columns, and back.

Consecutive (6, W) matrices of an episode differ by one new column and the sizes on offer; the
other cells repeat earlier ones. A pool therefore keeps, per step, the five newest
numbers and the sizes, and the matrices are rebuilt exactly, bit for bit.

Units are those of the observation (`envs/abr/env.py`): 10 s, MB of 10^6 bytes, shares.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from netllm_gym.arrays import Float32Array
from netllm_gym.envs.abr.observation import (
    BITRATE,
    BUFFER,
    DOWNLOAD,
    HISTORY,
    NUM_ROWS,
    REMAINING,
    SIZES,
    THROUGHPUT,
)
from netllm_gym.errors import InputError

SIZES_COLUMN = "sizes_mb"  # (T, W) on offer for the next chunk
SERIES_ROWS = {  # column of the pool (T,) -> row of the observation
    "bitrate_share": BITRATE,
    "buffer_10s": BUFFER,
    "throughput_mb_per_s": THROUGHPUT,
    "download_10s": DOWNLOAD,
    "chunks_left_share": REMAINING,
}


def to_columns(observations: Float32Array) -> dict[str, NDArray[Any]]:
    """Turn the observations of an episode into columns.

    Args:
        observations: (T, 6, W) float32 of one whole episode, W at least 6.

    Returns:
        `sizes_mb` (T, W) and five columns (T,), all float32.

    Raises:
        InputError: If the matrices are not what `from_columns` would rebuild: each must hold the
            last one shifted by a column, the first must hold one chunk after zeros.
    """
    shape = observations.shape
    if len(shape) != 3 or shape[1] != NUM_ROWS or shape[2] < HISTORY:
        raise InputError(f"observations must have shape (T, 6, W), W >= 6, got {shape}")
    if observations.dtype != np.float32:
        raise InputError(f"observations must be float32, got {observations.dtype}")
    columns = {name: observations[:, row, -1].copy() for name, row in SERIES_ROWS.items()}
    columns[SIZES_COLUMN] = observations[:, SIZES].copy()
    # Bits, not values: -0.0 and NaN must come back as they were.
    seen = np.ascontiguousarray(observations).view(np.uint32)
    same = seen == from_columns(columns).view(np.uint32)
    if not same.all():
        step = int(np.argmin(same.all(axis=(1, 2))))
        raise InputError(
            "observations must hold the last one shifted by a column, with zeros before the "
            f"episode's first chunk, got something else at step {step}"
        )
    return columns


def from_columns(columns: Mapping[str, NDArray[Any]]) -> Float32Array:
    """Rebuild the (T, 6, W) float32 observations of an episode.

    Raises:
        InputError: If a column is missing, or has another shape or type.
    """
    if set(columns) != {SIZES_COLUMN, *SERIES_ROWS}:
        wanted = ", ".join([*SERIES_ROWS, SIZES_COLUMN])
        raise InputError(f"columns must be {wanted}, got {', '.join(sorted(columns))}")
    sizes = columns[SIZES_COLUMN]
    if sizes.ndim != 2 or sizes.shape[1] < HISTORY or sizes.dtype != np.float32:
        raise InputError(
            f"{SIZES_COLUMN} must be float32 of shape (T, W), W >= 6, "
            f"got {sizes.dtype} of {sizes.shape}"
        )
    num_steps, width = sizes.shape
    series = np.zeros((num_steps + HISTORY - 1, NUM_ROWS), np.float32)  # zeros come first
    for name, row in SERIES_ROWS.items():
        values = columns[name]
        if values.shape != (num_steps,) or values.dtype != np.float32:
            raise InputError(
                f"{name} must be float32 of shape ({num_steps},) as {SIZES_COLUMN}, "
                f"got {values.dtype} of {values.shape}"
            )
        series[HISTORY - 1 :, row] = values
    # A view in which step t sees lines t .. t + 5, without the cost of sliding_window_view.
    step, cell = series.strides
    history = np.ndarray((num_steps, NUM_ROWS, HISTORY), np.float32, series, 0, (step, cell, step))
    observations = np.zeros((num_steps, NUM_ROWS, width), np.float32)
    observations[:, :, width - HISTORY :] = history
    observations[:, SIZES] = sizes
    return observations
