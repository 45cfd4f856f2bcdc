"""How far long work is: a bar on a terminal, a plain line every few seconds elsewhere."""

import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from traceback import clear_frames
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from netllm_gym.files import printable

PLAIN_EVERY_S = 10.0


class Progress:
    """Shows how many units of some work are done; use it as a context.

    A Ctrl-C meanwhile ends the work even where a library swallows it, as calls from compiled code
    do: the next update raises it again.
    """

    def __init__(self, what: str, unit: str) -> None:
        self.what, self.unit = what, unit
        self._console = Console(stderr=True)
        self._bar: Bar | None = None
        self._last_line_s = 0.0
        self._interrupted = False
        self._listens = False
        if self._console.is_terminal:
            self._bar = Bar(
                TextColumn(what),
                BarColumn(),
                TextColumn("{task.completed:.0f}/{task.total:.0f} " + unit),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.description}", markup=False),
                console=self._console,
                transient=True,
            )
            self._task = self._bar.add_task("", total=1)

    def __enter__(self) -> "Progress":
        is_main = threading.current_thread() is threading.main_thread()
        if is_main and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, self._interrupt)
            self._tell_ignored, sys.unraisablehook = sys.unraisablehook, self._ignored
            self._listens = True
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._interrupted:
            clear_frames(traceback)  # what was half built is taken down here, and complains unheard
        if self._listens:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            sys.unraisablehook = self._tell_ignored
        if self._bar is not None:
            self._bar.stop()

    def _interrupt(self, *_: object) -> None:
        self._interrupted = True
        raise KeyboardInterrupt

    def _ignored(self, told: "sys.UnraisableHookArgs") -> None:
        if not self._interrupted:
            self._tell_ignored(told)

    def update(self, done: int, total: int, detail: str = "") -> None:
        """Say that `done` of `total` are done."""
        if self._interrupted:
            raise KeyboardInterrupt
        if self._bar is not None:
            self._bar.update(self._task, completed=done, total=total, description=printable(detail))
            return
        now_s = time.monotonic()
        if done == total or now_s - self._last_line_s >= PLAIN_EVERY_S:
            self._last_line_s = now_s
            self.note(f"{done}/{total} {self.unit} {detail}".rstrip())

    def metrics(
        self,
        updates: int,
        shown: str = "loss",
        in_words: Callable[[float], str] = "{:.4f}".format,
    ) -> Callable[[Mapping[str, Any]], None]:
        """Return a function that shows a training run when it is told the run's metrics.

        A line of progress has the metric `shown`; `in_words` makes a text of a validation's score.
        """

        def show(values: Mapping[str, Any]) -> None:
            if "score" in values:
                score = in_words(values["score"])
                self.note(f"update {values['update']}: validation {score}")
            else:
                self.update(values["update"], updates, f"{shown} {values[shown]:.4f}")

        return show

    def note(self, text: str) -> None:
        """Print a line that stays."""
        line = f"{self.what}: {printable(text)}"
        if self._bar is not None:
            self._bar.console.print(line, highlight=False, markup=False)
        else:
            sys.stderr.write(f"{line}\n")
            sys.stderr.flush()
