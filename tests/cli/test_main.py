"""The command line: what it prints, and one sentence with exit status 2 for whatever is wrong."""

import errno
import json
import os
import re
import sys

import pytest

from netllm_gym.cli.main import app, run
from netllm_gym.pools.pool import ExperiencePool
from netllm_gym.problems.index import find_problem
from netllm_gym.training.methods import METHODS

GOOD_TRACE = "0 1\n100 2\n200 1.5\n"


@pytest.fixture
def traces(tmp_path):
    folder = tmp_path / "traces"
    folder.mkdir()
    for name in ("a", "b"):
        (folder / name).write_text(GOOD_TRACE)
    return folder


def refused(capsys, *arguments):
    """Run a command that must fail as bad input, and return its one sentence."""
    assert run([str(argument) for argument in arguments]) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("netllm-gym: ")
    assert printed.err.count("\n") == 1
    assert "Traceback" not in printed.err
    return printed.err


def test_bench_prints_the_table_and_writes_it(capsys, tmp_path, traces):
    file = tmp_path / "table.json"
    arguments = ["bench", "abr", "--policies", "bba,lowest", "--traces", traces, "--json", file]
    assert run([str(argument) for argument in arguments]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert {lines[2].split()[0], lines[3].split()[0]} == {"bba", "lowest"}
    table = json.loads(file.read_text())
    assert [row["n"] for row in table["rows"]] == [2, 2]


def test_bench_shows_the_others_where_a_policy_fails(capsys, tmp_path, traces):
    policies = "tests.evaluation.test_evaluate:Failing,lowest"
    arguments = ["bench", "abr", "--policies", policies, "--traces", str(traces)]
    assert run([*arguments, "--time-limit-s", "60"]) == 2
    printed = capsys.readouterr()
    assert "failing  no result: raised ZeroDivisionError" in printed.out
    assert printed.out.splitlines()[2].startswith("lowest")
    assert "bench: 2/2 episodes lowest, 94 decisions" in printed.err
    assert run([*arguments[:3], policies.partition(",")[0], *arguments[4:]]) == 2
    assert "policy failing raised ZeroDivisionError" in capsys.readouterr().err


def test_collect_writes_a_pool(capsys, tmp_path, traces):
    out = tmp_path / "pool"
    asked = ["collect", "abr", "--policies", "bba", "--episodes", "3", "--out", str(out)]
    assert run([*asked, "--traces", str(traces)]) == 0
    assert "3 episodes, 141 steps" in capsys.readouterr().out
    assert len(ExperiencePool.load(out, "abr")) == 3


def test_generated_traces_can_be_played(capsys, tmp_path):
    out = tmp_path / "made"
    assert run(["data", "generate", "--out", str(out), "--count", "2"]) == 0
    assert run(["bench", "abr", "--policies", "lowest", "--traces", str(out)]) == 0
    assert "2 episodes" in capsys.readouterr().out


def test_lists_name_what_there_is(capsys):
    assert run(["envs"]) == 0
    assert "NetLLM-ABR-v0" in capsys.readouterr().out
    assert run(["data", "list"]) == 0
    assert "synthetic-markov-test" in capsys.readouterr().out


def test_every_command_has_help_with_an_example(capsys):
    commands = [[each.callback.__name__] for each in app.registered_commands]
    assert ["collect"] in commands
    for group in app.registered_groups:
        below = group.typer_instance.registered_commands
        commands += [[group.name, each.name] for each in below]
    commands += [["train"], *(["train", each.name] for each in METHODS)]
    assert ["data", "generate"] in commands
    for command in commands:
        assert run([*command, "--help"]) == 0
        assert "Example: netllm-gym" in capsys.readouterr().out, command


@pytest.mark.parametrize(
    ("file", "text", "sentence"),
    [
        ("a", "0 1\n1 x\n", "a:2: a line must be two numbers"),
        ("a", "0 1\n2 1\n1 1\n", "a:3: a line must be at or after the time of the row before"),
        ("b", "0 1\n1 -1\n", "b:2: a line must be a finite time and a finite rate of at least 0"),
        ("b", "0 0\n1 0\n", "capacity_mbps of trace b must be above 0"),
    ],
)
def test_bad_trace_is_one_sentence_with_its_file(capsys, tmp_path, traces, file, text, sentence):
    (traces / file).write_text(text)
    for command in (
        ["bench", "abr", "--policies", "bba", "--json", tmp_path / "out.json"],
        ["collect", "abr", "--policies", "bba", "--episodes", "1", "--out", tmp_path / "out"],
    ):
        said = refused(capsys, *command, "--traces", traces)
        assert sentence in said
        assert str(traces / file) in said
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "out.json").exists()


