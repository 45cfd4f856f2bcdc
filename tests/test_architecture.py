"""The floors of the house: which file may import what, and what no file may hold.

`FLOORS` is the drawing; the first pattern that fits a file is its floor. A file that fits none is
refused, so a new module must be put somewhere on purpose.
"""

import ast
import json
import shutil
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "netllm_gym"

ANY_PART = "*"
DATASETS = "data/datasets.py"
PUBLISHED = "data/published.py"
POLICY = "policies/policy.py"
GROUND = ("errors.py", "files.py", "pickled.py", "randomness.py", "numpy")
CONFIGS = "policies/configs.py"
ON_DISK = ("policies/checkpoint.py", "policies/runs.py")
SHARED = (
    *("policies/returns.py", "policies/cjs_graph.py", "policies/normal.py"),
    "policies/viewport_learning.py",
)
TOLD = (*GROUND, "envs/*", "data/*", POLICY, CONFIGS, *ON_DISK, "policies/baselines/*")
LEARNERS_MAY = (*TOLD, *SHARED)
FLOORS = {  # file: what it may import, beside the standard library and its own floor
    "errors.py": (),
    "files.py": ("errors.py",),
    "pickled.py": ("errors.py", "numpy"),
    "randomness.py": ("numpy",),
    "__init__.py": (ANY_PART,),
    "__main__.py": ("cli.py",),
    PUBLISHED: ("errors.py",),
    DATASETS: ("errors.py", PUBLISHED, "numpy", "platformdirs"),
    "data/fetch.py": ("errors.py", "files.py", PUBLISHED, DATASETS, "pooch"),
    "options.py": ("errors.py", "tomli"),
    "envs/*/simulator.py": (*GROUND, "envs/*", "numba"),
    "envs/*/rendering.py": (*GROUND, "envs/*", "matplotlib"),
    "envs/*": (*GROUND, "envs/*", DATASETS, PUBLISHED, "gymnasium"),
    "data/abr.py": (*GROUND, "envs/abr/observation.py"),
    "data/cjs.py": (*GROUND, "envs/cjs/observation.py"),
    "data/*": (*GROUND, DATASETS, "data/abr.py", "data/cjs.py"),
    POLICY: ("numpy",),
    CONFIGS: ("errors.py",),
    ON_DISK[0]: (*GROUND, "torch", "safetensors"),
    ON_DISK[1]: (*GROUND, ON_DISK[0], POLICY, "torch"),
    "policies/__init__.py": (),
    **dict.fromkeys(SHARED[:2], TOLD),
    SHARED[2]: ("numpy", "torch"),
    SHARED[3]: (*TOLD, "torch"),
    "policies/baselines/*": (*GROUND, "envs/*", DATASETS, POLICY, "numba"),
    "policies/neural/config.py": ("errors.py", CONFIGS),
    "policies/neural/*": (
        *LEARNERS_MAY,
        *("policies/neural/config.py", "rollout.py", "torch", "safetensors", "bayes_opt"),
    ),
    "policies/llm/playing.py": (  # beside a critic, which is a small network's
        *(*LEARNERS_MAY, "policies/llm/*", "torch"),
        *("policies/neural/abr_mlp.py", "policies/neural/networks.py"),
    ),
    "policies/llm/*": (
        *LEARNERS_MAY,
        *("torch", "transformers", "peft", "safetensors", "huggingface_hub"),
    ),
    "policies/offline/d3.py": ("policies/offline/config.py", "torch", "d3rlpy"),
    "policies/offline/*": (*LEARNERS_MAY, "policies/offline/d3.py", "torch"),
    "rollout.py": (*GROUND, "envs/*", "data/episode.py", POLICY, "gymnasium"),
    # The upper floors reach the heavy libraries only through the parts that own them.
    "cli*.py": (ANY_PART, "numpy", "rich", "typer"),
    "trace_picture.py": (ANY_PART, "numpy", "matplotlib"),
    "report.py": (ANY_PART, "numpy"),
    "charts.py": ("numpy",),
    "report_html.py": (ANY_PART, "numpy", "jinja2"),
    "*.py": (ANY_PART, "numpy", "gymnasium", "rich"),
}
NAMES_WITHOUT_A_SUBJECT = {
    *("base", "common", "constants", "core", "helper", "helpers", "misc", "util", "utils")
}
PICKLES = {"pickle", "_pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
# What a generator is made from; every other function of numpy.random draws from global state.
GENERATORS = {"default_rng", "Generator", "SeedSequence", "BitGenerator", "PCG64", "Philox"}


class Import(NamedTuple):
    """One imported module: a file of the package, or the name of a library."""

    line: int
    target: str


def floor_of(file: str) -> str | None:
    """Return the pattern of `FLOORS` that `file`, a path below the package, belongs to."""
    for pattern in FLOORS:
        # fnmatch lets * run across folders, which "*.py" must not.
        if fnmatch(file, pattern) and ("/" in pattern or "/" not in file):
            return pattern
    return None


def module_file(package: Path, dotted: str) -> str | None:
    """Return the path below the package of the module `dotted`, or None if there is none."""
    below = "/".join(dotted.split(".")[1:])
    for file in (f"{below}.py", f"{below}/__init__.py".lstrip("/")):
        if (package / file).is_file():
            return file
    return None


def imports(package: Path, path: Path) -> list[Import]:
    """Return all that `path` imports but the standard library."""
    dotted = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            dotted += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno} must import by the absolute name"
            # `from package import name` names a module or something inside one.
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                is_module = whole.startswith("netllm_gym.") and module_file(package, whole)
                dotted.append((node.lineno, whole if is_module else str(node.module)))
    found = set()
    for line, name in dotted:
        top = name.split(".")[0]
        if top == "netllm_gym":
            found.add(Import(line, module_file(package, name) or name))
        elif top not in sys.stdlib_module_names:
            found.add(Import(line, top))
    return sorted(found)


