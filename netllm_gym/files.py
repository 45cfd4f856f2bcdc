"""Files: what is written appears whole or not at all; JSON from outside is read or refused.

A file that is being written lies beside its place as `.NAME.part`, always the same name, so what
a killed process leaves behind is overwritten by the next.
"""

import json
from pathlib import Path
from typing import Any

from netllm_gym.errors import InputError


def read_json(path: Path) -> Any:
    """Read a JSON file that anybody may have written.

    Raises:
        InputError: If it is no JSON.
        OSError: If it cannot be read.
    """
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:  # no JSON, no text, or nested without end
        raise InputError(f"{path} must be JSON, got {one_line(error)}") from None


def write_whole(path: Path, data: bytes) -> None:
    """Put a file in place, whole: after a kill there is the old or the new one."""
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_bytes(data)
        part.replace(path)
    except OSError as error:
        raise at_path(error, path) from None
    finally:
        part.unlink(missing_ok=True)


def at_path(error: OSError, path: Path) -> OSError:
    """Return the same failure of the machine, told of a path; not every call names one."""
    return OSError(error.errno, error.strerror or one_line(error), str(path))


def one_line(error: Exception) -> str:
    """Return what an error of another library says, as one line."""
    return " ".join(str(error).split()) or type(error).__name__