def test_missing_and_empty_folders(capsys, tmp_path):
    said = refused(capsys, "bench", "abr", "--traces", tmp_path / "none")
    assert "traces must be a folder or one of the sets" in said
    (tmp_path / "empty").mkdir()
    assert "got the empty folder" in refused(capsys, "bench", "abr", "--traces", tmp_path / "empty")


def test_sizes_of_unequal_length(capsys, tmp_path):
    for rung, column in enumerate(("1\n2\n3\n", "1\n2\n")):
        (tmp_path / f"video_size_{rung}").write_text(column)
    said = refused(capsys, "bench", "abr", "--video", tmp_path)
    assert "video_size_1 must list as many chunks as video_size_0, got 2 instead of 3" in said


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["bench", "abr", "--policies", "robust_mcp"], "did you mean robust_mpc"),
        (["bench", "abr", "--policies", "runs/no"], "got 'runs/no', and there is no such folder"),
        (
            ["bench", "abr", "--policies", "my_rules.py"],
            "a policy in a module is named module:Name",
        ),
        (["bench", "abr", "--policies", ","], "names must be one or more"),
        (["bench", "vpn"], "problem must be one of abr"),
        (
            ["bench", "abr", "--json", "/no/such/folder/t.json"],
            "json must be a file in an existing",
        ),
        (["bench", "abr", "--polices", "bba"], "No such option"),
        (["collect", "abr", "--policies", "bba", "--episodes", "x", "--out", "o"], "Invalid value"),
        (["data", "generate", "--out", "o", "--family", "5g"], "family must be one of synthetic"),
        (["data", "generate", "--out", "o", "--count", "0"], "count must be at least 1, got 0"),
        (["data", "generate", "--out", "o", "--seed", "-5"], "seed must be at least 0, got -5"),
        (["bench", "abr", "--json", "/"], "json must be a file in an existing folder, got /"),
        (["frobnicate"], "No such command"),
    ],
)
def test_wrong_arguments(capsys, monkeypatch, tmp_path, arguments, sentence):
    monkeypatch.chdir(tmp_path)
    assert sentence in refused(capsys, *arguments)
    assert not list(tmp_path.iterdir())


def test_altered_shard_and_foreign_pool(capsys, tmp_path, traces):
    pool, out = tmp_path / "pool", tmp_path / "run"
    case = ["--traces", str(traces)]
    run(["collect", "abr", "--policies", "bba", "--episodes", "2", "--out", str(pool), *case])
    capsys.readouterr()
    train = ["train", "llm", "abr", "--pool", pool, "--out", out, "--validate-on", traces]
    shard = pool / "shard-00000.npz"
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    assert "shard-00000.npz" in refused(capsys, *train)
    meta = json.loads((pool / "meta.json").read_text())
    (pool / "meta.json").write_text(json.dumps(meta | {"problem": "cjs"}))
    said = refused(capsys, *train)
    assert "must be a pool of abr, got one of cjs" in said
    assert not out.exists()


