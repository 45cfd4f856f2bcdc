"""Options from a file: what they mean, what overrides them, and what is refused."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netllm_gym.cli.main import run
from netllm_gym.cli.options import read_options
from netllm_gym.errors import InputError

KNOWN = {"updates": "updates", "batch-episodes": "batch_episodes", "policies": "policies"}


def test_options_that_are_nested_without_end_or_in_no_file_are_refused(tmp_path):
    path = tmp_path / "options.toml"
    for text in ("a = " + "[" * 5000 + "]" * 5000, f"[{'a.' * 5000}b]\nepisodes = 1"):
        path.write_text(text)
        with pytest.raises(InputError, match=r"options\.toml must be TOML, got maximum recursion"):
            read_options(path, {"episodes": "episodes"})
    with pytest.raises(InputError, match="must be a file, got a pipe or a device"):
        read_options(Path("/dev/zero"), {})


def test_tables_group_and_lists_are_joined(tmp_path):
    file = tmp_path / "c.toml"
    file.write_text('policies = ["bba", "bola"]\n[schedule]\nbatch_episodes = 8\nupdates = 3\n')
    expected = {"policies": "bba,bola", "batch_episodes": "8", "updates": "3"}
    assert read_options(file, KNOWN) == expected


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("update = 3", "must hold options of this command only, got 'update'; did you mean updat"),
        ("batch_episodes = 3\nbatch-episodes = 3", "must name batch-episodes once"),
        ("updates = 1\nupdates = 2", "must be TOML"),
        ("updates = 1979-05-27", "updates in .* must be text, a number"),
        ("policies = [[1], 2]", "policies in .* must be text, a number"),
        ("updates", "must be TOML"),
    ],
)
def test_wrong_files_are_one_sentence(tmp_path, text, sentence):
    file = tmp_path / "c.toml"
    file.write_text(text)
    with pytest.raises(InputError, match=sentence):
        read_options(file, KNOWN)


ANY = st.binary(max_size=60) | st.text(max_size=60).map(lambda text: text.encode("utf-8"))


def is_read_or_refused(file, content):
    file.write_bytes(content)
    try:
        read = read_options(file, KNOWN)
    except InputError:
        return
    assert set(read) <= set(KNOWN.values())


@given(ANY)
def test_any_bytes_are_read_or_refused(tmp_path_factory, content):
    is_read_or_refused(tmp_path_factory.getbasetemp() / "c.toml", content)


@pytest.mark.slow
@settings(max_examples=2000)
@given(ANY)
def test_any_bytes_are_read_or_refused_2000_times(tmp_path_factory, content):
    is_read_or_refused(tmp_path_factory.getbasetemp() / "c.toml", content)


def test_the_command_line_wins_over_the_file(capsys, tmp_path):
    traces = tmp_path / "traces"
    traces.mkdir()
    (traces / "a").write_text("0 1\n100 2\n200 1.5\n")
    config, table = tmp_path / "c.toml", tmp_path / "table.json"
    config.write_text(f'traces = "{traces}"\npolicies = "bba,bola"\njson = "{table}"\n')
    assert run(["bench", "abr", "--config", str(config), "--policies", "lowest"]) == 0
    assert [row["policy"] for row in json.loads(table.read_text())["rows"]] == ["lowest"]
    for line, said in [
        ("seed = 1.5", "Invalid value for '--seed'"),
        ("config = 'x'", "must hold options of this command only, got 'config'"),
        ("pool = 'x'", "must hold options of this command only, got 'pool'"),
    ]:
        config.write_text(line)
        assert run(["bench", "abr", "--config", str(config)]) == 2
        assert said in capsys.readouterr().err
    assert run(["bench", "abr", "--config", str(tmp_path / "no.toml")]) == 2


def test_a_required_option_may_stand_in_the_file(capsys, tmp_path):
    config = tmp_path / "c.toml"
    config.write_text(
        f'policies = "bba"\nepisodes = 2\nout = "{tmp_path / "pool"}"\nnoise = true\n'
    )
    assert run(["collect", "abr", "--config", str(config)]) == 0
    meta = json.loads((tmp_path / "pool" / "meta.json").read_text())
    assert meta["env_spec"]["arguments"]["noise"] is True


def test_a_seed_draws_other_actions_on_the_same_traces(tmp_path):
    traces = tmp_path / "traces"
    traces.mkdir()
    (traces / "a").write_text("0 1\n100 2\n200 1.5\n")
    found = []
    for seed in ("0", "0", "1"):
        table = tmp_path / "table.json"
        arguments = ["--policies", "random,bba", "--traces", str(traces), "--json", str(table)]
        assert run(["bench", "abr", *arguments, "--seed", seed]) == 0
        rows = json.loads(table.read_text())["rows"]
        found.append({row["policy"]: row["per_episode"] for row in rows})
    assert found[0] == found[1]
    assert found[0]["bba"] == found[2]["bba"]
    assert found[0]["random"] != found[2]["random"]
    assert run(["bench", "abr", "--seed", "-1"]) == 2
