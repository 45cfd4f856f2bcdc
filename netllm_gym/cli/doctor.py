"""What this machine has for netllm-gym and what is missing; paste it into a bug report."""

import importlib.metadata
import platform
import re
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from netllm_gym.data.datasets import DATA_VARIABLE, data_folder
from netllm_gym.errors import MissingDataError
from netllm_gym.version import __version__

PACKAGE = "netllm-gym"
EXTRA_OF = {  # module or package -> the extra to get it by, where several bring it
    **dict.fromkeys(("torch", "transformers", "peft", "safetensors"), "llm"),
    "bayes_opt": "genet",
    "d3rlpy": "offline",
}


class Check(NamedTuple):
    """One finding."""

    name: str
    found: str
    state: str  # "ok"; "missing", which something optional is; or "broken"


def examine() -> Iterator[Check]:
    """Look at everything, the quick things first; nothing is written or fetched."""
    yield Check(PACKAGE, __version__, "ok")
    yield Check("python", f"{platform.python_version()} on {platform.platform()}", "ok")
    try:
        yield from _packages()
    except importlib.metadata.PackageNotFoundError:
        yield Check(
            "packages", f"{PACKAGE} is not installed, so its requirements are unknown", "missing"
        )
    yield _try("environment", _play)
    yield _try("data folder", _data)
    yield _try("language model", _devices)
    yield _try("minilm weights", _minilm)


def _packages() -> Iterator[Check]:
    """Compare what is installed with what the package asks for, extras included."""
    seen = {PACKAGE}  # extras name each other, and some packages twice
    for requirement in importlib.metadata.requires(PACKAGE) or ():
        name = re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0]
        extra = re.search(r"extra == ['\"](\w+)['\"]", requirement)
        of_all = extra is not None and extra[1] == "all"  # made of extras that are seen anyway
        if name in seen or of_all or "python_version" in requirement:
            continue
        seen.add(name)
        try:
            yield Check(name, importlib.metadata.version(name), "ok")
        except importlib.metadata.PackageNotFoundError:
            hint = how_to_install(EXTRA_OF.get(name, extra[1]) if extra else "")
            yield Check(name, f"not installed: {hint}", "missing" if extra else "broken")


def how_to_install(extra: str) -> str:
    """Return the command that brings an extra; "" is the package alone."""
    return f"pip install '{PACKAGE}[{extra}]'" if extra else f"pip install {PACKAGE}"


def _try(name: str, look: Callable[[], str]) -> Check:
    try:
        return Check(name, look(), "ok")
    except (MissingDataError, ImportError) as error:
        return Check(name, str(error), "missing")
    except Exception as error:  # whatever is broken here is what the user wants to read
        return Check(name, f"{type(error).__name__}: {error}", "broken")


def _play() -> str:
    """Play one episode, which compiles the simulator or finds it compiled."""
    import gymnasium as gym

    started_s = time.perf_counter()
    env = gym.make("NetLLM-ABR-v0")
    env.reset(seed=0)
    steps, ended = 0, False
    while not ended:
        *_, ended, _, _ = env.step(0)
        steps += 1
    return f"NetLLM-ABR-v0 played {steps} steps in {time.perf_counter() - started_s:.1f} s"


def _data() -> str:
    from netllm_gym.data.abr.sets import trace_set_names
    from netllm_gym.data.abr.video import video_names

    found = f"{len(trace_set_names())} trace sets, {len(video_names())} videos"
    folder = data_folder()
    absent = "" if folder.is_dir() else f" (no such folder; {DATA_VARIABLE} may name another)"
    return f"{folder}{absent}: {found}; netllm-gym data list names them"


def _devices() -> str:
    from netllm_gym.policies.llm.model import devices

    return ", ".join(devices())


def _minilm() -> str:
    from netllm_gym.policies.llm.backbone import packaged_folder

    return str(packaged_folder("minilm"))
