"""Work shared among processes: in order, whole, and over when one of them is."""

import multiprocessing
import os
import threading
import time
from contextlib import closing
from multiprocessing.connection import Connection

import pytest

from netllm_gym.collection.engines import map_in_order
from netllm_gym.errors import InputError

BIG = 10_000_000  # bytes; more than a pipe takes at once


def squared_late(number):
    time.sleep(0.2 if number == 0 else 0.0)
    return number**2


def refuse_two(number):
    if number == 2:
        raise InputError("number must not be two, got 2")
    return number


def die_while_speaking(dies):
    def send_some(connection, data):
        os.write(connection.fileno(), data[:10])
        os._exit(1)

    if dies:
        Connection._send = send_some  # of this process alone
    return bytes(BIG)


def own_pid(seconds):
    time.sleep(seconds)
    return os.getpid()


def told_by_files(task):
    """Begin and end in the sight of others; from the fourth on, end only when told to."""
    folder, number = task
    (folder / f"begun-{number}").touch()
    awaited = "ended-3" if number == 0 else f"end-{number}" if number > 3 else f"begun-{number}"
    wait_for(folder / awaited)
    (folder / f"ended-{number}").touch()
    return number


def wait_for(path, at_most_s=60.0):
    """Wait until a file is there; say whether it came."""
    end_s = time.monotonic() + at_most_s
    while not path.exists() and time.monotonic() < end_s:
        time.sleep(0.01)
    return path.exists()


class StubbornError(Exception):
    """Cannot be made again from what its pickle says."""

    def __init__(self, one, two):
        super().__init__(one)


def cannot_travel(kind):
    if kind == "error":
        raise StubbornError("one", "two")
    return threading.Lock()


@pytest.mark.parametrize("workers", [1, 2, 9])
def test_results_come_in_the_order_of_the_tasks(workers):
    assert list(map_in_order(squared_late, range(3), workers)) == [0, 1, 4]
    assert list(map_in_order(squared_late, [], workers)) == []
    assert not multiprocessing.active_children()


def test_the_work_is_shared():
    pids = set(map_in_order(own_pid, [0.0] * 4, 2))
    assert os.getpid() not in pids
    assert len(pids) == 2


def test_nobody_idles_while_results_are_handed_out(tmp_path):
    with closing(map_in_order(told_by_files, [(tmp_path, n) for n in range(8)], 2)) as made:
        assert next(made) == 0  # 1 to 3 were made meanwhile; the two are at 4 and 5
        for number in (4, 5):
            (tmp_path / f"end-{number}").touch()
            assert wait_for(tmp_path / f"ended-{number}")
        for number in (1, 2, 3):
            assert next(made) == number
            time.sleep(0.3)
        assert wait_for(tmp_path / "begun-7")  # though nobody has asked for 4 yet


@pytest.mark.parametrize(
    ("kind", "error", "sentence"),
    [("error", RuntimeError, "StubbornError: one"), ("result", TypeError, "cannot pickle")],
)
def test_what_cannot_travel_is_told_as_it_is(kind, error, sentence):
    with pytest.raises(error, match=sentence):
        list(map_in_order(cannot_travel, [kind], 2))
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("workers", [1, 2])
def test_what_a_task_raises_comes_after_the_results_before_it(workers):
    made = map_in_order(refuse_two, range(5), workers)
    assert [next(made), next(made)] == [0, 1]
    with pytest.raises(InputError, match="number must not be two, got 2"):
        next(made)
    assert not multiprocessing.active_children()


def test_a_process_that_dies_in_the_middle_of_its_result_is_noticed():
    made = map_in_order(die_while_speaking, [False, True, False, False], 2)
    assert len(next(made)) == BIG
    with pytest.raises(ChildProcessError, match="a process was killed"):
        next(made)
    assert not multiprocessing.active_children()


def test_who_ends_early_leaves_no_process():
    with closing(map_in_order(own_pid, [0.0] * 5, 2)) as made:
        next(made)
        assert multiprocessing.active_children()
    assert not multiprocessing.active_children()
