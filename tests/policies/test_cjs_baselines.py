"""Rules for CJS: sums by hand, the reference's decisions, and each row as if it were alone."""

import random
import time
from types import SimpleNamespace

import numpy as np
import pytest

from netllm_gym.envs.cjs.observation import ClusterView
from netllm_gym.errors import InputError
from netllm_gym.policies.baselines.cjs import (
    FIFO,
    SJFCP,
    SRPT,
    Fair,
    FIFOHalf,
    Random,
    TunedSRPT,
    WeightedFair,
    critical_path_ms,
    suited_to_levels,
)
from tests.policies.made_clusters import FINISHED, MadeJob, MadeStage, made_row, scattered_rows
from tests.policies.plain_cluster import golden, needs_plain, plain, plain_action, replay, view_of

RULES = (FIFO, FIFOHalf, Fair, WeightedFair, SRPT, TunedSRPT, SJFCP, Random)


def choose(policy, view, seeds=None):
    """Return the actions of a first step."""
    policy = policy(SimpleNamespace(num_envs=len(view)))
    rows = np.arange(len(view))
    policy.reset(rows, rows if seeds is None else np.asarray(seeds))
    return policy.act(view, np.zeros(len(view)), {}).tolist()


def can(remaining=20, duration_ms=1000.0):
    return MadeStage(remaining, duration_ms, schedulable=True)


def cannot(remaining=20, duration_ms=1000.0):
    return MadeStage(remaining, duration_ms, schedulable=False)


def test_fair_brings_jobs_up_to_their_share_in_order_of_arrival():
    # Ten executors, three jobs: 4 each. The first has its share, the second lacks 1 of it.
    jobs = [MadeJob([can()], supply=4), MadeJob([can()], supply=3), MadeJob([can()])]
    assert choose(Fair, made_row(jobs, committable=5)) == [[1, 0]]
    # With only the second job's executors to commit it may have all of them.
    assert choose(Fair, made_row(jobs, committable=5, source=1)) == [[1, 4]]
    # A source without a stage to offer leaves them to the others.
    jobs[1] = MadeJob([cannot()], supply=3)
    assert choose(Fair, made_row(jobs, committable=5, source=1)) == [[2, 3]]
    # Nobody may have more: they stay, all of them.
    jobs[2] = MadeJob([can()], supply=4)
    assert choose(Fair, made_row(jobs, committable=5, source=1)) == [[-1, 4]]


def test_caps_of_fifo_are_the_cluster_and_half_of_it():
    # Eleven executors: half is 6, and the first job has 5.
    row = made_row([MadeJob([can()], supply=5), MadeJob([can()])], 4, num_executors=11)
    assert choose(FIFO, row) == [[0, 3]]
    assert choose(FIFOHalf, row) == [[0, 0]]


def test_a_stage_that_can_begin_at_once_comes_first():
    # Stage 1 waits for stage 0, which runs out of tasks; stage 2 waits for nobody.
    waits = MadeJob([cannot(0), can(), can()], [(0, 1)])
    assert choose(Fair, made_row([waits])) == [[2, 9]]
    # Where all wait, the first.
    waits = MadeJob([cannot(0), can(), can()], [(0, 1), (0, 2)])
    assert choose(Fair, made_row([waits])) == [[1, 9]]


def test_weighted_fair_shares_by_work_to_the_power_alpha():
    # 100 executors and work 1 : 9. alpha 1: 10 and 90; 0.5: 25 and 75; -1: 90 and 10.
    jobs = [MadeJob([can()], work_ms=100.0), MadeJob([can()], work_ms=900.0)]
    view = made_row(jobs, committable=100, num_executors=100)
    for alpha, share in ((1.0, 10), (0.5, 25), (-1.0, 90)):
        actions = choose(lambda env, alpha=alpha: WeightedFair(env, alpha), view)
        assert actions == [[0, share - 1]]
    with pytest.raises(InputError, match=r"alpha must be in -10\.\.10, got nan"):
        WeightedFair(SimpleNamespace(num_envs=1), float("nan"))


def test_weighted_fair_with_alpha_0_is_fair():
    view = scattered_rows(400, seed=1, num_executors=49)
    assert choose(lambda env: WeightedFair(env, 0.0), view) == choose(Fair, view)


