"""The architecture: imports point down, nothing is named without a subject, little is loaded.

What may import what stands in `pyproject.toml`, `[tool.importlinter]`, and is drawn in
`docs/architecture.md`. Pickles and global randomness are refused by ruff's rules.
"""

import ast
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "netllm_gym"
NAMES_WITHOUT_A_SUBJECT = {
    *("base", "common", "constants", "core", "helper", "helpers", "misc", "util", "utils")
}


def lint_imports(root):
    """Check the contracts of pyproject.toml against the package in a folder."""
    return subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()"],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_imports_point_down_and_no_file_imports_itself_by_way_of_others():
    result = lint_imports(ROOT)
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize(
    ("file", "line", "sentence"),
    [
        (
            "envs/abr/env.py",
            "import netllm_gym.evaluation.rollout",
            "netllm_gym.envs is not allowed to import netllm_gym.evaluation",
        ),
        ("pools/pool.py", "import torch", "netllm_gym.pools is not allowed to import torch"),
    ],
)
def test_a_planted_import_is_caught(tmp_path, file, line, sentence):
    shutil.copytree(PACKAGE, tmp_path / "netllm_gym", ignore=shutil.ignore_patterns("*.nb*"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    with (tmp_path / "netllm_gym" / file).open("a", encoding="utf-8") as planted:
        planted.write(f"\n{line}\n")
    result = lint_imports(tmp_path)
    assert result.returncode != 0
    assert sentence in result.stdout


def test_no_module_has_a_name_without_a_subject():
    names = {part for path in PACKAGE.rglob("*.py") for part in path.with_suffix("").parts}
    assert not names & NAMES_WITHOUT_A_SUBJECT


def test_numpy_never_loads_a_pickle():
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
                assert isinstance(node.value, ast.Constant), f"{path}:{node.value.lineno}"
                assert node.value.value is False, f"{path}:{node.value.lineno}"


def loaded_after(*statements):
    """Run statements in a fresh Python; return the heavy libraries loaded after each."""
    heavy = {"torch", "transformers", "peft", "d3rlpy", "numba", "scipy", "matplotlib"}
    report = f"print(json.dumps(sorted({heavy} & set(sys.modules))))"
    lines = ["import json, sys"]
    for statement in statements:
        lines += [statement, report]
    result = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return [set(json.loads(line)) for line in result.stdout.splitlines()]


def test_an_environment_loads_no_torch_and_numba_only_to_run():
    imported, made, begun = loaded_after(
        "import netllm_gym",
        "import gymnasium; env = gymnasium.make('NetLLM-ABR-v0')",
        "env.reset(seed=0)",
    )
    assert imported == set()
    assert made == set()
    assert "torch" not in begun


def test_the_command_line_starts_without_the_model_stack():
    (loaded,) = loaded_after("import netllm_gym.cli.main")
    assert loaded == set()
