"""Every snippet and every command of the README runs, with smaller numbers where it says large."""

import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest

from netllm_gym.cli.main import run
from netllm_gym.data.abr.traces import write_cooked_trace
from netllm_gym.data.datasets import data_folder
from netllm_gym.data.published import find_published

README = (Path(__file__).resolve().parents[1] / "README.md").read_text("utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", README, flags=re.DOTALL | re.MULTILINE)
SNIPPETS = [text for language, text in BLOCKS if language == "python"]
COMMANDS = [
    shlex.split(line, comments=True)[1:]
    for language, text in BLOCKS
    if not language
    for line in text.splitlines()
    if line.startswith("netllm-gym ")
]
SMALLER = {"--episodes": "4", "--updates": "2"}


@pytest.fixture
def desk(tmp_path, monkeypatch):
    """Return the folder in which a reader of the README sits, with traces and a video of theirs."""
    (tmp_path / "my-traces").mkdir()
    write_cooked_trace(tmp_path / "my-traces" / "walk", np.arange(100.0), np.full(100, 2.0))
    (tmp_path / "my-video").mkdir()
    for rung, kbps in enumerate((300, 750, 1200)):
        sizes = "".join(f"{kbps * 500}\n" for _ in range(49))
        (tmp_path / "my-video" / f"video_size_{rung}").write_text(sizes)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("desk")
@pytest.mark.parametrize("snippet", SNIPPETS)
def test_python_snippets_run(snippet):
    exec(compile(snippet, "README.md", "exec"), {"__name__": "readme"})


def test_there_is_something_to_run():
    assert len(SNIPPETS) == 4
    assert {"envs", "bench", "collect", "train", "report", "data"} <= {each[0] for each in COMMANDS}


@pytest.mark.slow
@pytest.mark.usefixtures("desk")
def test_commands_run_one_after_the_other(capsys):
    for command in COMMANDS:
        if command[:2] in (["data", "fetch"], ["data", "inspect"], ["data", "split"]):
            continue  # these need what is fetched; see below
        made_small = list(command)
        for option, value in SMALLER.items():
            if option in command:
                made_small[command.index(option) + 1] = value
        if command[0] == "train" and "--updates" not in command:
            made_small += ["--updates", SMALLER["--updates"]]
        if "decima" in command:
            made_small += ["--clone-updates", "1", "--num-jobs", "5", "--episodes", "12"]
        assert run(made_small) == 0, (command, capsys.readouterr().err)


@pytest.mark.slow
def test_data_commands_run_on_what_is_fetched(capsys, desk, monkeypatch, shared_data):
    # The repository as a clone would hold it; the network stands outside of tests.
    for name in ("fcc", "video1"):
        for file in find_published(name).files:
            place = desk / "clone" / file.source
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(data_folder() / file.target, place)
    monkeypatch.setenv("NETLLM_GYM_DATA", str(desk / "home"))
    printed = []
    for command in COMMANDS:
        if command[:2] in (["data", "fetch"], ["data", "inspect"], ["data", "split"]):
            source = ["--from", str(desk / "clone")] if command[1] == "fetch" else []
            assert run([*command, *source]) == 0, (command, capsys.readouterr().err)
            printed.append(capsys.readouterr().out)
    assert "491 files" in README
    assert "42 byte-identical, 39 contained" in printed[1]
    assert run(["bench", "abr", "--policies", "bba", "--traces", "splits/mine/train.json"]) == 0
