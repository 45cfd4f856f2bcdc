"""NetLLM's result logs: one text file per episode, a line per chunk, the reward in the last column.

The columns are clock (s), bitrate (kbit/s), buffer (s), rebuffering (s), size (bytes), download
(ms), smoothness (Mbit/s) and reward; only the last is read, so any file whose lines end in the
reward will do. NetLLM stops at an empty line, and so does this.

The first line of each file is chunk 0, which no policy chooses and whose start-up delay counts as
a stall: NetLLM leaves it out of its results, and so does `mean_reward` unless told otherwise.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from netllm_gym.arrays import FloatArray
from netllm_gym.errors import InputError
from netllm_gym.files import check_regular


class LogReward(NamedTuple):
    """What the logs of a folder say together."""

    mean: float  # over the lines of all files, each line weighing the same
    num_lines: int
    num_files: int


def mean_reward(folder: str | Path, skip_first_line: bool = True) -> float:
    """Return the mean reward over the lines of all logs, as NetLLM's results count it.

    Args:
        folder: Of the logs.
        skip_first_line: Leave out the first line of each file.

    Raises:
        InputError: As `read_rewards`.
    """
    return log_reward(folder, skip_first_line).mean


def log_reward(folder: str | Path, skip_first_line: bool = True) -> LogReward:
    """Return `mean_reward` with the number of lines and files behind it."""
    rewards = list(read_rewards(folder, skip_first_line).values())
    together = np.concatenate(rewards)
    return LogReward(float(together.mean()), len(together), len(rewards))


def read_rewards(folder: str | Path, skip_first_line: bool = True) -> dict[str, FloatArray]:
    """Read the rewards of every file of a folder; names that start with a dot are skipped.

    Returns:
        File name -> (lines,) float64, sorted by name.

    Raises:
        InputError: If there is no log, or a line does not end in a number, or has another number of
            columns than the first line of its file, or a file has no line that counts.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"logs must be a folder, got {folder}, which is not one")
    paths = sorted(path for path in folder.iterdir() if path.is_file() and path.name[0] != ".")
    if not paths:
        raise InputError(f"logs must be one or more, got the empty folder {folder}")
    return {path.name: _read(path, skip_first_line) for path in paths}


def _read(path: Path, skip_first_line: bool) -> FloatArray:
    check_regular(path)
    rewards: list[float] = []
    width = 0
    for number, line in enumerate(path.read_text("utf-8", errors="replace").split("\n"), start=1):
        fields = line.split()
        if not fields:
            break
        width = width or len(fields)
        try:
            reward = float(fields[-1])
        except ValueError:
            reward = np.nan
        if len(fields) != max(width, 2) or not np.isfinite(reward):
            raise InputError(
                f"{path}:{number}: a line must be {max(width, 2)} columns, the last one a finite "
                f"reward, got {line[:60]!r}"
            )
        rewards.append(reward)
    if len(rewards) <= skip_first_line:
        raise InputError(
            f"{path} must have {1 + skip_first_line} or more lines, got {len(rewards)}"
        )
    return np.array(rewards[skip_first_line:])