def test_srpt_takes_the_job_with_least_work_left_and_what_it_can_use():
    # Work left: 40 tasks of 9 s and 90 of 1 s. Of 10 executors, at 25 s each and with 2 jobs, the
    # second can use sqrt(90 x 10 / (25 x 2)) = 4.2, so 5; it has 3.
    jobs = [MadeJob([can(40, 9000.0)]), MadeJob([can(60), can(30)], supply=3)]
    assert choose(SRPT, made_row(jobs)) == [[1, 1]]
    # Its own executors it may keep.
    assert choose(SRPT, made_row(jobs, source=1)) == [[1, 9]]
    # Once it has them, the other: sqrt(360 x 10 / 50) = 8.5, so 9.
    jobs[1] = MadeJob([can(60), can(30)], supply=5)
    assert choose(SRPT, made_row(jobs)) == [[0, 8]]
    for cost_s in (0.0, float("inf"), float("nan")):
        with pytest.raises(InputError, match="cost_s must be above 0 and finite"):
            SRPT(SimpleNamespace(num_envs=1), cost_s)


def test_tuned_srpt_takes_what_is_above_twice_its_use_from_a_job():
    # Work left: 360 s and 90 s, 10 executors at 40 s each. The second job puts off both, so it can
    # use sqrt(90 x 10 / (40 x 2)) = 3.35; the first only itself, sqrt(360 x 10 / 40) = 9.5, which
    # the levels 5 and 10 make 9.
    large = MadeJob([can(40, 9000.0)])
    small = [MadeJob([can(60), can(30)], supply=supply) for supply in (0, 3, 4, 10)]
    assert choose(TunedSRPT, made_row([large, small[0]])) == [[1, 3]]
    assert choose(TunedSRPT, made_row([large, small[1]])) == [[1, 0]]
    assert choose(TunedSRPT, made_row([large, small[2]])) == [[0, 8]]
    # Of its own ten it keeps 7 (6.7 rounded up); those are spoken for where only 3 are left.
    assert choose(TunedSRPT, made_row([large, small[3]], committable=10, source=1)) == [[1, 6]]
    assert choose(TunedSRPT, made_row([large, small[3]], committable=3, source=1)) == [[0, 2]]
    with pytest.raises(InputError, match="cost_s must be above 0 and finite, got 0"):
        TunedSRPT(SimpleNamespace(num_envs=1), 0.0)


def test_tuned_srpt_leaves_no_executor_idle_that_a_job_can_take():
    full = MadeJob([can(40, 9000.0)], supply=9)  # the 9 of above
    # The other job keeps more than twice its use if nobody else may have them.
    row = made_row([full, MadeJob([can(60), can(30)], supply=10)], committable=3, source=1)
    assert choose(TunedSRPT, row) == [[1, 2]]
    # Where it offers no stage, the first may have half as much again, here all ten of the cluster.
    row = made_row([full, MadeJob([cannot(60), cannot(30)], supply=10)], committable=3, source=1)
    assert choose(TunedSRPT, row) == [[0, 0]]


def test_executors_suited_to_levels_are_at_one_or_just_below_the_next():
    # 1.2 times 5, 10, 20, 50 are 6, 12, 24, 60; below the first and above the last stays.
    usable = np.array([0.5, 5.0, 5.5, 7.0, 10.0, 11.9, 12.1, 23.0, 25.0, 50.5, 100.0, 130.0])
    suited = [0.5, 5.0, 5.0, 9.0, 10.0, 10.0, 19.0, 20.0, 39.0, 50.0, 100.0, 130.0]
    assert suited_to_levels(usable).tolist() == suited


def test_sjf_cp_takes_the_shortest_job_by_total_work_and_its_critical_stage():
    # Job 1 has less left, job 0 was smaller in all. Its stage 1 leads to the long stage 2.
    diamond = MadeJob([can(9), can(3), cannot(100), cannot(1)], [(0, 3), (1, 2)], work_ms=1e5)
    view = made_row([diamond, MadeJob([can(1)], work_ms=2e5)])
    assert choose(SJFCP, view)[0][0] == 1
    assert choose(SRPT, view)[0][0] == 4


