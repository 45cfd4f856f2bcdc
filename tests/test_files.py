"""Files appear whole or not at all, whatever ends the process; a failing machine names them."""

import errno
import io
import os
import subprocess
import sys
import zipfile

import pytest

from netllm_gym import collect, files, train
from netllm_gym.errors import InputError
from netllm_gym.files import (
    check_archive,
    check_can_be_folder,
    counted,
    locked,
    read_json,
    read_regular,
    recover_folder,
    replace_folder,
    write_whole,
)


def test_one_thing_is_no_plural():
    assert [counted(number, "trace") for number in range(3)] == ["0 traces", "1 trace", "2 traces"]


def test_a_file_is_replaced_as_a_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "table.json"
    write_whole(path, b"old")

    def full(handle):
        raise OSError(28, "No space left on device")  # names no file, as write() does not

    with monkeypatch.context() as patch:
        patch.setattr(files.os, "fsync", full)
        with pytest.raises(OSError, match=r"No space left on device: .*/table\.json"):
            write_whole(path, b"new")
    assert path.read_bytes() == b"old"
    write_whole(path, b"new")
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["table.json"]


def test_a_folder_is_replaced_as_a_whole_or_not_at_all(tmp_path):
    folder = tmp_path / "policy"
    replace_folder(folder, lambda new: (new / "a").write_text("1") and None)
    replace_folder(folder, lambda new: (new / "b").write_text("2") and None)
    assert [path.name for path in folder.iterdir()] == ["b"]

    def fails(new):
        (new / "c").write_text("3")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        replace_folder(folder, fails)
    assert [path.name for path in folder.iterdir()] == ["b"]
    assert [path.name for path in tmp_path.iterdir()] == ["policy"]
    folder.rename(tmp_path / ".policy.old")  # a crash between the two renames
    replace_folder(folder, lambda new: (new / "d").write_text("4") and None)
    assert [path.name for path in tmp_path.iterdir()] == ["policy"]


@pytest.mark.parametrize("place", ["part", "old"])
def test_what_a_kill_left_of_a_folder_is_taken_away(tmp_path, place):
    folder = tmp_path / "last"
    left = tmp_path / f".last.{place}"
    left.mkdir()
    (left / "a").write_text("1")
    recover_folder(folder)  # .old is all that is left of it; .part was never whole
    assert os.listdir(tmp_path) == (["last"] if place == "old" else [])
    folder.mkdir(exist_ok=True)
    left.mkdir()
    recover_folder(folder)
    assert os.listdir(tmp_path) == ["last"]


def test_what_is_no_json_is_one_sentence_with_the_path(tmp_path):
    path = tmp_path / "state.json"
    for data in (b"", b"{", b"\xff\xfe\x00", b"[" * 100_000, b"1" * 5000):
        path.write_bytes(data)
        with pytest.raises(InputError, match=r"state\.json must be JSON, got [^\n]+$"):
            read_json(path)


def test_a_file_in_the_way_is_named(tmp_path):
    (tmp_path / "thesis").write_text("ten years")
    check_can_be_folder("out", tmp_path / "new" / "folder")
    for path in (tmp_path / "thesis", tmp_path / "thesis" / "run"):
        with pytest.raises(InputError, match=r"out must be a folder, got .*thesis is a file"):
            check_can_be_folder("out", path)


HOLDS = """
import sys
from pathlib import Path
from netllm_gym.files import locked
with locked(Path(sys.argv[1])):
    print("locked", flush=True)
    sys.stdin.read()
"""


def test_a_folder_is_locked_for_other_processes_until_its_own_dies(tmp_path):
    folder = tmp_path / "runs/first"
    command = [sys.executable, "-c", HOLDS, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"locked\n"
        with pytest.raises(InputError, match=r"first, which is in use by another process"):  # noqa: SIM117
            with locked(folder):
                pass
        assert os.listdir(folder) == []
        process.kill()
    with locked(folder):
        (folder / "a").touch()
    with locked(folder):
        pass
    assert os.listdir(folder) == ["a"]


def test_collect_and_train_write_to_no_folder_that_another_command_writes_to(tmp_path):
    with locked(tmp_path):
        with pytest.raises(InputError, match="in use by another process"):
            collect("abr", ["lowest"], 1, tmp_path)
        with pytest.raises(InputError, match="in use by another process"):
            train("abr", "ppo", tmp_path)


def test_a_locked_folder_in_which_nothing_was_written_is_taken_away(tmp_path):
    with pytest.raises(InputError, match="no such policy"), locked(tmp_path / "runs/first"):
        raise InputError("no such policy")
    assert os.listdir(tmp_path) == []


def test_a_file_system_without_locks_is_said(tmp_path, monkeypatch):
    def refuse(handle, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(files.fcntl, "flock", refuse)
    with pytest.warns(UserWarning, match="cannot be locked"), locked(tmp_path):
        pass


def test_only_regular_files_of_bounded_size_are_read(tmp_path):
    (tmp_path / "file").write_bytes(b"12345")
    (tmp_path / "link").symlink_to("file")
    assert read_regular(tmp_path / "link", 5) == b"12345"
    with pytest.raises(InputError, match=r"file must have at most 4 bytes, got 5"):
        read_regular(tmp_path / "file", 4)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zeros").symlink_to("/dev/zero")
    for name, kind in (("pipe", "a pipe"), ("zeros", "a pipe or a device"), ("", "a folder")):
        with pytest.raises(InputError, match=f"must be a file, got {kind}"):
            read_regular(tmp_path / name)


def test_archives_that_inflate_beyond_their_bound_or_repeat_a_name_are_refused():
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", bytes(1000))
        archive.writestr("b", bytes(1000))
        check_archive(archive, 2000)
        with pytest.raises(InputError, match="at most 1999 bytes, got 2000"):
            check_archive(archive, 1999)
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("a", b"")
        with pytest.raises(InputError, match="must have different names"):
            check_archive(archive, 2000)
