"""The fixed set of actions of CJS: by hand, against slow loops, and there and back."""

import numpy as np
import pytest

from netllm_gym.envs.cjs.observation import ClusterView
from netllm_gym.policies.baselines.cjs import SRPT
from netllm_gym.policies.cjs_graph import NUM_STAGE, choices_of, graph_of
from netllm_gym.policies.offline import cjs
from tests.policies.llm.made_cjs import empty_row
from tests.policies.made_clusters import MadeJob, MadeStage, made_row, scattered_rows
from tests.policies.offline.made import parts_of_features
from tests.pools.made_cjs import made_view

# Job 0 has 9 + 3 tasks of a second left, job 1 has 4, job 2 cannot be chosen from.
ROW = made_row(
    [
        MadeJob([MadeStage(9, schedulable=True), MadeStage(3, schedulable=True)], [(0, 1)]),
        MadeJob([MadeStage(1), MadeStage(3, schedulable=True)]),
        MadeJob([MadeStage(1)]),
    ],
    committable=5,
)


def test_the_job_with_the_least_left_comes_first_and_within_it_what_can_begin():
    menu = cjs.menu_of(ROW)
    # Stage 3 is the only one of job 1; of job 0 stage 1 waits for stage 0.
    assert menu.place[0].tolist() == [3, 0, 1] + [-1] * (cjs.NUM_SHOWN - 3)
    # What can be committed (5) or what it has tasks for (3, 9, 3), whichever is less.
    assert menu.limit[0].tolist() == [3, 5, 3] + [0] * (cjs.NUM_SHOWN - 3)


def test_levels_are_eighths_rounded_up_and_each_number_is_named_once():
    menu = cjs.menu_of(ROW)
    # Of 5: 0.625, 1.25, 1.875, 2.5, 3.125, 3.75, 4.375, 5.
    assert menu.levels[0, 1].tolist() == [1, 2, 2, 3, 4, 4, 5, 5]
    of_rank_1 = menu.allowed[0, 1 + cjs.NUM_LEVELS : 1 + 2 * cjs.NUM_LEVELS]
    assert of_rank_1.tolist() == [True, False, True, True, False, True, False, True]
    assert not menu.allowed[0, 1 + 3 * cjs.NUM_LEVELS :].any()  # no stage of these ranks


def test_a_number_between_two_levels_takes_the_nearer_and_of_equal_ones_the_higher():
    view = made_row([MadeJob([MadeStage(40, schedulable=True)])], 20, num_executors=50)
    menu = cjs.menu_of(view)
    assert menu.levels[0, 0].tolist() == [3, 5, 8, 10, 13, 15, 18, 20]
    decisions = np.array([[0, wanted - 1] for wanted in (1, 4, 5, 6, 7, 9, 20, 33)])
    rows = ClusterView.concatenate([view] * len(decisions))
    menu = cjs.menu_of(rows)
    numbered = cjs.number_actions(menu, decisions)
    given = cjs.decisions_of(menu, numbered.action)[:, 1] + 1
    # 4 lies between 3 and 5, 9 between 8 and 10; 33 would be cut to 20 by the cluster.
    assert given.tolist() == [3, 5, 5, 5, 8, 10, 20, 20]
    assert numbered.is_exact.tolist() == [
        wanted in (5, 20, 33) for wanted in (1, 4, 5, 6, 7, 9, 20, 33)
    ]


@pytest.mark.parametrize("seed", range(3))
def test_whatever_may_be_chosen_comes_back_as_itself(seed):
    view = scattered_rows(40, seed, num_executors=30)
    menu = cjs.menu_of(view)
    row, action = np.nonzero(menu.allowed)
    assert set(row.tolist()) == set(range(len(view)))  # at least one in each row
    some = cjs.menu_of(view.take(row))
    decisions = cjs.decisions_of(some, action)
    numbered = cjs.number_actions(some, decisions)
    np.testing.assert_array_equal(numbered.action, action)
    assert numbered.is_exact.all()
    choices = choices_of(view)
    for r, (place, executors) in zip(row, decisions, strict=True):
        column = choices.place[r].tolist().index(place)
        assert choices.allowed[r, column]
        assert 0 <= executors < choices.limit[r, column]


def test_stages_beyond_those_shown_have_no_action():
    many = [MadeJob([MadeStage(n + 1, schedulable=True)]) for n in range(cjs.NUM_SHOWN + 2)]
    view = made_row(many[::-1])  # the job with the least left is the last
    menu = cjs.menu_of(view)
    assert menu.place[0].tolist() == list(range(cjs.NUM_SHOWN + 1, 1, -1))
    both = ClusterView.concatenate([view, view, view])
    decisions = np.array([[0, 9], [2, 9], [-1, 0]])
    numbered = cjs.number_actions(cjs.menu_of(both), decisions)
    last = 1 + (cjs.NUM_SHOWN - 1) * cjs.NUM_LEVELS
    assert numbered.action[0] == cjs.NO_ACTION
    assert last <= numbered.action[1] < cjs.NUM_ACTIONS
    assert numbered.action[2] == 0
    assert numbered.is_exact.tolist() == [False, True, True]


def test_features_are_those_of_the_stage_of_each_rank_its_job_and_the_cluster():
    view, _ = made_view(3, num_steps=12)
    menu, graph = cjs.menu_of(view), graph_of(view)
    features = cjs.features_of(view, menu)
    assert features.shape == (12, cjs.NUM_FEATURES)
    for row in range(12):
        stages, cluster = parts_of_features(features[row])
        np.testing.assert_array_equal(cluster, graph.row[row])
        for rank, place in enumerate(menu.place[row]):
            if place < 0:
                assert not stages[rank].any()
                continue
            stage = view.stage_ptr[row] + place
            assert stages[rank, 0] == 1.0
            np.testing.assert_array_equal(stages[rank, 1 : 1 + NUM_STAGE], graph.stage[stage])
            job = graph.job[graph.job_of[stage]]
            np.testing.assert_array_equal(stages[rank, 1 + NUM_STAGE :], job)


def test_a_row_is_told_alone_as_among_others():
    view = scattered_rows(20, 5)
    menu = cjs.menu_of(view)
    features = cjs.features_of(view, menu)
    for row in range(20):
        alone = view.take([row])
        of_it = cjs.menu_of(alone)
        np.testing.assert_array_equal(of_it.place[0], menu.place[row])
        np.testing.assert_array_equal(of_it.allowed[0], menu.allowed[row])
        np.testing.assert_allclose(cjs.features_of(alone, of_it)[0], features[row], rtol=1e-6)


def test_the_first_rank_is_what_srpt_would_serve_where_nothing_is_capped():
    view = scattered_rows(60, 8)
    srpt = SRPT(None, cost_s=1e-9)  # so cheap that a job can use every executor
    stage = srpt.act(view, np.zeros(60), {})[:, 0]
    room = np.array(
        [
            (view.supply[view.job_ptr[r] : view.job_ptr[r + 1]] < view.num_executors[r]).all()
            for r in range(60)
        ]
    )
    offers = (stage >= 0) & room
    assert offers.sum() > 20
    np.testing.assert_array_equal(cjs.menu_of(view).place[offers, 0], stage[offers])


def test_a_finished_row_may_only_wait():
    view = ClusterView.concatenate([ROW, empty_row()])
    menu = cjs.menu_of(view)
    assert np.flatnonzero(menu.allowed[1]).tolist() == [0]
    assert cjs.decisions_of(menu, np.array([1, 0]))[1].tolist() == [-1, 0]
    assert np.isfinite(cjs.features_of(view, menu)).all()
