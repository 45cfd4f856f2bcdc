"""Lower bounds of CJS: sums by hand, every subset tried, the simulator, the reference's bounds."""

import itertools
import json

import numpy as np
import pytest

from netllm_gym.data.cjs.named import workload
from netllm_gym.data.cjs.workload import Jobs, JobTemplate, Waves, Workload
from netllm_gym.envs.cjs.vector_env import CJSVectorEnv
from netllm_gym.errors import InputError
from netllm_gym.policies.baselines.cjs import SRPT, Fair
from netllm_gym.policies.baselines.cjs_bounds import _best_mix, lower_bound, stage_bounds_ms
from tests.policies.plain_cluster import SHARED, needs_plain


def constant(ms):
    """Durations of a stage whose tasks all take the same."""
    return [float(ms)]


def made(*jobs, arrival_ms=None):
    return Workload.of_jobs("made", jobs, arrival_ms=arrival_ms)


def at(*arrival_ms):
    return Jobs(np.arange(len(arrival_ms)), np.array(arrival_ms, float))


def test_a_job_alone_takes_its_longest_path_or_its_work_over_all_executors():
    # 4 executors. Stage 0: 2 tasks of 3 s at once, 3 s. Stage 1: 10 tasks of 1 s, 2.5 s on average
    # and 3 s in whole tasks. Stage 2 waits for both: 1 s. Work 6 + 10 + 1 = 17 s, 4.25 s each.
    job = JobTemplate(
        "j", [2, 10, 1], [(0, 2), (1, 2)], [constant(3e3), constant(1e3), constant(1e3)]
    )
    bound = lower_bound(made(job), at(0.0), 4, moving_delay_s=2.0)
    assert bound.critical_path_s == pytest.approx(2.0 + 17.0 / 4)
    assert bound.srpt_s == pytest.approx(2.0 + 17.0 / 4)
    # With 50 executors the path counts: 3 + 1.
    assert lower_bound(made(job), at(0.0), 50, 2.0).bound_s == pytest.approx(2.0 + 4.0)
    # One stage alone, 10 tasks on 4 executors: 2.5 in the mean, 3 in whole tasks.
    job = JobTemplate("j", [10], [], [constant(1e3)])
    assert lower_bound(made(job), at(0.0), 4, 0.0).bound_s == pytest.approx(2.5)
    assert lower_bound(made(job), at(0.0), 4, 0.0, sure=True).bound_s == pytest.approx(3.0)


def test_srpt_on_one_machine_lets_a_short_job_overtake():
    # One executor. 5 s of work at 0 s, 1 s of work at 2 s: done at 3 s and 6 s, 7 s in all; no
    # smaller sum is possible. Each alone: 5 + 1.
    long, short = (JobTemplate("j", [n], [], [constant(1e3)]) for n in (5, 1))
    bound = lower_bound(made(long, short), at(0.0, 2e3), 1, 0.0)
    assert bound.srpt_s == pytest.approx(7.0 / 2)
    assert bound.critical_path_s == pytest.approx(6.0 / 2)
    # Each job waits for one move.
    assert lower_bound(made(long, short), at(0.0, 2e3), 1, 2.0).srpt_s == pytest.approx(11.0 / 2)


def test_only_lists_that_the_executors_reach_count_and_minima_are_sure():
    levels = (5, 10, 20)
    waves = Waves(
        fresh=dict(zip(levels, ([], [700.0], [1.0]), strict=True)),
        first=dict(zip(levels, ([900.0, 500.0], [800.0], [2.0]), strict=True)),
        rest=dict(zip(levels, ([400.0, 100.0], [], [3.0]), strict=True)),
    )
    load = made(JobTemplate("j", [6], [], [waves]))
    # Up to 5 executors reach the first level only: f = 700, m = 250; with minima 500 and 100.
    # Work 700 + 5 x 250; on 4 executors 6 / 4 tasks each, in whole tasks 2.
    assert np.ravel(stage_bounds_ms(load, 4, sure=False)) == pytest.approx([1950.0, 825.0])
    assert np.ravel(stage_bounds_ms(load, 4, sure=True)) == pytest.approx([1000.0, 600.0])
    # 6 to 10 reach the second: the fresh list has mean 700 as well.
    assert np.ravel(stage_bounds_ms(load, 6, sure=False)) == pytest.approx([1950.0, 700.0])
    # Above 10 the third, where nothing takes long; a level that is not there is the third too.
    assert np.ravel(stage_bounds_ms(load, 11, sure=False)) == pytest.approx([6.0, 1.0])
    assert np.ravel(stage_bounds_ms(load, 999, sure=False)) == pytest.approx([6.0, 1.0])


