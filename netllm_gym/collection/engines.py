"""Work shared among processes: results in order, and no process that outlives the work."""

import copy
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import get_context, parent_process, resource_tracker
from multiprocessing.connection import Connection, wait
from traceback import format_exc
from typing import Any, NamedTuple, TypeVar, cast

Task = TypeVar("Task")
Result = TypeVar("Result")


def map_in_order(
    function: Callable[[Task], Result], tasks: Sequence[Task], workers: int
) -> Generator[Result, None, None]:
    """Yield the result of each task in order, made by `workers` processes, or here if it is one.

    However this ends, no process outlives it; close the generator to end it early. Each process
    has a pipe of its own, which ends with it. Where all write to one pipe, half a result of a
    process that was killed makes the reader wait for the other half without end.

    Args:
        function: Importable by name; its tasks and results travel between processes.
        tasks: What it is called with.
        workers: Processes, at least 1.

    Raises:
        ChildProcessError: If a process was killed.
        Exception: What the function raised for a task, after the results of those before; a
            RuntimeError that tells of it if it cannot travel.
    """
    if workers == 1:
        yield from map(function, tasks)
        return
    context = get_context("spawn")
    team = []
    try:
        with _deaf_children():
            for _ in range(min(workers, len(tasks))):
                line, their_end = context.Pipe()
                process = context.Process(target=_serve, args=(function, their_end), daemon=True)
                process.start()
                their_end.close()  # now only the process holds it
                team.append((line, process))
        yield from _shared_among([line for line, _ in team], tasks)
    finally:
        for line, process in team:
            process.kill()
            process.join()
            line.close()


class _Answer(NamedTuple):
    """What comes of a task."""

    result: Any
    error: Exception | None = None
    told: str = ""  # where the error was raised


def _shared_among(
    lines: "Sequence[Connection[Any, Any]]", tasks: Sequence[Any]
) -> Generator[Any, None, None]:
    """Yield the results in order; who is at the other end of a line gets a task, then the next."""
    idle = list(lines)
    at_work: dict[Connection[Any, Any], int] = {}  # line: number of the task
    made: dict[int, _Answer] = {}
    waiting = iter(enumerate(tasks))
    for number in range(len(tasks)):
        while True:
            with _noticing_the_dead():
                for line, (begun, task) in zip(idle, waiting, strict=False):  # until one runs out
                    line.send(task)
                    at_work[line] = begun
                # What is there is taken in before its turn, so that who made it gets the next task.
                ready = wait(list(at_work), timeout=0 if number in made else None)
                idle = cast("list[Connection[Any, Any]]", ready)
                made.update((at_work.pop(line), line.recv()) for line in idle)
            if number in made and not idle:
                break
        answer = made.pop(number)
        if answer.error is not None:
            raise answer.error from ChildProcessError(answer.told)
        yield answer.result


@contextmanager
def _noticing_the_dead() -> Iterator[None]:
    try:
        yield
    except (EOFError, OSError):
        raise ChildProcessError(
            "a process was killed, perhaps for its memory: "
            "run the same command again, with fewer workers, and it goes on"
        ) from None


def _serve(function: Callable[[Any], Any], line: "Connection[Any, Any]") -> None:
    """Do tasks until the process that gives them ends this one, or ends itself."""

    def leave() -> None:
        family = parent_process()
        assert family is not None
        family.join()
        os._exit(1)

    threading.Thread(target=leave, daemon=True).start()
    with suppress(EOFError, OSError):  # the other end is closed
        while True:
            _reply(line, _answered(function, line.recv()))


def _answered(function: Callable[[Any], Any], task: Any) -> _Answer:
    """Return what comes of a task."""
    try:
        return _Answer(function(task))
    except Exception as error:
        told = format_exc()
        try:
            copy.copy(error)  # from its parts, as it will be made again at the other end
        except Exception:
            return _Answer(None, RuntimeError(told), told)
        return _Answer(None, error, told)


def _reply(line: "Connection[Any, Any]", answer: _Answer) -> None:
    """Send an answer, or say why it cannot be sent."""
    try:
        line.send(answer)
    except OSError:
        raise
    except Exception:  # nothing was sent yet
        told = format_exc()
        line.send(_Answer(None, RuntimeError(told), told))


@contextmanager
def _deaf_children() -> Iterator[None]:
    """Start processes that do not hear Ctrl-C: it reaches them too, and they would all complain.

    What is blocked stays blocked in a process that is started meanwhile; this process hears of it
    at the end.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    resource_tracker.ensure_running()  # or it would be started below, and unblock
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
