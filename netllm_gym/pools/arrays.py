"""The codec of most problems: observations that are arrays of one shape become one column."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from netllm_gym.errors import InputError

COLUMN = "observations"
WHOLE_COLUMN = "int64_observations"  # shards narrow int64, so its name remembers the type


def to_columns(observations: Any) -> dict[str, NDArray[Any]]:
    """Return the (T, ...) observations of one episode as a column.

    Raises:
        InputError: If they are not an array of numbers; such a problem needs a codec of its own.
    """
    if not isinstance(observations, np.ndarray) or observations.dtype.kind not in "biuf":
        raise InputError(
            "observations must be an array of numbers where a problem has no codec, "
            f"got {getattr(observations, 'dtype', type(observations).__name__)}"
        )
    return {WHOLE_COLUMN if observations.dtype == np.int64 else COLUMN: observations}


def from_columns(columns: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
    """Return the (T, ...) observations of one episode, of the type that they had.

    Raises:
        InputError: If there is another column than `to_columns` returns.
    """
    if columns.keys() == {COLUMN}:
        return columns[COLUMN]
    if columns.keys() == {WHOLE_COLUMN} and columns[WHOLE_COLUMN].dtype.kind == "i":
        return columns[WHOLE_COLUMN].astype(np.int64)
    raise InputError(f"columns must be {COLUMN} alone, got {', '.join(sorted(columns))}")