def may_import(file: str, target: str) -> bool:
    """Say whether `file` may import `target`."""
    floor = floor_of(file)
    if floor is None:
        return False
    inside = target.endswith(".py")  # else a library
    return (inside and floor_of(target) == floor) or any(
        inside if allowed == ANY_PART else fnmatch(target, allowed) for allowed in FLOORS[floor]
    )


def wrong_imports(package: Path) -> list[str]:
    """Return one sentence for each import that points the wrong way."""
    wrong = []
    for path in sorted(package.rglob("*.py")):
        file = path.relative_to(package).as_posix()
        if floor_of(file) is None:
            wrong.append(f"{file} must belong to a floor of tests/test_floors.py")
            continue
        wrong += [
            f"{file}:{line} must not import {target}"
            for line, target in imports(package, path)
            if not may_import(file, target)
        ]
    return wrong


def dotted_name(node: ast.AST) -> str:
    """Return `a.b.c` for an expression that is such a chain, else an empty string."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        left = dotted_name(node.value)
        return f"{left}.{node.attr}" if left else ""
    return ""


def wrong_words(path: Path) -> list[str]:
    """Return one phrase for each use of a pickle or of global randomness in a file."""
    wrong = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Attribute):
            names = [dotted_name(node)]
        elif isinstance(node, ast.keyword) and node.arg == "allow_pickle":
            if not (isinstance(node.value, ast.Constant) and node.value.value is False):
                wrong.append(f"{node.value.lineno}: allow_pickle must be False")
            continue
        for name in names:
            parts = name.replace("np.", "numpy.", 1).split(".")
            if parts[0] in PICKLES or parts[:2] in (["torch", "save"], ["torch", "load"]):
                wrong.append(f"{node.lineno}: {name} is a pickle")
            if parts[:2] == ["numpy", "random"] and not GENERATORS.issuperset(parts[2:3]):
                wrong.append(f"{node.lineno}: {name} is global randomness")
    return wrong


def forbidden_things(package: Path) -> list[str]:
    """Return one sentence for each name or word that no file of the package may have."""
    wrong = []
    for path in sorted(package.rglob("*.py")):
        file = path.relative_to(package).as_posix()
        wrong += [
            f"{file}: the name {part} says no subject"
            for part in Path(file).with_suffix("").parts
            if part in NAMES_WITHOUT_A_SUBJECT
        ]
        wrong += [f"{file}:{words}" for words in wrong_words(path)]
    return wrong


def test_imports_point_down():
    assert wrong_imports(PACKAGE) == []


def test_no_file_holds_what_is_forbidden():
    assert forbidden_things(PACKAGE) == []


@pytest.mark.parametrize(
    ("file", "line", "sentence"),
    [
        ("envs/abr/env.py", "import torch", "must not import torch"),
        ("envs/abr/env.py", "import numba", "must not import numba"),
        ("envs/abr/env.py", "def f():\n    import torch.nn", "must not import torch"),
        ("envs/abr/env.py", "from netllm_gym import rollout", "must not import rollout.py"),
        ("data/pool.py", "import netllm_gym.envs", "must not import envs/__init__.py"),
        (POLICY, "from netllm_gym.pools.episode import Episode", "must not import data/episode.py"),
        ("policies/baselines/abr.py", "from torch import nn", "must not import torch"),
        ("policies/neural/abr.py", "import transformers", "must not import transformers"),
        ("policies/llm/abr.py", "import d3rlpy", "must not import d3rlpy"),
        ("policies/offline/policy.py", "import d3rlpy", "must not import d3rlpy"),
        ("rollout.py", "import netllm_gym.evaluation.evaluate", "must not import evaluation.py"),
        ("cli.py", "import torch", "must not import torch"),
        ("attic/old.py", "", "must belong to a floor"),
    ],
)
def test_a_planted_import_is_caught(tmp_path, file, line, sentence):
    package = tmp_path / "netllm_gym"
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    # What the planted lines point at exists, whatever the package holds by then.
    for target in (file, "rollout.py", "evaluation.py", "data/episode.py"):
        (package / target).parent.mkdir(parents=True, exist_ok=True)
        (package / target).touch()
    before = wrong_imports(package)
    with (package / file).open("a", encoding="utf-8") as planted:
        planted.write(f"\n{line}\n")
    caught = wrong_imports(package) if line else before
    assert [words for words in caught if file in words and sentence in words]
    assert line == "" or len(caught) == len(before) + 1


@pytest.mark.parametrize(
    ("line", "phrase"),
    [
        ("import pickle", "pickle is a pickle"),
        ("from pickle import Unpickler", "pickle.Unpickler is a pickle"),
        ("torch.load('x.pt')", "torch.load is a pickle"),
        ("np.load('x.npy', allow_pickle=True)", "allow_pickle must be False"),
        ("np.load('x.npy', allow_pickle=flag)", "allow_pickle must be False"),
        ("np.random.seed(1)", "np.random.seed is global randomness"),
        ("x = numpy.random.rand()", "numpy.random.rand is global randomness"),
        ("from numpy.random import rand", "numpy.random.rand is global randomness"),
    ],
)
def test_a_planted_word_is_caught(tmp_path, line, phrase):
    planted = tmp_path / "planted.py"
    planted.write_text(f"{line}\n")
    assert len(wrong_words(planted)) == 1
    assert phrase in wrong_words(planted)[0]


def test_what_is_allowed_is_not_caught(tmp_path):
    (tmp_path / "fine.py").write_text(
        "import numpy as np\n"
        "rng: np.random.Generator = np.random.default_rng(np.random.SeedSequence(1))\n"
        "rng.random(); np.load('x.npz', allow_pickle=False)\n"
    )
    assert forbidden_things(tmp_path) == []


def test_a_name_without_a_subject_is_caught(tmp_path):
    (tmp_path / "helpers").mkdir()
    (tmp_path / "helpers" / "shapes.py").touch()
    (tmp_path / "utils.py").touch()
    assert len(forbidden_things(tmp_path)) == 2


def loaded_after(*statements: str) -> list[set[str]]:
    """Run statements in a fresh Python; return the heavy libraries loaded after each."""
    heavy = {"torch", "transformers", "peft", "d3rlpy", "numba", "scipy", "matplotlib"}
    report = f"print(json.dumps(sorted({heavy} & set(sys.modules))))"
    lines = ["import json, sys"]
    for statement in statements:
        lines += [statement, report]
    result = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)],
        cwd=PACKAGE.parent,
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
