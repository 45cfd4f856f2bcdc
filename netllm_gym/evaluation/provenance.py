"""What made a result: the version of the code, and what a policy was trained on."""

import subprocess
from collections.abc import Collection
from pathlib import Path
from typing import Any

from netllm_gym.policies.loading import SELECTED_ON_SEEN, LoadedPolicy
from netllm_gym.version import __version__

PACKAGE = Path(__file__).parents[1]


def training_text(
    policy: LoadedPolicy, played: Collection[set[str] | frozenset[str]], plural: str
) -> str:
    """Say what a policy was trained on, and how much of the case its training saw.

    Args:
        policy: The policy.
        played: Of each recording of the case, the names by which it is known.
        plural: What these recordings are called, in the plural.
    """
    leaks = []
    for how, known in (("saw", policy.recordings), ("selected on", policy.selected_on)):
        found = sum(bool(known & names) for names in played)
        if found:
            leaks.append(f"{how} {found} of {len(played)} {plural}")
    if not leaks:
        return policy.trained_on
    told, trained_on = ", ".join(leaks), policy.trained_on
    if "selected on" in told:  # which is said once
        trained_on = trained_on.removesuffix(SELECTED_ON_SEEN)
    return f"{trained_on} (leaky: {told})"


def described(case: dict[str, Any]) -> dict[str, str]:
    """Return the parts of a case as text: a data set or a video says its own name."""
    return {key: _text(value) for key, value in case.items()}


def _text(value: Any) -> str:
    if isinstance(value, tuple | list):
        return ",".join(map(_text, value))
    return str(value) if isinstance(value, str | Path) else str(getattr(value, "name", value))


def code_version(package: Path = PACKAGE) -> str:
    """Return the commit of this source tree, marked if files were changed, else the version.

    An installed package may lie within another repository, in its `.venv` for example. The commit
    of that repository says nothing about this code, and is not taken.
    """
    root = package.resolve().parent
    top = _git(root, "rev-parse", "--show-toplevel")
    if top and Path(top).resolve() == root and (root / "pyproject.toml").is_file():
        return _git(root, "describe", "--always", "--dirty", "--abbrev=12") or __version__
    return __version__


def _git(folder: Path, *command: str) -> str:
    """Return what git prints, or nothing if it fails or is not installed.

    Without optional locks git writes nothing, so that a full disk leaves no lock behind.
    """
    try:
        ran = subprocess.run(
            ["git", "--no-optional-locks", *command],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return ran.stdout.strip() if ran.returncode == 0 else ""