def test_a_recording_counts_each_of_its_tasks():
    # Tasks of 1, 2 and 6 s on 2 executors: work 9 s, no less than 4.5 s, no less than 6 s.
    job = JobTemplate("j", [3], [], [[1e3, 2e3, 6e3]])
    recording = made(job, job, arrival_ms=[0.0, 1e3])
    for sure in (False, True):
        work_ms, time_ms = stage_bounds_ms(recording, 2, sure)
        assert work_ms.tolist() == [9e3, 9e3]
        assert time_ms.tolist() == [6e3, 6e3]


def plain_flow(release, work):
    """SRPT in steps of one: whole numbers only."""
    left, flow, now = list(work), 0, 0
    while any(left):
        there = [j for j in range(len(work)) if release[j] <= now and left[j]]
        if there:
            left[min(there, key=lambda j: left[j])] -= 1
        flow += len(there)
        now += 1
    return flow


def test_the_mix_is_nearly_the_best_of_all_subsets_and_never_above_it():
    rng = np.random.default_rng(0)
    ratios = []
    for _ in range(60):
        n = 7
        release = np.sort(rng.integers(0, 30, n)).astype(float)
        work = rng.integers(1, 12, n).astype(float)
        own = work + 3.0 + rng.integers(0, 25, n)
        best = max(
            own[list(alone)].sum()
            + plain_flow(np.delete(release, alone), np.delete(work, alone))
            + 3.0 * (n - len(alone))
            for size in range(n + 1)
            for alone in itertools.combinations(range(n), size)
        )
        found = _best_mix(release, work, own, 3.0)
        assert found <= best * (1 + 1e-12)
        assert found >= max(own.sum(), plain_flow(release, work) + 3.0 * n) * (1 - 1e-12)
        ratios.append(found / best)
    assert np.mean(ratios) > 0.995


def scattered(num_jobs=12, seed=0):
    """A workload with waves at two levels and some empty lists."""
    rng = np.random.default_rng(seed)

    def waves():
        lists = [
            {level: rng.integers(200, 3000, rng.integers(least, 4)) for level in (5, 10)}
            for least in (0, 1, 0)
        ]
        return Waves(*lists)

    def template(number):
        n = int(rng.integers(1, 5))
        edges = [(a, b) for a in range(n) for b in range(a + 1, n) if rng.random() < 0.5]
        tasks = rng.integers(1, 15, n).tolist()
        return JobTemplate(f"job {number}", tasks, edges, [waves() for _ in range(n)])

    return made(*[template(number) for number in range(num_jobs)])


@pytest.mark.parametrize("rule", [Fair, SRPT])
@pytest.mark.parametrize("num_executors", [1, 3, 12])
def test_no_job_of_any_run_beats_its_sure_bound(rule, num_executors):
    load = scattered()
    case = {"num_executors": num_executors, "num_jobs": 30, "mean_gap_s": 10.0}
    env = CJSVectorEnv(4, load, **case, padded=False, autoreset_mode="Disabled")
    policy = rule(env)
    seeds = np.arange(4)
    view, info = env.reset(options={"arrival_seed": seeds})
    policy.reset(seeds, seeds)
    rewards, over, compared = np.zeros(4), np.zeros(4, bool), 0
    while not over.all():
        view, rewards, terminated, truncated, info = env.step(policy.act(view, rewards, info))
        for row in np.flatnonzero((terminated | truncated) & ~over):
            jobs = load.draw_jobs(int(seeds[row]), 30, 10e3)
            bound = lower_bound(load, jobs, num_executors, 2.0, sure=True)
            assert bound.bound_s <= info["jct_s"][row] + 1e-9
            for job in range(30):
                alone = Jobs(jobs.template[job : job + 1], jobs.arrival_ms[job : job + 1])
                floor = lower_bound(load, alone, num_executors, 2.0, sure=True)
                assert floor.bound_s <= info["jct_list_s"][row][job] + 1e-9
                compared += 1
        over |= terminated | truncated
    assert compared == 120


def test_a_cluster_without_executors_is_refused():
    with pytest.raises(InputError, match="num_executors must be at least 1, got 0"):
        lower_bound(scattered(), at(0.0), 0, 2.0)


@needs_plain
def test_bounds_are_no_lower_than_the_reference():
    load = workload("tpch")
    for row in json.loads((SHARED / "reference/cjs/bounds.json").read_text()):
        jobs = load.draw_jobs(row["seed"], row["jobs"], 25e3)
        bound = lower_bound(load, jobs, row["E"], 2.0)
        sure = lower_bound(load, jobs, row["E"], 2.0, sure=True)
        assert bound.critical_path_s == pytest.approx(row["cp_lb_s"], rel=1e-9)
        assert bound.srpt_s == pytest.approx(row["srpt_lb_s"], rel=1e-9)
        # Ours searches a little further; above 1 % something would be wrong.
        assert 0.999999 < bound.bound_s / row["combined_lb_s"] < 1.01
        # Whole tasks on the path, and a first task that is no later one.
        assert 1.0 <= sure.bound_s / row["sure_combined_lb_s"] < 1.2
        assert sure.bound_s < bound.bound_s
