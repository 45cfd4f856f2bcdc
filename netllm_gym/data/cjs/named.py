"""Workloads by name, folder or file."""

import json
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from netllm_gym.data.cjs import alibaba, recordings, synthetic, tpch, wfcommons
from netllm_gym.data.cjs.workload import Workload
from netllm_gym.data.datasets import data_folder
from netllm_gym.data.opening import read_unpacked
from netllm_gym.errors import InputError
from netllm_gym.files import MOST_JSON_BYTES, one_line

NAMES = ("synthetic", "tpch")
VALID = "-valid"
_JSON, _TABLE = (".json", ".json.gz"), (".csv", ".csv.gz")


def workload(spec: str | Path | Workload) -> Workload:
    """Return a workload by name, from a file or folder, or as it is.

    Args:
        spec: `synthetic`, which is generated; `tpch`, of the data folder; the folder of the TPC-H
            files; a table of the Alibaba trace (`.csv`); a workflow of WfCommons (`.json`) or a
            folder of them; one of these with `-valid`, which is the same jobs with other arrivals;
            a recording (`.json`). Files may be packed by gzip (`.csv.gz`, `.json.gz`).

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
    if path.is_dir():
        return _of_folder(path)
    if path.is_file():
        return _of_file(path)
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


def _of_folder(path: Path) -> Workload:
    """Read the TPC-H files, or all workflows of a folder."""
    if any((path / size).is_dir() for size in tpch.SIZES):
        return tpch.read_tpch(path)
    files = sorted(
        each for each in path.iterdir() if each.name.endswith(_JSON) and not each.is_dir()
    )
    if not files:
        raise InputError(
            f"workload must be a folder of TPC-H, with {', '.join(tpch.SIZES)}, or of workflows, "
            f"with .json files, got {path}"
        )
    return wfcommons.workflows_of(path.name, [(each, _json(each)) for each in files])


def _of_file(path: Path) -> Workload:
    if path.name.endswith(_TABLE):
        return alibaba.read_alibaba(path)
    if not path.name.endswith(_JSON):
        raise InputError(f"workload must be one of {', '.join((*_JSON, *_TABLE))}, got {path}")
    values = _json(path)
    if isinstance(values, dict) and "workflow" in values:
        return wfcommons.workflows_of(path.name, [(path, values)])
    return recordings.recording_of(values, path)


def _json(path: Path) -> Any:
    data = read_unpacked(path, MOST_JSON_BYTES)
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:  # no JSON, no text, or nested without end
        raise InputError(f"{path} must be JSON, got {one_line(error)}") from None
