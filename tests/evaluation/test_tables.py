"""Tables from files that anybody may have written: read as they were, or refused in a sentence."""

import copy
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netllm_gym.errors import InputError
from netllm_gym.evaluation.tables import Row, Table, read_table


def made_row(policy, per_episode, **changes):
    fields = {
        "policy": policy,
        "metric": "qoe",
        "mean": sum(per_episode) / len(per_episode),
        "ci95": (min(per_episode), max(per_episode)),
        "n": len(per_episode),
        "per_episode": per_episode,
        "decision_ms": 0.1,
        "components": {"bitrate_mbps": 1.0, "rebuffer_s": 0.0, "smoothness_mbps": 0.1},
        "trained_on": "",
        "versus": None,
        "upper_bound": None,
    }
    return Row(**{**fields, **changes})


def made_table(*rows):
    case = {"traces": "synthetic-test", "video": "synthetic"}
    return Table("abr", case, "abc", list(rows), members=[[0, 1]])


VERSUS = {"policy": "bba", "mean": 1.0, "ci95": (0.5, 1.5)}
TABLE = made_table(
    made_row("optimum", [2.0, 3.0], versus=VERSUS, upper_bound=2.5),
    made_row("bba", [1.0, 2.0], ci95=None),
)
CONTENT = json.loads(TABLE.to_json())


def write(path, content):
    path.write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")
    return path


def test_what_bench_writes_is_read_back(tmp_path):
    assert read_table(write(tmp_path / "t.json", TABLE.to_json())) == TABLE


def changed(place, value):
    """Return the content with one place changed, or taken away where `value` is `...`."""
    content = copy.deepcopy(CONTENT)
    inner = content
    for step in place[:-1]:
        inner = inner[step]
    if value is ...:
        del inner[place[-1]]
    else:
        inner[place[-1]] = value
    return content


@pytest.mark.parametrize(
    ("place", "value", "sentence"),
    [
        (("problem",), "vpn", "problem must be one of abr, cjs, vp, got 'vpn'"),
        (("problem",), ["abr"], "problem must be a valid string, got ['abr']"),
        (
            ("problem",),
            ...,
            "the table must have problem, got ['case', 'commit', 'failures', 'groups', 'members', ",
        ),
        (("case",), {}, "case must say what was evaluated, got {}"),
        (("case", "video"), 3, "case.video must be a valid string, got 3"),
        (("commit",), None, "commit must be a valid string, got None"),
        (("rows",), [], "rows must be a list of results, got []"),
        (("rows", 1), "bba", "rows[1] must be an object, got 'bba'"),
        (("rows", 0, "mean"), True, "rows[0].mean must be a valid number, got True"),
        (
            ("rows", 0, "mean"),
            1e13,
            "rows[0].mean must be a number within +-1e+12, got 10000000000000.0",
        ),
        (("rows", 0, "mean"), 9.0, "rows[0].mean must be the mean of per_episode, got 9.0"),
        (("rows", 0, "mean"), float("nan"), "rows[0].mean must be a finite number, got nan"),
        (("rows", 1, "n"), 3, "rows[1].n must count per_episode, 2, got 3"),
        (("rows", 1, "per_episode"), [1.0, "2"], "rows[1].per_episode[1] must be a valid number"),
        (("rows", 1, "per_episode"), ..., "rows[1] must have per_episode"),
        (("rows", 1, "ci95"), [2.0, 1.0], "rows[1].ci95 must have low <= high, got [2.0, 1.0]"),
        (("rows", 1, "ci95"), [1.0], "rows[1].ci95 must have 2 values or more, got [1.0]"),
        (("rows", 1, "metric"), "jct_s", "rows[1].metric must be qoe, got 'jct_s'"),
        (("rows", 1, "policy"), " ", "rows[1].policy must be a name, got ' '"),
        (("rows", 1, "policy"), "a\nb", "rows[1].policy must be text of one line"),
        (("rows", 1, "policy"), "\ud800", "the table must be JSON values, got 'utf-8' codec"),
        (("rows", 1, "policy"), "optimum", "policies must have different names, got 'optimum' 2"),
        (("rows", 1, "components"), {}, "rows[1].components must have bitrate_mbps, got []"),
        (("rows", 0, "versus", "policy"), "x", "rows[0].versus.policy must be a row of the table"),
        (("rows", 0, "upper_bound"), "1", "rows[0].upper_bound must be a valid number"),
        (("members",), {}, "members must be a valid array, got {}"),
        (("members",), [[0]], "members must have a group's number for each episode, got [[0]]"),
        (("members",), [[0, True]], "members[0][1] must be a valid integer, got True"),
        (("members",), [[0, 2]], "members must have a group's number for each episode"),
    ],
)
def test_a_wrong_place_is_named(tmp_path, place, value, sentence):
    path = write(tmp_path / "t.json", changed(place, value))
    with pytest.raises(InputError) as refused:
        read_table(path)
    assert f"{path}: {sentence}" in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("", "must be JSON, got"),
        ("{", "must be JSON, got"),
        ("[" * 100_000, "must be JSON, got"),
        ("1" * 10_000, "must be JSON, got"),
        ("[]", "the table must be an object, got []"),
    ],
)
def test_no_json_and_no_table(tmp_path, content, sentence):
    with pytest.raises(InputError) as refused:
        read_table(write(tmp_path / "t.json", content))
    assert sentence in str(refused.value)


def test_no_file_and_no_text(tmp_path):
    for path in (tmp_path, tmp_path / "none", write(tmp_path / "a", "") / "b"):
        with pytest.raises(InputError, match="table must be a file written by bench --json"):
            read_table(path)
    (tmp_path / "t.json").write_bytes(b"\xff{}")
    with pytest.raises(InputError, match=r"must be JSON, got .*utf-8"):
        read_table(tmp_path / "t.json")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)


def places(content, at=()):
    """Return the way to every place of a JSON value."""
    if isinstance(content, list):
        content = dict(enumerate(content))
    inner = content.items() if isinstance(content, dict) else ()
    found = [at] if at else []
    return found + [place for step, part in inner for place in places(part, (*at, step))]


def read_or_refused(path, data):
    path.write_bytes(data)
    try:
        table = read_table(path)
    except InputError as error:
        assert str(path) in str(error)  # noqa: PT017
        assert str(error).isprintable()  # noqa: PT017
        return
    for row in table.rows:
        assert len(row.per_episode) == row.n > 0
        assert np.isfinite([row.mean, *row.per_episode, *(row.ci95 or ())]).all()
        assert row.policy.strip()
        assert row.policy.isprintable()
    again = path.with_name("again.json")
    again.write_text(table.to_json())
    assert read_table(again) == table


CHANGED = st.tuples(st.sampled_from(places(CONTENT)), JSON | st.just(...))


@settings(max_examples=100)
@given(CHANGED)
def test_any_change_is_read_or_refused(tmp_path, change):
    read_or_refused(tmp_path / "t.json", json.dumps(changed(*change)).encode())


@pytest.mark.slow
@settings(max_examples=2_000)
@given(CHANGED.map(lambda change: json.dumps(changed(*change)).encode()) | st.binary())
def test_any_bytes_are_read_or_refused(tmp_path, data):
    read_or_refused(tmp_path / "t.json", data)
