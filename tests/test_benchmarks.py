"""Every program of `benchmarks/` still runs, with little to do, and its pages show its figures."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from netllm_gym.evaluation.evaluate import evaluate
from netllm_gym.evaluation.tables import read_table

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"
SMALL = {  # program -> options that give it little to do
    "abr_speed.py": (),
    "cjs_speed.py": ("--memory",),  # the rest of it takes minutes
    "llm_decision.py": ("--backbone", "tiny"),
    "pool_io.py": ("--steps", "100000"),
}


OTHERWISE = ("pages.py", "training_seeds.py")  # these have tests of their own
ALONE = sorted(path.name for path in FOLDER.glob("*.py") if path.name not in OTHERWISE)
PAGES = sorted(FOLDER.rglob("*.md"))


def training_seeds(*arguments):
    """Run the program that reads a table."""
    asked = [sys.executable, str(FOLDER / "training_seeds.py"), *map(str, arguments)]
    return subprocess.run(asked, capture_output=True, text=True, timeout=600)


def test_the_mean_over_training_seeds_is_that_of_the_rows(tmp_path):
    path = tmp_path / "table.json"
    case = {"traces": "synthetic-test", "video": "synthetic"}
    path.write_text(evaluate("abr", ["bba", "bola", "lowest"], case).to_json())
    bba, bola, lowest = (row.mean for row in read_table(path).rows)
    mean, less = (bba + bola) / 2, (bba + bola) / 2 - lowest
    ended = training_seeds(path, "--policies", "bba,bola", "--versus", "lowest")
    assert f" {mean:.4f} [" in ended.stdout
    assert f" {less:.4f} [" in ended.stdout
    assert f"of each: {bba - lowest:.4f}, {bola - lowest:.4f}" in ended.stdout
    ended = training_seeds(path, "--policies", "bba,bola", "--versus", "lowest,bba")  # each its own
    assert f"of each: {bba - lowest:.4f}, {bola - bba:.4f}" in ended.stdout
    ended = training_seeds(path, "--policies", "bba,bola", "--versus", "lowest,bba,bola")
    assert ended.stderr == "training_seeds: versus must name one row or 2, got 'lowest,bba,bola'\n"
    ended = training_seeds(path, "--policies", "bba,ppo", "--versus", "lowest")
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == f"training_seeds: policies must be rows of {path}, got 'ppo'\n"


def pages(folder, *arguments):
    """Run the program that fills in the tables of the pages."""
    asked = [sys.executable, str(folder / "pages.py"), *arguments]
    return subprocess.run(asked, capture_output=True, text=True, timeout=60)


@pytest.fixture
def copy(tmp_path):
    """Return a copy of the pages, their figures and their program."""
    return shutil.copytree(
        FOLDER, tmp_path / "benchmarks", ignore=shutil.ignore_patterns("__pycache__")
    )


def test_pages_show_the_figures_of_the_files():
    ended = pages(FOLDER, "--check")
    assert (ended.returncode, ended.stderr) == (0, "")


def test_a_number_changed_in_a_file_is_caught(copy):
    path = copy / "results" / "cjs" / "dagger.json"
    path.write_text(path.read_text().replace("48.62", "48.61"))
    ended = pages(copy, "--check")
    assert ended.returncode == 1
    assert "cjs/dagger.md" in ended.stderr
    assert "48.62" in (copy / "cjs" / "dagger.md").read_text()  # a check changes nothing
    assert pages(copy).returncode == 0
    assert "48.61" in (copy / "cjs" / "dagger.md").read_text()
    assert pages(copy, "--check").returncode == 0


def test_a_number_changed_in_a_page_is_caught(copy):
    page = copy / "README.md"
    published = page.read_text()
    page.write_text(published.replace("1.2229", "1.2230"))
    ended = pages(copy, "--check")
    assert (ended.returncode, "README.md" in ended.stderr) == (1, True)
    assert pages(copy).returncode == 0
    assert page.read_text() == published


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("dagger.json#models", "none.json#models", "there is no file results/cjs/none.json"),
        ("#models", "#model", "results/cjs/dagger.json has the tables models, not 'model'"),
        ("#models", "#models; columns: modle", "not modle"),
        ("<!-- end -->", "", "every <!-- table: FILE --> needs an <!-- end --> after it"),
    ],
)
def test_a_table_that_is_not_there_is_named(copy, old, new, sentence):
    page = copy / "cjs" / "dagger.md"
    page.write_text(page.read_text().replace(old, new, 1))
    ended = pages(copy, "--check")
    assert ended.returncode == 1
    assert ended.stderr.startswith("pages: cjs/dagger.md: ")
    assert ended.stderr.endswith(f"{sentence}\n")


def test_every_table_is_on_a_page():
    written = "".join(page.read_text("utf-8") for page in PAGES)
    for path in sorted(FOLDER.glob("results/*/*.json")):
        name = path.relative_to(FOLDER).as_posix()
        content = json.loads(path.read_text("utf-8"))
        for part in content.get("tables", [""]):
            asked = f"<!-- table: {name}#{part} -->" if part else f"<!-- table: {name} -->"
            assert asked in written, asked


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(FOLDER).as_posix())
def test_links_of_pages_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
        name, _, heading = link.partition("#")
        target = (page.parent / name).resolve()
        assert target.is_file(), link
        headings = re.findall(r"^#+ (.+)$", target.read_text("utf-8"), flags=re.MULTILINE)
        assert not heading or heading in [each.lower().replace(" ", "-") for each in headings], link


@pytest.mark.slow
@pytest.mark.parametrize("program", ALONE)
def test_it_runs_and_prints_what_it_found(program):
    asked = [sys.executable, str(FOLDER / program), *SMALL.get(program, ())]
    ended = subprocess.run(asked, capture_output=True, text=True, cwd=FOLDER.parent, timeout=600)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.strip()