def test_critical_paths_equal_the_obvious_recursion():
    view = scattered_rows(60, seed=2)
    edges = view.stage_ptr[view.edge_row][:, None] + view.edges

    def longest(stage):
        after = [longest(child) for parent, child in edges if parent == stage]
        return float(view.remaining[stage]) * float(view.duration_ms[stage]) + max(after, default=0)

    expected = [longest(stage) for stage in range(len(view.remaining))]
    np.testing.assert_allclose(critical_path_ms(view), expected, rtol=1e-12)


def test_random_takes_each_offering_job_and_each_count_equally_often():
    jobs = [MadeJob([can()]), MadeJob([cannot()]), MadeJob([cannot(), can()]), MadeJob([can()])]
    view = ClusterView.concatenate([made_row(jobs, committable=3)] * 3000)
    stages, executors = np.array(choose(Random, view)).T
    # 9 pairs, 333 of each expected with a standard deviation of 17; the second job offers nothing.
    counts = np.histogram2d(stages, executors, (range(6), range(4)))[0]
    assert set(np.flatnonzero(counts.sum(axis=1))) == {0, 3, 4}
    assert np.abs(counts[[0, 3, 4]] - 3000 / 9).max() < 6 * 17


@pytest.mark.parametrize("rule", RULES)
def test_each_row_is_answered_as_if_alone(rule):
    view = scattered_rows(80, seed=3)
    together = choose(rule, view)
    alone = [choose(rule, view.take([row]), [row])[0] for row in range(len(view))]
    assert together == alone
    for row, (stage, executors) in enumerate(together):
        if stage >= 0:
            assert stage < view.num_stages[row]
            assert view.schedulable[view.stage_ptr[row] + stage]
        else:
            assert stage == -1
        assert 0 <= executors < max(view.committable[row], 1)


@pytest.mark.parametrize("rule", RULES)
def test_finished_rows_and_rows_without_a_choice_get_no_stage(rule):
    nothing = made_row([MadeJob([cannot()], supply=1)], committable=2, source=0)
    assert choose(rule, FINISHED) == [[-1, 0]]
    stages = [stage for stage, _ in choose(rule, ClusterView.concatenate([FINISHED, nothing] * 2))]
    assert stages == [-1] * 4


def test_a_fair_decision_costs_microseconds():
    view = scattered_rows(64, seed=4)
    policy = Fair(SimpleNamespace(num_envs=64))
    costs_s = []
    for _ in range(20):
        begun = time.process_time()
        policy.act(view, np.zeros(64), {})
        costs_s.append(time.process_time() - begun)
    assert min(costs_s) / 64 < 10e-6  # 1.5 where it was written


@needs_plain
@pytest.mark.parametrize(("rule", "kind"), [(Fair, "fair"), (FIFOHalf, "fifo")])
@pytest.mark.parametrize("size", ["jobs5_exec10", "jobs5_exec50", "jobs20_exec10"])
def test_decisions_are_the_reference_programs(rule, kind, size):
    run = golden(f"{kind}_seed1_{size}")
    sim = replay(run)
    policy = rule(SimpleNamespace(num_envs=1))
    for decision in run["decisions"]:
        action = plain_action(sim, policy.act(view_of([sim]), np.zeros(1), {})[0])
        stage, executors = decision["a"]
        assert action == (stage, executors), f"at {decision['t']} ms"
        sim.step(action)


@needs_plain
def test_rules_choose_what_the_plain_ones_do_whoever_plays():
    # Five clusters side by side, steered at random so that caps, sources and stages vary.
    module = plain()
    sims = [
        module.Sim(module.arrivals(seed, 12), 10, module.rng_sampler(random.Random(seed)))
        for seed in range(5)
    ]
    rng = random.Random(0)
    rows, compared = list(sims), 0
    while any(rows) and compared < 1500:
        view = view_of(rows)
        for rule, kind in ((Fair, "fair"), (FIFOHalf, "fifo")):
            actions = choose(rule, view)
            for sim, action in zip(rows, actions, strict=True):
                if sim is not None:
                    assert plain_action(sim, action) == module.heuristic(sim, kind)
                    compared += 1
        for i, sim in enumerate(rows):
            if sim is not None:
                _, done = sim.step((rng.randrange(len(sim.schedulable())), rng.randint(1, sim.C())))
                rows[i] = None if done else sim
    assert compared >= 1500
