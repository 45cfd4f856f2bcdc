"""Files appear whole or not at all, whatever ends the process; a failing machine names them."""

import os

import pytest

from netllm_gym import files
from netllm_gym.errors import InputError
from netllm_gym.files import (
    check_can_be_folder,
    read_json,
    recover_folder,
    replace_folder,
    write_whole,
)


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
