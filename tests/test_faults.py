"""A machine that fails: the place is named, status 1, and what was there before is there after."""

import os
import resource
import signal
import subprocess
from contextlib import contextmanager

import pytest

from netllm_gym.cli.main import run
from netllm_gym.cli.progress import Progress
from tests.commands import files_of

COLLECT = ["collect", "abr", "--policies", "bba,lowest", "--episodes", "2"]
BENCH = ["bench", "abr", "--policies", "lowest"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Return a folder with a pool, traces to validate on and to bench, and a run of one update."""
    folder = tmp_path_factory.mktemp("made")
    for name in ("valid", "traces"):
        (folder / name).mkdir()
        (folder / name / "one").write_text("".join(f"{second} 2.5\n" for second in range(60)))
    assert run([*COLLECT, "--out", str(folder / "pool")]) == 0
    assert run(train_command(folder, folder / "run")) == 0
    return folder


def train_command(made, out):
    small = ["--layers", "1", "--updates", "2", "--batch-episodes", "2", "--threads", "1"]
    often = ["--checkpoint-every", "1", "--validate-every", "1"]
    where = ["--pool", made / "pool", "--validate-on", made / "valid", "--out", out]
    return ["train", "llm", "abr", *small, *often, *map(str, where)]


def commands(made, out):
    """Return every command that writes, and what must be named where it cannot."""
    return {
        "collect": ([*COLLECT, "--out", str(out / "pool")], out / "pool"),
        "train": (train_command(made, out / "run"), out / "run"),
        "bench": (
            [*BENCH, "--traces", str(made / "traces"), "--json", str(out / "table.json")],
            out / "table.json",
        ),
        "generate": (["data", "generate", "--count", "3", "--out", str(out / "new")], out / "new"),
        "demo": (["demo", "--out", str(out / "demo")], out / "demo"),
    }


WRITERS = ("collect", "train", "bench", "generate", "demo")


@contextmanager
def full_disk(holds_bytes=100):
    """Refuse every further byte of a file, as a disk that is full does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (holds_bytes, before[1]))
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)


@contextmanager
def read_only(folder):
    """Let nothing be written to a folder; for root, that takes a mount."""
    if os.geteuid() != 0:
        folder.chmod(0o555)
        try:
            yield
        finally:
            folder.chmod(0o755)
        return
    if subprocess.run(["mount", "--bind", folder, folder], capture_output=True).returncode:
        pytest.skip("root cannot be refused a folder where it cannot mount")
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", folder], check=True)
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


def failed(capsys, arguments, named, statuses=(1,)):
    """Run a command on a machine that fails, and check its one sentence."""
    capsys.readouterr()
    assert run(arguments) in statuses
    lines = capsys.readouterr().err.splitlines()
    sentence = lines.pop()
    assert sentence.startswith("netllm-gym: ")
    assert str(named) in sentence
    assert all(line.split()[0] in ("collect:", "train:", "bench:") for line in lines), lines
    return sentence


@pytest.mark.parametrize(
    ("name", "holds_bytes"),
    # Of a pool its description fits, of a run its metrics, then what is larger does not.
    [*((name, 100) for name in WRITERS), ("collect", 2000), ("train", 2000)],
)
def test_a_full_disk_is_named_and_what_was_written_is_resumed(
    capsys, tmp_path, made, name, holds_bytes
):
    arguments, named = commands(made, tmp_path)[name]
    with full_disk(holds_bytes):
        sentence = failed(capsys, arguments, named)
    assert "File too large" in sentence  # what this machine says; a full disk says so itself
    left = files_of(tmp_path)
    assert not [path for path in left if ".part" in path]
    assert not (tmp_path / "table.json").exists()
    assert not (tmp_path / "new").exists()
    if name != "demo":  # minutes
        assert run(arguments) == 0


@pytest.mark.parametrize("name", WRITERS)
def test_a_folder_that_cannot_be_written_to_is_named(capsys, tmp_path, made, name):
    arguments, named = commands(made, tmp_path)[name]
    with read_only(tmp_path):
        failed(capsys, arguments, named.parent, statuses=(1, 2))
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_an_earlier_checkpoint_as_it_was(capsys, monkeypatch, tmp_path, made):
    out = tmp_path / "run"
    arguments = train_command(made, out)

    def interrupted(self, done, total, detail=""):
        if done == 2:  # the first checkpoint is written, and the first best policy
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Progress, "update", interrupted)
        assert run(arguments) == 130
    before = without_metrics(out)
    assert {"last/state.json", "best/config.json"} <= before.keys()
    with full_disk(holds_bytes=2000):
        failed(capsys, arguments, out)
    assert without_metrics(out) == before
    assert run(arguments) == 0
    assert without_metrics(out) == without_metrics(made / "run")


def without_metrics(folder):
    """Return the files of a run but the one that holds times."""
    return {name: data for name, data in files_of(folder).items() if name != "metrics.jsonl"}


@pytest.mark.parametrize(
    ("harmed", "how"),
    [
        ("last/optimizer.safetensors", lambda data: data[: len(data) // 2]),
        ("last/optimizer.safetensors", lambda data: data[:-1] + bytes([data[-1] ^ 1])),
        ("last/policy.safetensors", lambda data: data[: len(data) // 2]),
        ("last/backbone.safetensors", lambda data: data[:-1] + bytes([data[-1] ^ 1])),
        ("last/state.json", lambda data: b'{"update": 1}'),
        ("last/state.json", lambda data: data.replace(b"run 2", b"run 9")),
        ("last/config.json", lambda data: data.replace(b"policy 1", b"policy 9")),
        ("last/config.json", lambda data: b"[" * 100_000),
        ("metrics.jsonl", lambda data: b"once upon a time\n" + data),
    ],
)
def test_a_harmed_run_is_named_and_the_rest_kept(capsys, made, harmed, how):
    out = made / "run"
    whole = files_of(out)
    (out / harmed).write_bytes(how(whole[harmed]))
    broken = files_of(out)
    failed(capsys, train_command(made, out), out / harmed, statuses=(2,))
    assert files_of(out) == broken
    (out / harmed).write_bytes(whole[harmed])
    assert run(train_command(made, out)) == 0
    assert without_metrics(out) == {name: whole[name] for name in without_metrics(out)}
