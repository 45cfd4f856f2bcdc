"""What is kept of an episode for pictures, against one that is worked out by hand."""

import numpy as np
import pytest

from netllm_gym.envs.cjs.batch import ClusterBatch
from netllm_gym.envs.cjs.playback import Playback
from netllm_gym.errors import InputError
from tests.envs.cjs.made_episode import ACTIONS, MADE


def begun(notes_tasks=True, num_rows=1, **arguments):
    batch = ClusterBatch(num_rows, **arguments)
    batch.notes_tasks = notes_tasks
    begins = np.ones(num_rows, np.bool_)
    batch.begin(begins, list(range(num_rows)), None, np.random.default_rng(0))
    return batch


def played(actions=ACTIONS):
    batch = begun(workload=MADE, num_executors=2)
    for action in actions:
        batch.step(np.array([action]))
    return Playback.of(batch)


def test_every_task_of_the_made_episode():
    whole = played()
    assert (whole.now_s, whole.num_executors) == (10.0, 2)
    tasks = zip(whole.executor, whole.job, whole.begin_s, whole.end_s, strict=True)
    assert [tuple(map(float, task)) for task in tasks] == [
        (0, 0, 2, 6),
        (1, 0, 2, 4),
        (1, 0, 4, 5),
        (0, 0, 6, 7),
        (1, 1, 7, 10),
    ]
    assert whole.jct_s.tolist() == [7.0, 5.0]


def test_curves_of_the_made_episode():
    busy, jobs = played().busy(), played().in_system()
    assert busy.border_s.tolist() == [0, 2, 4, 5, 6, 7, 10]
    assert busy.value.tolist() == [0, 2, 2, 1, 1, 1]
    assert (jobs.border_s.tolist(), jobs.value.tolist()) == ([0, 5, 7, 10], [1, 2, 1])


def test_tasks_of_one_job_one_after_the_other_are_a_spell():
    spells = [tuple(map(float, each)) for each in zip(*played().spells(), strict=True)]
    assert spells == [(0, 0, 2, 7), (1, 0, 2, 5), (1, 1, 7, 10)]
    late = [tuple(map(float, each)) for each in zip(*played().spells(since_s=5.0), strict=True)]
    assert late == [(0, 0, 2, 7), (1, 1, 7, 10)]


def test_an_episode_that_has_not_ended_is_cut_at_its_clock():
    now = played(ACTIONS[:1])
    assert now.now_s == 5.0
    assert now.end_s.tolist() == [6.0, 4.0, 5.0]  # the task that runs is known to its end
    assert now.jct_s.tolist() == [np.inf, np.inf]
    assert now.busy().border_s.tolist() == [0, 2, 4, 5]
    assert begun(workload=MADE).task_records(0).tolist() == []


def test_notes_change_nothing_and_hold_all_there_is():
    runs = []
    for notes in (False, True):
        batch = begun(notes, num_rows=3, num_executors=5, num_jobs=12)
        rewards = []
        while not batch.done.all():
            view = batch.view()
            first = [np.flatnonzero(view.take([row]).schedulable) for row in range(3)]
            slots = [int(legal[0]) if len(legal) else -1 for legal in first]
            rewards.append(batch.step(np.array([[slot, 2] for slot in slots])).reward)
        runs.append((batch, np.array(rewards)))
    (plain, one), (noted, other) = runs
    assert (one == other).all()
    for row in range(3):
        tasks, jobs = noted.task_records(row), noted.job_records(row)
        assert (jobs == plain.job_records(row)).all()
        stages = noted.state.stages[row][: jobs["num_stages"].sum()]
        assert (np.bincount(tasks["stage"]) == stages["num_tasks"]).all()
        assert (stages["job"][tasks["stage"]] == tasks["job"]).all()
        busy_ms = np.sum(tasks["end_ms"] - tasks["begin_ms"])
        assert busy_ms == pytest.approx(noted.state.rows["busy_ms"][row])
        for job, record in enumerate(jobs):
            own = tasks[tasks["job"] == job]
            assert own["end_ms"].max() == record["completion_ms"]
        for executor in range(5):  # one task at a time
            own = tasks[tasks["executor"] == executor]
            assert (own["begin_ms"][1:] >= own["end_ms"][:-1]).all()


def test_what_was_not_noted_is_not_read():
    with pytest.raises(InputError, match="tasks must be noted to be read"):
        Playback.of(begun(notes_tasks=False, workload=MADE))
