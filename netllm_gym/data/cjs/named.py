"""Workloads by name, folder or file."""

from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path

from netllm_gym.data.cjs import alibaba, recordings, synthetic, tpch
from netllm_gym.data.cjs.workload import Workload
from netllm_gym.data.datasets import data_folder
from netllm_gym.errors import InputError

NAMES = ("synthetic", "tpch")
VALID = "-valid"


def workload(spec: str | Path | Workload) -> Workload:
    """Return a workload by name, from a file or folder, or as it is.

    Args:
        spec: `synthetic`, which is generated; `tpch`, of the data folder; the folder of the TPC-H
            files; a table of the Alibaba trace (`.csv`); one of these with `-valid`, which is the
            same jobs with other arrivals; a recording (`.json`).

    Raises:
        InputError: If there is no such workload, or a file of it breaks a rule.
    """
    if isinstance(spec, Workload):
        return spec
    if not isinstance(spec, str | Path):
        raise InputError(f"workload must be a name, a path or a Workload, got {spec!r:.80}")
    base = str(spec).removesuffix(VALID)
    if base == "tpch":
        return replace(tpch.published_tpch(), name=str(spec))
    if base == "synthetic":
        return replace(synthetic.generate(), name=str(spec))
    path = Path(spec)
    if base and not path.exists() and Path(base).exists():
        load = workload(base)
        if load.is_recording:
            raise InputError(f"workload must have other arrivals for {VALID}, got a recording")
        return replace(load, name=load.name + VALID)
    readers = {".json": recordings.read_recording, ".csv": alibaba.read_alibaba}
    if path.is_dir():
        if not any((path / size).is_dir() for size in tpch.SIZES):
            raise InputError(
                f"workload must be a folder of TPC-H, with {', '.join(tpch.SIZES)}, got {path}"
            )
        return tpch.read_tpch(path)
    if path.is_file():
        if path.suffix not in readers:
            raise InputError(f"workload must be a .json or a .csv file, got {path}")
        return readers[path.suffix](path)
    names = [name + part for name in NAMES for part in ("", VALID)]
    nearest = get_close_matches(str(spec), names, 1)
    hint = f", did you mean {nearest[0]}?" if nearest else ""
    raise InputError(
        f"workload must be a folder, a file or one of {', '.join(names)}, got {str(spec)!r}{hint}"
    )


def list_workloads() -> list[tuple[str, str]]:
    """Return the name of each workload, and what and where it is on this machine."""
    place = data_folder() / "cjs" / "tpch"
    return [
        ("synthetic", "jobs of TPC-H's shape and load, generated"),
        ("tpch", str(place) if place.is_dir() else f"not here; its files belong in {place}"),
    ]
