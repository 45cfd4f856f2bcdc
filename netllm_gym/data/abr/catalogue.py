"""Which trace sets and videos can be named on this machine, and where they are."""

from netllm_gym.data.abr import synthetic
from netllm_gym.data.abr.folders import trace_files
from netllm_gym.data.abr.sets import trace_set_names
from netllm_gym.data.abr.video import video_names
from netllm_gym.data.datasets import clean_split, data_folder
from netllm_gym.files import counted


def list_trace_sets() -> list[tuple[str, str]]:
    """Return the name of each trace set, and what and where it is."""
    return [(name, _trace_set(name)) for name in trace_set_names()]


def list_videos() -> list[tuple[str, str]]:
    """Return the name of each video, and where it is."""
    folder = data_folder() / "abr" / "videos"
    return [
        (name, "generated" if name == "synthetic" else str(folder / name)) for name in video_names()
    ]


def _trace_set(name: str) -> str:
    if name in synthetic.set_names():
        return f"{synthetic.NUM_TRACES} traces, generated"
    if name in clean_split():
        part = clean_split()[name]
        return f"{len(part.sha256)} traces, a list of files of {part.folder}"
    place = data_folder() / "abr" / "traces" / name
    return f"{counted(len(trace_files(place).files), 'trace')} in {place}"
