"""`netllm-gym` as a process of its own, to be killed or interrupted, and what it leaves behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

ENDS_WITHIN_S = 300


class Ended(NamedTuple):
    """How a process ended."""

    status: int  # minus the signal's number if it died of one
    printed: str
    complained: str


class Command:
    """A running `netllm-gym`, the leader of a session to which its workers belong too."""

    def __init__(self, arguments):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "netllm_gym", *map(str, arguments)],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            # A background job of a shell ignores Ctrl-C, and all that it starts would, too.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )

    def runs_for(self, seconds):
        """Wait so long; say whether it still runs."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return True
        return False

    def runs_until(self, condition):
        """Wait until `condition` holds; say whether it still runs."""
        end_s = time.monotonic() + ENDS_WITHIN_S
        while self.runs_for(0.01) and not condition():
            assert time.monotonic() < end_s
        return self.process.poll() is None

    def kill(self):
        """SIGKILL to the process that was started, and to none of its workers."""
        self.process.kill()
        return self.end()

    def interrupt(self):
        """SIGINT to all processes of the session, as a terminal sends it."""
        os.killpg(self.process.pid, signal.SIGINT)
        return self.end()

    def end(self):
        """Wait for the process, then for what it started, which must not outlive it."""
        try:
            printed, complained = self.process.communicate(timeout=ENDS_WITHIN_S)
            end_s = time.monotonic() + 20
            while left := session(self.process.pid):
                assert time.monotonic() < end_s, f"left behind: {left}"
                time.sleep(0.02)
        finally:
            for pid in session(self.process.pid):
                os.kill(pid, signal.SIGKILL)
        return Ended(self.process.returncode, printed, complained)


def session(leader):
    """Return the processes of a session that have not ended."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            stat = (folder / "stat").read_text()
        except OSError:
            continue  # it ended meanwhile
        state, _, _, number = stat.rpartition(")")[2].split()[:4]
        if int(number) == leader and state not in "ZX":
            found.append(int(folder.name))
    return found


def files_of(folder):
    """Return all files below a folder, by their path in it."""
    paths = sorted(path for path in Path(folder).rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}
