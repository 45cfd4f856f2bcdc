"""The padded observation: what fits is laid out, what does not is hidden newest first."""

from dataclasses import replace

import numpy as np
import pytest

from netllm_gym.envs.cjs.padding import PaddedSize, observation_space, pad
from netllm_gym.errors import InputError
from tests.policies.made_clusters import FINISHED, MadeJob, MadeStage, made_row, scattered_rows

CAN, CANNOT = MadeStage(4, 2000.0, schedulable=True), MadeStage(7, 500.0)
PAIR = MadeJob([CAN, CANNOT], [(0, 1)], supply=3)
TRIPLE = MadeJob([CANNOT, CAN, CAN], [(0, 1), (0, 2)], supply=1)


def padded_row(view, size):
    """Return what one row of padding is, by the obvious loop over jobs, stages and edges."""
    stages = [[0.0, 0.0, 0.0] for _ in range(size.max_stages)]
    stage_job, mask = [-1] * size.max_stages, [0] * size.max_stages
    edges, supply = [[-1, -1] for _ in range(size.num_edges)], [-1] * size.max_jobs
    num_stages = num_edges = shown = 0
    for job in range(int(view.num_jobs[0])):
        own = [stage for stage in range(len(view.stage_job)) if view.stage_job[stage] == job]
        inside = [edge for edge in view.edges.tolist() if edge[0] in own]
        fits = (
            job < size.max_jobs
            and num_stages + len(own) <= size.max_stages
            and num_edges + len(inside) <= size.num_edges
        )
        if not fits:
            break
        for stage in own:
            demand, seconds = max(int(view.demand[stage]), 0), view.duration_ms[stage] / 1000.0
            stages[stage] = [float(view.remaining[stage]), float(demand), float(seconds)]
            stage_job[stage], mask[stage] = job, int(view.schedulable[stage])
        for edge in inside:
            edges[num_edges] = edge
            num_edges += 1
        supply[job] = int(view.supply[job])
        num_stages, shown = num_stages + len(own), shown + 1
    source = int(view.source_job[0])
    observation = {
        "stages": stages,
        "stage_job": stage_job,
        "edges": edges,
        "job_executors": supply,
        "committable": [int(view.committable[0])],
        "source_job": [source if source < shown else -1],
        "stage_mask": mask,
        "executor_mask": [int(n < view.committable[0]) for n in range(10)],
    }
    return observation, len(view.stage_id) - num_stages


@pytest.mark.parametrize("size", [(64, 8, None), (9, 8, None), (64, 2, None), (64, 8, 7)])
def test_padding_is_the_obvious_loop_over_jobs(size):
    view, size = scattered_rows(150, seed=3), PaddedSize(*size)
    demand = np.random.default_rng(0).integers(-3, 9, len(view.demand), np.int32)
    view = replace(view, demand=demand)  # below 0 where more executors come than are needed
    padded = pad(view, size, num_executors=10)
    space = observation_space(size, num_executors=10)
    for row in range(len(view)):
        observation, hidden = padded_row(view.take([row]), size)
        assert padded.hidden_stages[row] == hidden
        for key, part in observation.items():
            assert padded.observation[key][row].tolist() == part, key
        assert {key: part[row] for key, part in padded.observation.items()} in space
    assert padded.hidden_stages.any() == (size != PaddedSize(64, 8))


@pytest.mark.parametrize(
    ("size", "shown", "hidden"),
    [
        (PaddedSize(7, 3), 3, 0),
        (PaddedSize(6, 3), 2, 2),  # the third job's two stages do not fit beside 2 + 3
        (PaddedSize(7, 1), 1, 5),
        (PaddedSize(7, 3, 3), 2, 2),  # 1 + 2 edges fit, the last one does not
    ],
)
def test_the_newest_jobs_are_hidden_first_and_whole(size, shown, hidden):
    view = made_row([PAIR, TRIPLE, PAIR], source=2)
    padded = pad(view, size, num_executors=10)
    observation = {key: part[0].tolist() for key, part in padded.observation.items()}
    assert padded.hidden_stages.tolist() == [hidden]
    supply = [3, 1, 3][:shown]
    assert observation["job_executors"] == supply + [-1] * (size.max_jobs - shown)
    jobs = [0, 0, 1, 1, 1, 2, 2][: 7 - hidden]
    assert observation["stage_job"] == jobs + [-1] * (size.max_stages - len(jobs))
    assert observation["stage_mask"][: len(jobs)] == [1, 0, 0, 1, 1, 1, 0][: len(jobs)]
    assert sum(observation["stage_mask"]) == [0, 1, 3, 4][shown]
    assert observation["source_job"] == [2 if shown == 3 else -1]  # none that can be seen
    edges = [edge for edge in observation["edges"] if edge != [-1, -1]]
    assert edges == [[0, 1], [2, 3], [2, 4], [5, 6]][: [0, 1, 3, 4][shown]]


def test_an_old_job_that_does_not_fit_hides_the_small_ones_after_it():
    padded = pad(made_row([PAIR, TRIPLE, MadeJob([CAN])]), PaddedSize(4, 3), num_executors=10)
    assert padded.observation["stage_job"].tolist() == [[0, 0, -1, -1]]
    assert padded.hidden_stages.tolist() == [4]


def test_a_finished_row_shows_nothing():
    observation, hidden = pad(FINISHED, PaddedSize(3, 2), num_executors=10)
    assert hidden.tolist() == [0]
    assert not observation["stages"].any()
    assert not observation["executor_mask"].any()
    for key in ("stage_job", "edges", "job_executors", "source_job"):
        assert (observation[key] == -1).all()


@pytest.mark.parametrize("name", ["max_stages", "max_jobs", "max_edges"])
@pytest.mark.parametrize("value", [0, -1, 2**20 + 1])
def test_sizes_that_show_nothing_or_too_much_are_refused(name, value):
    with pytest.raises(InputError, match=rf"^{name} must be in 1\.\.1048576, got {value}$"):
        PaddedSize(**{name: value})