def test_a_trained_policy_is_benched_and_refused_without_its_adapter(capsys, tmp_path, traces):
    pool, out = tmp_path / "pool", tmp_path / "run"
    case = ["--traces", str(traces)]
    run(["collect", "abr", "--policies", "bba", "--episodes", "2", "--out", str(pool), *case])
    train = [
        "train",
        "llm",
        "abr",
        "--pool",
        str(pool),
        "--out",
        str(out),
        "--validate-on",
        str(traces),
    ]
    options = ["--context-steps", "8", "--throughput-weight", "0.1", "--updates", "2"]
    assert run([*train, "--adapt", "lora", "--init", "random", *options]) == 0
    config = json.loads((out / "best" / "config.json").read_text())["config"]
    assert (config["context_steps"], config["throughput_weight"]) == (8, 0.1)
    bench = ["bench", "abr", *case, "--policies", f"{out},bba"]
    capsys.readouterr()
    assert run(bench) == 0
    said = capsys.readouterr().out
    assert "leaky: saw" in said  # it was trained and chosen on what it plays here
    assert "selected on" in said
    assert run([*bench, "--versus", out.name]) == 0  # the name of its folder
    assert f"vs {out.name} [95 %]" in capsys.readouterr().out
    adapter = out / "best" / "adapter" / "adapter_model.safetensors"
    for harm in (lambda: adapter.write_bytes(b""), adapter.unlink):
        harm()
        said = refused(capsys, *bench, "--json", tmp_path / "table.json")
        assert str(adapter) in said
        assert not (tmp_path / "table.json").exists()


def test_a_missing_library_is_one_sentence(capsys, tmp_path, monkeypatch, traces):
    # As after `pip install netllm-gym` without an extra.
    monkeypatch.setitem(sys.modules, "torch", None)
    for module in [name for name in sys.modules if name.startswith("netllm_gym.policies.neural")]:
        monkeypatch.delitem(sys.modules, module)
    bench = ["bench", "abr", "--traces", traces, "--policies", "genet_reference"]
    assert "torch must be installed, got none: pip install 'netllm-gym[llm]'" in refused(
        capsys, *bench
    )


def test_a_module_that_a_users_module_lacks_is_named_with_who_imports_it(
    capsys, tmp_path, monkeypatch, traces
):
    (tmp_path / "my_own_policies.py").write_text("import no_such_module.part\n")
    monkeypatch.syspath_prepend(tmp_path)
    said = refused(capsys, "bench", "abr", "--traces", traces, "--policies", "my_own_policies:Mine")
    assert (
        "no_such_module must be installed, got no such module (it is imported by my_own_policies)"
    ) in said
    assert "pip install" not in said


