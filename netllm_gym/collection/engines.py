"""Run tasks in several processes: results come in order, and no process outlives the work.

`concurrent.futures` and joblib cannot promise this. Their workers stay alive when the process that
started them is killed, they finish their tasks after Ctrl-C, and all of them write to one pipe, so
that a worker killed while it writes a result can leave the reader waiting for the rest of it.
"""

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
    """Yield the result of each task, in the order of the tasks.

    The tasks run in this process if `workers` is 1, and otherwise in processes of their own, which
    are killed when the generator ends or is closed. Each of them has its own pipe.

    Args:
        function: Called with each task. It must be importable by name, and tasks and results must
            be picklable.
        tasks: What it is called with.
        workers: Number of processes, at least 1.

    Raises:
        ChildProcessError: If a process was killed.
        Exception: What the function raised for a task, after the results of the tasks before it;
            a RuntimeError with its traceback if the exception cannot be pickled.
    """
    if workers == 1:
        yield from map(function, tasks)
        return
    context = get_context("spawn")
    started = []
    try:
        with _children_ignore_interrupts():
            for _ in range(min(workers, len(tasks))):
                connection, their_end = context.Pipe()
                process = context.Process(
                    target=_run_worker, args=(function, their_end), daemon=True
                )
                process.start()
                their_end.close()  # only the worker holds it now, so its death closes the pipe
                started.append((connection, process))
        yield from _results_in_order([connection for connection, _ in started], tasks)
    finally:
        for connection, process in started:
            process.kill()
            process.join()
            connection.close()


class _Answer(NamedTuple):
    """The result of a task, or the error that it raised with its traceback."""

    result: Any
    error: Exception | None = None
    traceback: str = ""


def _results_in_order(
    connections: "Sequence[Connection[Any, Any]]", tasks: Sequence[Any]
) -> Generator[Any, None, None]:
    """Give tasks to the workers as they become idle, and yield the results in order."""
    idle = list(connections)
    busy: dict[Connection[Any, Any], int] = {}  # number of the task that the worker is doing
    answers: dict[int, _Answer] = {}  # by number of the task
    waiting = iter(enumerate(tasks))
    for number in range(len(tasks)):
        while True:
            with _lost_worker_as_error():
                for connection, (next_number, task) in zip(idle, waiting, strict=False):
                    connection.send(task)
                    busy[connection] = next_number
                # Answers are received before their turn, so that their workers get new tasks.
                ready = wait(list(busy), timeout=0 if number in answers else None)
                idle = cast("list[Connection[Any, Any]]", ready)
                answers.update((busy.pop(each), each.recv()) for each in idle)
            if number in answers and not idle:
                break
        answer = answers.pop(number)
        if answer.error is not None:
            raise answer.error from ChildProcessError(answer.traceback)
        yield answer.result


@contextmanager
def _lost_worker_as_error() -> Iterator[None]:
    """Turn the failure of a pipe, whose worker has died, into one sentence."""
    try:
        yield
    except (EOFError, OSError):
        raise ChildProcessError(
            "a process was killed, perhaps for its memory: "
            "run the same command again, with fewer workers, and it goes on"
        ) from None


def _run_worker(function: Callable[[Any], Any], connection: "Connection[Any, Any]") -> None:
    """Do tasks until this process is killed or its parent ends."""

    def exit_with_parent() -> None:
        parent = parent_process()
        assert parent is not None
        parent.join()
        os._exit(1)

    with suppress(EOFError, OSError, MemoryError):  # the parent has closed the pipe, or sees it
        try:
            threading.Thread(target=exit_with_parent, daemon=True).start()
        except RuntimeError:  # the machine has no more threads
            return
        while True:
            answer = _answer_of(function, connection.recv())
            try:
                connection.send(answer)
            except (OSError, MemoryError):
                raise
            except Exception:  # the result cannot be pickled, and nothing was sent yet
                traceback = format_exc()
                connection.send(_Answer(None, RuntimeError(traceback), traceback))


def _answer_of(function: Callable[[Any], Any], task: Any) -> _Answer:
    """Call the function, and return its result or its error."""
    try:
        return _Answer(function(task))
    except Exception as error:
        traceback = format_exc()
        try:
            copy.copy(error)  # made anew from its parts, as unpickling will do
        except Exception:
            return _Answer(None, RuntimeError(traceback), traceback)
        return _Answer(None, error, traceback)


@contextmanager
def _children_ignore_interrupts() -> Iterator[None]:
    """Start processes with Ctrl-C blocked: the terminal sends it to them too.

    A signal that is blocked here stays blocked in a process that is started meanwhile. This process
    receives it at the end of the block.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    resource_tracker.ensure_running()  # it would be started below otherwise, and unblock the signal
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
