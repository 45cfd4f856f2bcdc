"""Run tasks in several processes: results come in order, and no process outlives the work.

The workers of `concurrent.futures` and joblib stay alive when the process that started them is
killed, they finish their tasks after Ctrl-C, and all of them write to one pipe, so that a worker
killed while it writes a result can leave the reader waiting for the rest of it. Here each thread of
a pool has a process and a pipe of its own.
"""

import os
import signal
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from multiprocessing import get_context, parent_process, resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.reduction import ForkingPickler
from queue import SimpleQueue
from traceback import format_exc
from typing import Any, NamedTuple, TypeVar

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
    idle: SimpleQueue[Connection[Any, Any]] = SimpleQueue()

    def ask(task: Task) -> Any:
        connection = idle.get()
        try:
            connection.send(task)
            answer: _Answer = ForkingPickler.loads(connection.recv_bytes())
        except (EOFError, OSError):
            raise ChildProcessError(
                "a process was killed, perhaps for its memory: "
                "run the same command again, with fewer workers, and it goes on"
            ) from None
        finally:
            idle.put(connection)
        if answer.error is not None:
            raise answer.error from ChildProcessError(answer.traceback)
        return answer.result

    with ThreadPoolExecutor(workers) as threads:
        try:
            with _children_ignore_interrupts():
                for _ in range(min(workers, len(tasks))):
                    connection, theirs = context.Pipe()
                    process = context.Process(
                        target=_run_worker, args=(function, theirs), daemon=True
                    )
                    process.start()
                    theirs.close()  # only the worker holds it now, so its death closes the pipe
                    started.append(process)
                    idle.put(connection)
            yield from threads.map(ask, tasks)
        finally:
            for process in started:
                process.kill()
                process.join()


class _Answer(NamedTuple):
    """The result of a task, or the error that it raised with its traceback."""

    result: Any
    error: Exception | None = None
    traceback: str = ""


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
            connection.send_bytes(_answer_of(function, connection.recv()))


def _answer_of(function: Callable[[Any], Any], task: Any) -> memoryview:
    """Call the function, and return its result or its error, pickled."""
    try:
        return ForkingPickler.dumps(_Answer(function(task)))
    except Exception as error:
        told = format_exc()
        try:
            answer = ForkingPickler.dumps(_Answer(None, error, told))
            ForkingPickler.loads(answer)  # some errors cannot be made again
        except Exception:
            return ForkingPickler.dumps(_Answer(None, RuntimeError(told), told))
        return answer


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
