"""Read arrays of numbers from `.npz` files, which are checked and never unpickled."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from netllm_gym.errors import InputError
from netllm_gym.files import one_line


def read_npz(path: Path, wanted: Mapping[str, tuple[str, int]]) -> dict[str, NDArray[Any]]:
    """Read some arrays of a file.

    Args:
        path: The file.
        wanted: For the name of each array, the kinds of numbers that it may have, as letters of
            `numpy.dtype.kind`, and its number of dimensions.

    Raises:
        InputError: If the file or one of the arrays is missing, damaged or of another kind.
        OSError: If it cannot be read.
    """
    if not path.is_file():
        raise InputError(f"{path} must be an .npz file, got no such file")
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in wanted if name in file}
    except (MemoryError, OSError):  # the machine's fault, not the file's
        raise
    except Exception as error:  # crafted zip and npy headers can raise nearly anything
        raise InputError(f"{path} must be an .npz without pickle, got {one_line(error)}") from None
    for name, (kinds, dimensions) in wanted.items():
        if name not in arrays:
            raise InputError(f"{path} must have the array {name}, got none")
        found = arrays[name]
        if found.dtype.kind not in kinds or found.ndim != dimensions:
            raise InputError(
                f"{name} of {path} must be numbers in {dimensions} dimensions, "
                f"got {found.dtype} of {found.shape}"
            )
    return arrays