def test_no_first_sentence_of_a_command_is_cut_off(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    for command in ([], ["data"]):
        assert run([*command, "--help"]) == 0
        listed = capsys.readouterr().out.partition("Commands:\n")[2].splitlines()
        assert len(listed) >= 8
        for line in listed:
            sentence = line.split(maxsplit=1)[1]
            assert sentence.endswith("."), line
            assert not sentence.endswith("..."), line
            assert len(sentence) <= 65, line


@pytest.mark.parametrize(("command", "case"), [("bench", "test_case"), ("collect", "default_case")])
def test_the_help_shows_the_options_of_the_problem_that_is_named(
    capsys, monkeypatch, command, case
):
    monkeypatch.setenv("COLUMNS", "80")

    def shown(*arguments):
        assert run([command, *arguments]) == 0
        text = capsys.readouterr().out.partition("Options:\n")[2]
        return text, set(re.findall(r"^  --([\w-]+)", text, re.MULTILINE))

    names = ["abr", "cjs"] + (["vp"] if command == "bench" else [])
    parts = {
        name: {each.replace("_", "-") for each in find_problem(name).case_options} for name in names
    }
    every = set().union(*parts.values())
    text, flags = shown("--help")
    assert len(text.splitlines()) <= 60
    assert {"traces", "workload", "config", "help-all"} <= flags
    assert shown("--help-all")[1] > every
    for name in names:
        row = find_problem(name)
        text, flags = shown(name, "--help")
        assert len(text.splitlines()) <= 40
        usual = {key for key, each in row.case_options.items() if not each.is_advanced}
        assert flags & every == {each.replace("_", "-") for each in usual}
        dataset = getattr(row, case)[row.dataset_option]
        told = re.sub(r"-\s+", "-", " ".join(text.split()))  # lines break after a hyphen
        assert f"[default: {dataset}]" in told.partition(f"--{row.dataset_option} ")[2][:300]
        if command == "bench":
            assert f"[default: {', '.join(row.default_policies)}]" in told
        assert shown(name, "--help-all")[1] & every == parts[name]


def test_no_arguments_show_the_help(capsys):
    assert run([]) == 0
    assert "bench" in capsys.readouterr().out


def test_an_option_of_another_problem_is_answered_with_what_the_command_takes(capsys, tmp_path):
    bench = ("bench", "abr", "--policies", "bba", "--num-jobs", 3)
    assert "left out for abr, which has traces, video, noise, " in refused(capsys, *bench)
    collect = ("collect", "abr", "--policies", "bba", "--episodes", 1, "--num-jobs", 3)
    said = refused(capsys, *collect, "--out", tmp_path / "pool")
    assert "left out for abr, which has traces, video, noise, " in said


RED = "\x1b[31m"


@pytest.mark.parametrize(
    ("error", "status", "sentence"),
    [
        (ImportError("libtorch_cpu.so: failed to map"), 1, "a library cannot be loaded on this"),
        (RuntimeError("can't start new thread"), 1, "this machine has too little memory for that"),
        (RuntimeError("[enforce] DefaultCPUAllocator: can't allocate memory"), 1, "too little"),
        (MemoryError(), 1, "this machine has too little memory for that: MemoryError"),
        (OSError(errno.ENAMETOOLONG, "File name too long", "aa"), 2, "aa: File name too long"),
        (IsADirectoryError(errno.EISDIR, "Is a directory", "a"), 2, "a: Is a directory"),
        (OSError(errno.ENOSPC, "No space left on device", "a"), 1, "a: No space left on device"),
    ],
)
def test_what_the_system_or_a_library_refuses_is_one_sentence(
    error, status, sentence, capsys, monkeypatch
):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr("netllm_gym.evaluation.evaluate.evaluate", fail)
    assert run(["bench", "abr", "--policies", "lowest"]) == status
    (line,) = capsys.readouterr().err.splitlines()
    assert sentence in line


def test_a_runtime_error_of_our_own_is_a_bug_and_keeps_its_traceback(monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("odd")

    monkeypatch.setattr("netllm_gym.evaluation.evaluate.evaluate", fail)
    with pytest.raises(RuntimeError, match="odd"):
        run(["bench", "abr", "--policies", "lowest"])


def test_text_from_outside_does_nothing_to_the_terminal(tmp_path, capsys):
    folder = tmp_path / f"{RED}a\nb"
    folder.mkdir()
    for number in range(2):
        lines = [f"{second} {1 + number + second % 3}\n" for second in range(200)]
        (folder / f"trace{number}\u202e{RED}").write_text("".join(lines))
    assert run(["data", "inspect", str(folder)]) == 0
    assert run(["bench", "abr", "--traces", str(folder), "--policies", "lowest"]) == 0
    assert run(["bench", "abr", "--policies", f"{RED}x\ny"]) == 2
    out, error = capsys.readouterr()
    assert "\x1b" not in out + error
    assert "\u202e" not in out
    assert r"\x1b[31ma" in out
    assert error.splitlines()[-1].startswith("netllm-gym: policy must be")
    assert r"\x1b[31mx\ny" in error.splitlines()[-1]


def test_report_reads_what_bench_wrote_of_a_folder_in_another_encoding(tmp_path, capsys):
    folder = tmp_path / os.fsdecode(b"caf\xe9\x1b")
    folder.mkdir()
    (folder / "trace").write_text("".join(f"{second} 1.5\n" for second in range(200)))
    table, page = tmp_path / "table.json", tmp_path / "page.html"
    arguments = ["--policies", "lowest,bba", "--json", str(table)]
    assert run(["bench", "abr", "--traces", str(folder), *arguments]) == 0
    assert r"caf\udce9\x1b x" in capsys.readouterr().out
    assert json.loads(table.read_text())["case"]["traces"].endswith(r"caf\udce9\x1b")
    assert run(["report", str(table), "--play", "none", "--out", str(page)]) == 0
    assert r"caf\udce9\x1b" in page.read_text()


def test_what_could_not_be_read_again_is_refused_before_anything_is_written(tmp_path, capsys):
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    folder.mkdir()
    (folder / "trace").write_text("".join(f"{second} 1.5\n" for second in range(200)))
    asked = ["--traces", str(folder), "--policies", "lowest", "--episodes", "1"]
    assert run(["collect", "abr", *asked, "--out", str(tmp_path / "pool")]) == 2
    assert "env_spec must be of UTF-8 text, got" in capsys.readouterr().err
    assert not (tmp_path / "pool").exists()
