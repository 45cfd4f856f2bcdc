"""Fetching, from a server on this machine that lays a made-up repository out as the real one is."""

import functools
import hashlib
import http.server
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from urllib.parse import unquote

import pytest

from netllm_gym.cli.main import run
from netllm_gym.data import fetch as fetching
from netllm_gym.data import published as manifest
from netllm_gym.data.abr.sets import load_trace_set
from netllm_gym.data.datasets import clean_split
from netllm_gym.data.fetch import fetch
from netllm_gym.data.published import Published, PublishedFile, PublishedSet, published
from netllm_gym.errors import InputError, MissingDataError

NAMES = [f"trace {number} http---a%20b?c#d&é_{number}" for number in range(12)]  # must be quoted
POINTERS = {"split": "made", "start_pointers": dict.fromkeys(NAMES, 1)}


def text_of(name):
    return f"0 1\n10 {1 + len(name)}\n20 {name.split()[1]}.5\n".encode()


def made_up():
    """Return a manifest of one set of twelve traces and a set of one video file."""
    files = tuple(
        PublishedFile(
            f"repo/traces/{name}",
            f"abr/traces/made/{name}",
            hashlib.sha256(text_of(name)).hexdigest(),
        )
        for name in NAMES
    )
    pointers = {"abr/start_pointers.json": POINTERS}
    one = PublishedSet("made", "traces", ("A. Author: A Work.",), 100, files, pointers)
    return Published("https://github.com/someone/something", "c0ffee", "MIT", {"made": one})


MADE = made_up().sets["made"]


class Server(http.server.ThreadingHTTPServer):
    """Serves a folder; `harm` is told each request and may answer in another way."""

    def __init__(self, folder):
        self.asked = []
        self.harm = lambda handler, number: False
        super().__init__(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder)))
        self.address = f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request, client_address):
        pass  # a client that was killed


