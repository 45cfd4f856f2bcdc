"""Which sets of head movements can be named on this machine, and where they are."""

from netllm_gym.data.datasets import data_folder
from netllm_gym.data.vp.sets import SYNTHETIC, published_splits, viewport_set_names, where_packed


def list_viewport_sets() -> list[tuple[str, str]]:
    """Return the name of each set of head movements, and what and where it is."""
    return [(name, _viewport_set(name)) for name in viewport_set_names()]


def _viewport_set(name: str) -> str:
    if name in SYNTHETIC:
        videos, users = SYNTHETIC[name]
        return f"{users} people watch {videos} videos, generated"
    place = where_packed(name)
    data, _, part = name.rpartition("-")
    ids = published_splits()[data][part]
    words = f"{len(ids['videos'])} videos and {len(ids['users'])} people"
    belongs = data_folder() / "vp"
    return f"{words}, in {place}" if place else f"not here; its file belongs in {belongs}"
