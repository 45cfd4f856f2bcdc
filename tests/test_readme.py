"""README and the pages of `docs/`: their programs and commands run, their links and names exist.

Commands are run with smaller numbers. The fast tests check that each command exists and knows all
of its options; the slow ones run them.
"""

import ast
import importlib.util
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from typer.core import TyperCommand

from netllm_gym.cli.main import run
from netllm_gym.data.abr.traces import write_cooked_trace
from netllm_gym.data.datasets import data_folder
from netllm_gym.data.published import find_published
from netllm_gym.problems.index import find_problem
from netllm_gym.training.methods import find_method

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
LINKED = [*PAGES, ROOT / "CONTRIBUTING.md"]
CARDS = sorted((ROOT / "netllm_gym" / "weights").rglob("card.md"))
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", flags=re.DOTALL | re.MULTILINE)
LESS_WORK = {
    r"learn\([\d_]+\)": "learn(64)",
    "ent_coef=0.01": "ent_coef=0.01, n_steps=64",
    r', "optimum"\]': "]",  # which takes seconds
    r"episodes=\d+": "episodes=4",
    r'"updates": \d+': '"updates": 2',
}
SMALLER_OPTIONS = {"--episodes": "4", "--updates": "2"}
REAL_DATA = re.compile(r"fcc|clean-|video1|big_buck_bunny|tpch")


class Snippet(NamedTuple):
    """A piece of Python or a command line on a page."""

    page: str
    text: str
    heading: str = ""


def blocks_of(page, language):
    """Return the texts of a page's blocks in a language."""
    return [text for named, text in BLOCK.findall(page.read_text("utf-8")) if named == language]


def commands_of(page):
    """Return the command lines of a page's blocks."""
    lines = [line for text in blocks_of(page, "") for line in text.splitlines()]
    return [line for line in lines if line.startswith("netllm-gym ")]


SNIPPETS = [
    Snippet(page.name, text, heading=part.partition("\n")[0])
    for page in PAGES
    for part in re.split(r"^##+ ", page.read_text("utf-8"), flags=re.MULTILINE)
    for named, text in BLOCK.findall(part)
    if named == "python"
]
COMMANDS = [Snippet(page.name, line) for page in PAGES for line in commands_of(page)]
CARD_COMMANDS = [
    Snippet(str(card.parent.name), " ".join(line.split()))
    for card in CARDS
    for line in re.findall(r"`(netllm-gym [^`]+)`", card.read_text("utf-8"))
]


@pytest.fixture
def desk(tmp_path, monkeypatch):
    """Return the folder in which a reader sits, with traces, a video, a policy and options."""
    trace_set, video = blocks_of(ROOT / "docs" / "abr.md", "json")
    (tmp_path / "my-traces").mkdir()
    (tmp_path / "my-traces" / "trace-set.json").write_text(trace_set)
    for name, kbps in (("walk", 2000.0), ("bus", 1000.0), ("train", 3000.0)):
        path = tmp_path / "my-traces" / name
        write_cooked_trace(path, 1000 * np.arange(100.0), np.full(100, kbps))  # ms, kbit/s
    (tmp_path / "my-video").mkdir()
    (tmp_path / "my-video" / "video.json").write_text(video)
    for rung, kbps in enumerate((300, 750, 1200)):
        sizes = "".join(f"{kbps * 500}\n" for _ in range(49))
        (tmp_path / "my-video" / f"video_size_{rung}").write_text(sizes)
    rules = blocks_of(ROOT / "docs" / "policies.md", "python")[0].partition("\nprint(")[0]
    (tmp_path / "my_rules.py").write_text(rules)
    [options] = blocks_of(ROOT / "docs" / "training.md", "toml")
    (tmp_path / "first.toml").write_text(options)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)  # as `main` does
    return tmp_path


def test_there_is_something_to_run():
    assert {each.page for each in SNIPPETS} == {
        *("README.md", "abr.md", "cjs.md", "vp.md", "policies.md", "training.md", "libraries.md")
    }
    named = {each.text.split()[1] for each in COMMANDS}
    assert {"bench", "collect", "train", "report", "data"} <= named


def with_marks(snippet):
    """Return a program as a parameter; slow are language models that train, and other libraries."""
    is_slow = "train(" in snippet.text or snippet.page == "libraries.md"
    named = f"{snippet.page} {snippet.heading}"
    return pytest.param(snippet, id=named, marks=[pytest.mark.slow] if is_slow else [])


def skip_without_its_libraries(program):
    """Skip if a library that a program imports is not installed."""
    imports = re.findall(r"^(?:from|import) (\w+)", program, flags=re.MULTILINE)
    for name in set(imports):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} must be installed")


@pytest.mark.usefixtures("desk")
@pytest.mark.parametrize("snippet", [with_marks(each) for each in SNIPPETS])
def test_python_programs_run(snippet, tmp_path, monkeypatch):
    text = snippet.text
    skip_without_its_libraries(text)
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    for pattern, small in LESS_WORK.items():
        text = re.sub(pattern, small, text)
    exec(compile(text, snippet.page, "exec"), {"__name__": "page"})


@pytest.mark.usefixtures("desk")
@pytest.mark.parametrize(
    "command", COMMANDS + CARD_COMMANDS, ids=lambda each: f"{each.page}: {each.text}"[:60]
)
def test_every_command_knows_its_options(command, monkeypatch, capsys):
    monkeypatch.setattr(TyperCommand, "invoke", lambda *_: None)  # options are read, nothing is run
    arguments = shlex.split(command.text, comments=True)[1:]
    assert run(arguments) == 0, capsys.readouterr().err
    if arguments[0] == "train" and "--help" not in " ".join(arguments):
        method, problem = arguments[1:3]
        assert find_method(method, find_problem(problem)).name == method