class Handler(http.server.SimpleHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(Path(unquote(self.path)).name)
        if not self.server.harm(self, len(self.server.asked)):
            super().do_GET()

    def log_message(self, *args):
        pass


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """Return a folder laid out as the repository, whose manifest takes the real one's place."""
    for module in (fetching, manifest):
        monkeypatch.setattr(module, "published", made_up)
    monkeypatch.setattr(fetching, "ATTEMPTS", 1)  # a retry waits a second
    folder = tmp_path / "clone" / "repo" / "traces"
    folder.mkdir(parents=True)
    for name in NAMES:
        (folder / name).write_bytes(text_of(name))
    return tmp_path / "clone"


@pytest.fixture
def server(clone):
    with Server(clone) as made:
        thread = threading.Thread(target=made.serve_forever, args=(0.02,))
        thread.start()
        yield made
        made.shutdown()
        thread.join()


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("NETLLM_GYM_DATA", str(tmp_path / "home"))
    return tmp_path / "home"


def all_files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_what_is_fetched_can_be_named_and_is_fetched_once(server, home):
    seen = []
    done = fetch(MADE, home, server.address, lambda *progress: seen.append(progress[:2]))
    assert done == (12, 12, 0)
    assert seen == [(number, 12) for number in range(1, 13)]
    assert sorted(server.asked) == sorted(NAMES)
    made = load_trace_set("made")
    assert [trace.name for trace in made.traces] == sorted(NAMES)
    assert made.start_pointers == (1,) * 12
    assert all_files(home) == sorted(
        ["abr/start_pointers.json", *(f"abr/traces/made/{name}" for name in NAMES)]
    )
    assert fetch(MADE, home, server.address) == (12, 0, 0)
    assert len(server.asked) == 12


def test_a_wrong_file_is_refused_and_the_next_run_resumes(server, clone, home):
    path = clone / "repo" / "traces" / NAMES[7]
    path.write_bytes(text_of(NAMES[7]) + b"30 1\n")
    with pytest.raises(OSError, match="its SHA-256 is not") as caught:
        fetch(MADE, home, server.address)
    assert caught.value.filename.endswith("_7")
    assert not (home / "abr").exists()  # half a set has no name
    path.write_bytes(text_of(NAMES[7]))
    kept = len([file for file in all_files(home) if "_" in file])
    server.asked.clear()
    fetch(MADE, home, server.address)
    assert len(server.asked) == 12 - kept
    assert len(load_trace_set("made").traces) == 12


@pytest.mark.parametrize(
    ("harm", "why"),
    [
        (lambda handler: handler.send_error(429), "status 429"),
        (lambda handler: handler.connection.close(), "ConnectionError"),
        (
            lambda handler: (
                handler.send_response(200),
                handler.send_header("Content-Length", "5000"),
                handler.end_headers(),
                handler.wfile.write(b"0 1\n"),
            ),
            "ChunkedEncodingError",
        ),
    ],
)
def test_a_server_that_fails_midway(server, home, monkeypatch, harm, why):
    monkeypatch.setattr(fetching, "CONNECTIONS", 1)  # so that five come, and the sixth fails
    server.harm = lambda handler, number: number > 5 and (harm(handler), True)[1]
    with pytest.raises(OSError, match=why) as caught:
        fetch(MADE, home, server.address)
    assert "5 fetched files are kept and the same command goes on" in caught.value.strerror
    assert len(server.asked) <= 7  # the rest is not begun
    server.harm = lambda handler, number: False
    server.asked.clear()
    fetch(MADE, home, server.address)
    assert len(server.asked) == 7
    assert len(load_trace_set("made").traces) == 12


def test_a_failure_is_tried_again(server, home, monkeypatch):
    monkeypatch.setattr(fetching, "ATTEMPTS", 2)
    server.harm = lambda handler, number: number == 3 and (handler.send_error(503), True)[1]
    assert fetch(MADE, home, server.address) == (12, 12, 0)
    assert len(server.asked) == 13


CLIENT = """
import sys
sys.path.insert(0, {tests!r})
import test_fetch
from netllm_gym.data import fetch
fetch.published = test_fetch.made_up
fetch.CONNECTIONS = 2
fetch.fetch(test_fetch.MADE, test_fetch.Path({home!r}), {address!r})
"""


def test_a_killed_client_resumes(server, home):
    killed = threading.Event()

    def trickle(handler, number):
        if number > 6:  # never ends: the client is killed while it waits
            handler.send_response(200)
            handler.send_header("Content-Length", "5000")
            handler.end_headers()
            handler.wfile.write(b"0 1\n")
            handler.wfile.flush()
            killed.wait(60)
        return number > 6

    server.harm = trickle
    program = CLIENT.format(
        tests=str(Path(__file__).parent), home=str(home), address=server.address
    )
    client = subprocess.Popen([sys.executable, "-c", program], env=os.environ)

    def left():
        return [Path(file).name for file in all_files(home)]

    until = time.monotonic() + 60
    while len(left()) < 8 and client.poll() is None and time.monotonic() < until:
        time.sleep(0.02)
    client.send_signal(signal.SIGKILL)
    client.wait()
    killed.set()
    left = left()
    assert len(set(left) & set(NAMES)) == 6
    assert len(set(left) - set(NAMES)) == 2  # two that were under way
    server.harm = lambda handler, number: False
    server.asked.clear()
    fetch(MADE, home, server.address)
    assert len(server.asked) == 6
    assert all_files(home) == sorted(
        ["abr/start_pointers.json", *(f"abr/traces/made/{name}" for name in NAMES)]
    )


def test_a_clone_does_without_a_network(clone, home):
    assert fetch(MADE, home, str(clone)) == (12, 12, 0)
    assert len(load_trace_set("made").traces) == 12


def test_a_wrong_clone_is_refused(clone, home, tmp_path):
    (clone / "repo" / "traces" / NAMES[3]).write_text("0 1\n")
    with pytest.raises(InputError, match=r"_3 must be the published file, got another.*c0ffee"):
        fetch(MADE, home, str(clone))
    (clone / "repo" / "traces" / NAMES[3]).unlink()
    with pytest.raises(MissingDataError, match=r"_3 must be on this machine"):
        fetch(MADE, home, str(clone))
    with pytest.raises(InputError, match="from must be an address or the folder of a clone"):
        fetch(MADE, home, str(tmp_path / "none"))
    for address in ("ftp://somewhere", "http://", "http://[bad"):
        with pytest.raises(InputError, match="from must be like https://host/folder"):
            fetch(MADE, home, address)
    assert not (home / "abr").exists()


def test_an_altered_file_is_mended_alone(server, home):
    fetch(MADE, home, server.address)
    (home / "abr" / "traces" / "made" / NAMES[2]).write_text("0 1\n1 1\n")
    (home / "abr" / "traces" / "made" / NAMES[4]).unlink()
    server.asked.clear()
    assert fetch(MADE, home, server.address) == (12, 2, 1)
    assert sorted(server.asked) == sorted([NAMES[2], NAMES[4]])
    assert (home / "abr" / "traces" / "made" / NAMES[2]).read_bytes() == text_of(NAMES[2])


@pytest.mark.parametrize(
    ("place", "text", "sentence"),
    [
        ("abr/traces/made/mine", "0 1\n1 1\n", "must hold the published files only, got mine"),
        ("abr/start_pointers.json", '{"split": "mine"}', "must be the published one, got another"),
        ("abr/start_pointers.json", "{", "must be JSON"),
        ("abr/traces", "", "must be a folder, got .*traces is a file"),
    ],
)
def test_what_a_user_has_there_is_left_alone(server, home, place, text, sentence):
    (home / place).parent.mkdir(parents=True)
    (home / place).write_text(text)
    with pytest.raises(InputError, match=sentence):
        fetch(MADE, home, server.address)
    assert all_files(home) == [place]
    assert (home / place).read_text() == text
    assert server.asked == []


def test_the_command_shows_licence_and_citation(capsys, server, home):
    assert run(["data", "fetch", "made", "--from", server.address]) == 0
    said = capsys.readouterr().out
    assert f"made: 12 files, 12 fetched, in {home}" in said
    assert "cite: A. Author: A Work." in said
    assert "licence: MIT" in said
    assert "NETLLM_GYM_DATA" not in said  # it is the data folder in use
    assert run(["data", "fetch", "made", "--from", server.address, "--to", f"{home}2"]) == 0
    assert f"set NETLLM_GYM_DATA={home}2 to use them by name" in capsys.readouterr().out


def test_without_a_network_the_command_says_the_manual_way(capsys, server, home):
    server.harm = lambda handler, number: (handler.connection.close(), True)[1]
    assert run(["data", "fetch", "made", "--from", server.address]) == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert "without a network get a clone of https://github.com/someone/something" in said
    assert "c0ffee checked out, and add --from CLONE" in said
    assert "Traceback" not in said


def test_an_unknown_name(capsys):
    assert run(["data", "fetch", "5g"]) == 2
    assert "name must be one of fcc, norway, video1, video2, got '5g'" in capsys.readouterr().err


def test_a_missing_set_says_how_to_fetch_it(capsys, home):
    for arguments, brings in (
        (["--traces", "fcc-test"], "fcc"),
        (["--traces", "clean-train"], "fcc"),
        (["--traces", "norway"], "norway"),
        (["--video", "video2"], "video2"),
    ):
        assert run(["bench", "abr", *arguments]) == 2
        assert f"netllm-gym data fetch {brings} brings it" in capsys.readouterr().err


def test_the_manifest_names_every_file_once():
    sets = published().sets
    assert {name: len(each.files) for name, each in sets.items()} == {
        **{"fcc": 235 + 150 + 100, "norway": 39},
        **{"video1": 6, "video2": 6},
    }
    for each in sets.values():
        assert len({file.target for file in each.files}) == len(each.files)
    train = {Path(file.target).name: file.sha256 for file in sets["fcc"].files}
    for part in clean_split().values():  # pinned by another hand, from the same files
        assert part.sha256.items() <= train.items()


def test_the_manifest_is_of_the_data_that_everything_was_measured_on(shared_data):
    for each in published().sets.values():
        for file in each.files:
            there = file.target.replace("traces/norway", "traces/fcc-train")
            assert fetching.has_sha256(shared_data / there, file.sha256), file.target
        for target, content in each.writes.items():
            assert fetching.read_json(shared_data / target) == content
