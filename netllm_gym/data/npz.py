"""Read arrays of numbers from `.npz` files, which are checked and never unpickled."""

import zipfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from netllm_gym.arrays import Float32Array
from netllm_gym.errors import InputError
from netllm_gym.files import MOST_BYTES, check_archive, check_regular, one_line


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
    arrays = _read(path, wanted)
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


def read_weights(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Float32Array]:
    """Read arrays of float32 with known names and shapes.

    Raises:
        InputError: If the file or an array is missing, damaged or of another shape or type.
    """
    arrays = _read(path, shapes)
    for name, shape in shapes.items():
        found = arrays.get(name)
        if found is None or found.shape != shape or found.dtype != np.float32:
            got = "none" if found is None else f"{found.shape} of {found.dtype}"
            raise InputError(f"{name} of {path} must be {shape} of float32, got {got}")
    return arrays


def _read(path: Path, names: Collection[str]) -> dict[str, NDArray[Any]]:
    """Return those of the named arrays that are in the file."""
    if not path.is_file():
        raise InputError(f"{path} must be an .npz file, got no such file")
    check_regular(path)
    try:
        with zipfile.ZipFile(path) as archive:
            check_archive(archive, MOST_BYTES)
        with np.load(path, allow_pickle=False) as file:
            return {name: np.asarray(file[name]) for name in names if name in file}
    except (MemoryError, OSError):  # the machine's fault, not the file's
        raise
    except Exception as error:  # damaged zip and npy headers can raise nearly anything
        said = one_line(error)
        got = "an array of Python objects" if "allow_pickle" in said else said
        raise InputError(f"{path} must be a .npz archive of plain arrays, got {got}") from None