def made_small(command):
    """Return a command's arguments, with smaller numbers."""
    arguments = shlex.split(command, comments=True)[1:]
    arguments = [each.replace("~200+4000", "~2+4") for each in arguments]
    for option, value in SMALLER_OPTIONS.items():
        if option in arguments:
            arguments[arguments.index(option) + 1] = value
    if arguments[0] == "train" and "--out" in arguments and "--updates" not in arguments:
        arguments += ["--updates", SMALLER_OPTIONS["--updates"]]
    if arguments[:3] == ["train", "decima", "cjs"]:
        arguments += ["--pretrain-updates", "1"]
    if arguments[0] == "train" and arguments[1] in ("ppo", "udr", "genet", "decima"):
        arguments += ["--episodes", "12"]
    if "cjs" in arguments and arguments[:2] != ["train", "llm"]:
        arguments += ["--num-jobs", "5"]
    return arguments


def is_of_fetched_data(arguments):
    """Return whether it fetches data, or inspects or splits what was fetched."""
    return arguments[0] == "data" and bool(REAL_DATA.search(" ".join(arguments)))


@pytest.mark.slow
@pytest.mark.usefixtures("desk")
@pytest.mark.parametrize("page", sorted({each.page for each in COMMANDS}))
def test_commands_run_one_after_the_other(page, capsys):
    needed = ("traces/fcc-test", "videos/big_buck_bunny")
    has_data = all((data_folder() / "abr" / each).is_dir() for each in needed)
    for line in [each.text for each in COMMANDS if each.page == page]:
        arguments = made_small(line)
        if is_of_fetched_data(arguments) or (REAL_DATA.search(line) and not has_data):
            continue
        assert run(arguments) == 0, (line, capsys.readouterr().err)


@pytest.mark.slow
def test_data_commands_run_on_what_is_fetched(capsys, desk, monkeypatch, shared_data):
    # The repository as a clone would hold it; tests do not use the network.
    for name in ("fcc", "video1"):
        for file in find_published(name).files:
            place = desk / "clone" / file.source
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(data_folder() / file.target, place)
    monkeypatch.setenv("NETLLM_GYM_DATA", str(desk / "home"))
    printed = []
    for each in COMMANDS:
        arguments = shlex.split(each.text, comments=True)[1:]
        if is_of_fetched_data(arguments):
            source = ["--from", str(desk / "clone")] if arguments[1] == "fetch" else []
            assert run([*arguments, *source]) == 0, (each, capsys.readouterr().err)
            printed.append(capsys.readouterr().out)
    assert "491 files" in (ROOT / "docs" / "abr.md").read_text("utf-8")
    assert "42 byte-identical, 39 contained" in "".join(printed)
    assert run(["bench", "abr", "--policies", "bba", "--traces", "splits/mine/train.json"]) == 0


def anchors_of(page):
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings}


@pytest.mark.parametrize("page", LINKED, ids=[page.name for page in LINKED])
def test_links_lead_somewhere(page):
    text = BLOCK.sub("", page.read_text("utf-8"))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("http:", "https:")):
            continue
        file, _, anchor = target.partition("#")
        path = (page.parent / file).resolve() if file else page
        assert path.exists(), target
        if anchor:
            assert anchor in anchors_of(path), target


def names_in(path):
    """Return the names that a file defines: Name and Class.name."""
    found = set()
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{part.name}" for part in node.body if hasattr(part, "name")}
        if hasattr(node, "name"):
            found.add(node.name)
    return found


def test_the_walks_name_what_is_there():
    text = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    named = re.findall(r"`([\w/]+\.py):([\w.]+)`", text)
    assert len(named) > 30
    for file, name in named:
        assert name in names_in(ROOT / "netllm_gym" / file), f"{file}:{name}"


def test_the_drawing_of_the_folders_has_them_all():
    text = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    folders = {path.name for path in (ROOT / "netllm_gym").iterdir() if path.is_dir()}
    files = {path.stem for path in (ROOT / "netllm_gym").glob("[a-z]*.py")} - {"version"}
    drawing = next(iter(blocks_of(ROOT / "docs" / "architecture.md", "text")))
    for name in (folders | files) - {"weights", "__pycache__"}:
        assert re.search(rf"\b{name}\b", drawing), name
    for name in folders - {"__pycache__"}:
        assert f"`netllm_gym/{name}/`" in text, name


def test_the_main_table_shows_published_figures():
    path = ROOT / "benchmarks" / "results" / "abr" / "fcc-test.json"
    results = {each["policy"]: each for each in json.loads(path.read_text("utf-8"))["rows"]}
    lines = re.findall(r"^\| `(\w+)` \|.*\|$", (ROOT / "README.md").read_text("utf-8"), re.M)
    assert len(lines) > 5
    for name in lines:
        row = results[name]
        low, high = row["ci95"]
        cells = [f"{row['mean']:.4f} [{low:.3f}, {high:.3f}]"]
        if row["versus"]:
            low, high = row["versus"]["ci95"]
            cells.append(f"{row['versus']['mean']:+.4f} [{low:+.3f}, {high:+.3f}]")
        assert f"| {' | '.join(cells)} |" in (ROOT / "README.md").read_text("utf-8"), name


@pytest.mark.slow
def test_the_program_makes_the_pictures(tmp_path):
    program = ROOT / "docs" / "make_pictures.py"
    subprocess.run([sys.executable, str(program), "--out", str(tmp_path)], check=True, timeout=600)
    made = {path.name for path in tmp_path.iterdir()}
    assert made == {"abr.gif", "cluster.png"}
    assert max(path.stat().st_size for path in tmp_path.iterdir()) < 1_000_000
