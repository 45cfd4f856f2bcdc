"""An episode of a table, played anew: which one, by whom, and that it is the table's."""

from dataclasses import replace

import pytest

from netllm_gym.errors import InputError
from netllm_gym.report.html import play_episode, render_report
from netllm_gym.report.replay import nameable_policies
from tests.evaluation.test_tables import TABLE, made_row, made_table
from tests.made_tables import abr_table, cjs_table


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return abr_table(tmp_path_factory.mktemp("traces"))


def test_the_played_trace_is_the_tables_episode(table):
    for number in range(3):
        for side in play_episode(table, ["bba", "robust_mpc"], number).sides:
            (row,) = (row for row in table.rows if row.policy == side.policy)
            assert side.in_table == row.per_episode[number]
            assert side.value == pytest.approx(side.in_table, abs=1e-12)
            assert not side.differs
    other = replace(table, rows=[replace(row, per_episode=[9.0] * row.n) for row in table.rows])
    played = play_episode(other, ["bba"], 0)
    assert played.sides[0].differs
    assert "The table says 9.0000 of this episode" in render_report([other], [played])


def test_the_episode_that_is_shown_is_the_median_one(table):
    # Differences of 3, 1, 2, 5, 4: the median, 3, is that of episode 0.
    rows = [row for row in table.rows if row.policy in ("bba", "lowest")]
    values = {"lowest": [0.0] * 5, "bba": [3.0, 1.0, 2.0, 5.0, 4.0]}
    made = replace(table, rows=[replace(row, per_episode=values[row.policy]) for row in rows])
    assert play_episode(made, ["bba", "lowest"]).number == 0
    assert play_episode(made, ["robust_mpc", "lowest"]).chosen == "the first"


def test_policies_that_can_be_named():
    mine = made_row("my-run", [5.0, 6.0])
    assert nameable_policies(made_table(mine, *TABLE.rows)) == ("bba", "optimum")
    assert nameable_policies(made_table(mine)) == ()
    rows = [made_row(name, [qoe]) for name, qoe in (("bola", 1.0), ("bba", 3.0), ("random", 2.0))]
    assert nameable_policies(made_table(*rows)) == ("bba", "random")


@pytest.mark.parametrize(
    ("policies", "number", "changes", "sentence"),
    [
        (["bba", "bola", "lowest"], None, {}, "play must name one or two policies, got 3"),
        (["bba", "bba"], None, {}, "policies must have different names, got 'bba' 2 times"),
        (["bab"], None, {}, "did you mean bba"),
        (["bba"], 5, {}, "episode must be in 0..4, got 5"),
        (["bba"], -1, {}, "episode must be in 0..4, got -1"),
        (["bba"], 0, {"traces": "none"}, "got 'none'; --play none leaves the played episode out"),
        (["bba"], 0, {"noise": "True"}, "case must have no noise to be played again, got 'True'"),
        (["bba"], 0, {"traces": "synthetic-test"}, "the table's 5 episodes, got 100 on this"),
    ],
)
def test_what_cannot_be_played_is_refused(table, policies, number, changes, sentence):
    with pytest.raises(InputError) as refused:
        play_episode(replace(table, case={**table.case, **changes}), policies, number)
    assert sentence in str(refused.value)


def test_a_case_of_numbers_is_played_from_the_text_of_a_table():
    table = cjs_table()
    assert table.case == {"workload": "synthetic", "num_executors": "8", "num_jobs": "12"}
    played = play_episode(table, ["fair", "srpt"], 6)  # the seventh: more than there are by default
    for side in played.sides:
        (row,) = (row for row in table.rows if row.policy == side.policy)
        assert side.value == side.in_table == row.per_episode[6]
    assert played.described == "workload synthetic, arrival seed 6"


@pytest.mark.parametrize(
    ("policies", "changes", "sentence"),
    [
        (["bound"], {}, "play must name policies that play, got bound, a limit"),
        (["fair"], {"num_jobs": "many"}, "num_jobs must be a whole number, got 'many'; --play"),
        (["fair"], {"num_jobs": "0"}, "num_jobs must be in 1..100000, got 0; --play none leaves"),
        (["fair"], {"reoffer_idle": "1"}, "case must have no reoffer_idle to be played again"),
    ],
)
def test_a_cluster_that_cannot_be_played_is_refused(policies, changes, sentence):
    row = made_row("fair", [1.0] * 6, components={}, metric="jct_s")
    table = replace(made_table(row), problem="cjs", case={"workload": "synthetic", **changes})
    with pytest.raises(InputError) as refused:
        play_episode(table, policies)
    assert sentence in str(refused.value)


def test_limits_are_not_played_and_bounds_keep_their_ink():
    table = cjs_table()
    assert nameable_policies(table) == ("srpt", "fifo_half")
    styles = {side.policy: side.style for side in play_episode(table, ["fair", "random"], 0).sides}
    # Rows are bound, srpt, fifo_half, fair: the bound has no colour, fair the third one. What the
    # table lacks has one behind all rows.
    assert styles == {"fair": "c2 d0", "random": "c5 d0"}
