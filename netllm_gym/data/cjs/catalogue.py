"""Which workloads can be named on this machine, and where they are."""

from netllm_gym.data.cjs.named import NAMES
from netllm_gym.data.datasets import data_folder


def list_workloads() -> list[tuple[str, str]]:
    """Return the name of each workload, and what and where it is."""
    return [(name, _workload(name)) for name in NAMES]


def _workload(name: str) -> str:
    if name == "synthetic":
        return "jobs of TPC-H's shape and load, generated"
    place = data_folder() / "cjs" / name
    return str(place) if place.is_dir() else f"not here; its files belong in {place}"
