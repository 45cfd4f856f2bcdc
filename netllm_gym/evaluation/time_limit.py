"""A limit on the time that a policy may take."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from netllm_gym.configs import check


class OutOfTime(BaseException):
    """The time is over. No `Exception`, so that a policy that catches these does not go on."""


def check_time_limit(limit_s: float | None) -> None:
    """Refuse a limit that is no time, or that cannot be kept here."""
    if limit_s is None:
        return
    check(limit_s > 0, "time_limit_s", "be above 0", limit_s)
    can_be_kept = hasattr(signal, "setitimer") and (
        threading.current_thread() is threading.main_thread()
    )
    rule = "be left out on Windows and outside of the main thread, where no alarm can be set"
    check(can_be_kept, "time_limit_s", rule, limit_s)


@contextmanager
def time_limit(limit_s: float | None) -> Iterator[None]:
    """Raise `OutOfTime` in a block that takes longer.

    A call of compiled code is not interrupted, but what follows it is. The alarm rings again every
    second, because a library may swallow what is raised in a call that it makes.
    """
    if limit_s is None:
        yield
        return

    def ring(*_: Any) -> None:
        raise OutOfTime

    handler = signal.signal(signal.SIGALRM, ring)
    alarm = signal.setitimer(signal.ITIMER_REAL, limit_s, 1.0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, *alarm)  # that somebody else had set
