"""CJS: one forward for training and acting, masks that are exact, one policy for all sizes."""

import dataclasses
import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from netllm_gym.errors import InputError
from netllm_gym.policies.llm import cjs
from netllm_gym.policies.llm.checkpoint import load_llm_policy, load_model, save_llm_policy
from netllm_gym.policies.llm.model import LLMModel, inputs_of
from netllm_gym.policies.llm.policy import LLMPolicy, LLMPolicyFactory
from netllm_gym.policies.returns import ReturnSpec
from netllm_gym.pools.windows import Windows
from netllm_gym.training.llm import fit_llm
from netllm_gym.training.llm_config import TrainConfig
from netllm_gym.training.run import TrainingRun
from tests.policies.llm.made import SHAPES, shape_folder
from tests.policies.llm.made_cjs import (
    concatenate,
    empty_row,
    make_cjs_batch,
    make_cjs_config,
    make_cjs_episodes,
    make_cjs_model,
)
from tests.pools.made_cjs import assert_equal_views, made_view

KINDS = [*SHAPES, "tiny"]


def model_of(tmp_path, kind, **options):
    return make_cjs_model("tiny" if kind == "tiny" else shape_folder(tmp_path, kind), **options)


def at_once(model, batch):
    with torch.inference_mode():
        return model(inputs_of(batch))


def as_served(model, batch):
    """Decide in two parts over a cache, as if the teacher's choices were picked."""
    seen = []
    teacher = iter(batch["actions"][:, 0].T)

    def pick(logits):
        seen.append(logits)
        return next(teacher).numpy()

    with torch.inference_mode():
        cjs.CJSParts().decide(model, inputs_of(batch), None, pick)
    return cjs.Logits(*seen)


@pytest.mark.parametrize("kind", KINDS)
def test_two_parts_over_a_cache_equal_one_pass_with_the_teachers_stage(tmp_path, kind):
    model = model_of(tmp_path, kind)
    batch = make_cjs_batch(make_cjs_episodes())
    counts = batch["choices"].exists.sum(dim=1)
    assert len(counts.unique()) > 4  # rows of different sizes
    expected, found = at_once(model, batch), as_served(model, batch)
    for one, other in zip(expected, found, strict=True):
        finite = torch.isfinite(one)
        assert torch.equal(finite, torch.isfinite(other))
        assert one[finite].std() > 0.05
        assert (one - other)[finite].abs().max() < 1e-5


@pytest.mark.parametrize("kind", KINDS)
def test_a_decision_is_the_same_alone_and_among_others_of_other_sizes(tmp_path, kind):
    model = model_of(tmp_path, kind)
    episodes = make_cjs_episodes()
    whole = at_once(model, make_cjs_batch(episodes))
    for row in (0, 17, 40):
        alone = at_once(model, make_cjs_batch(episodes, [row]))
        for one, other in zip(alone, whole, strict=True):
            width = one.shape[1]
            torch.testing.assert_close(one[0], other[row, :width], rtol=1e-4, atol=1e-5)
            assert not torch.isfinite(other[row, width:]).any()


@pytest.mark.parametrize("kind", KINDS)
def test_stages_are_a_set_and_the_second_part_does_not_reach_the_first(tmp_path, kind):
    model = model_of(tmp_path, kind)
    batch = make_cjs_batch(make_cjs_episodes())
    rows = torch.arange(len(batch["mask"]))
    row = int(batch["choices"].exists.sum(dim=1).argmax())
    tokens = torch.randn(len(rows), 1, 5, model.norm.normalized_shape[0])
    inputs = {**inputs_of(batch), "exists": {}}
    order = torch.tensor([3, 0, 4, 1, 2])
    with torch.inference_mode():
        hidden = model.hidden({"choice": tokens}, inputs)["choice"]
        shuffled = model.hidden({"choice": tokens[:, :, order]}, inputs)["choice"]
        torch.testing.assert_close(shuffled, hidden[:, :, order], rtol=1e-4, atol=1e-5)
        # Whichever stage is said to be chosen, the logits of the choice stay.
        other = {**batch, "chosen": torch.where(rows == row, 2, batch["chosen"])}
        one, two = at_once(model, batch), at_once(model, other)
    torch.testing.assert_close(one.choice, two.choice, rtol=1e-5, atol=1e-6)
    assert not torch.equal(one.executors[row], two.executors[row])


def test_a_change_of_anything_in_sight_moves_the_choice(tmp_path):
    model = model_of(tmp_path, "llama")
    view, _ = made_view(1, num_steps=30)
    policy = LLMPolicy(model, len(view))
    before = policy.logits(view, np.zeros(len(view)))
    # Work of a stage that cannot be chosen, far from the sink of its job, or of another job.
    hidden = np.flatnonzero(~view.schedulable)
    changed = view.remaining.copy()
    changed[hidden] += 5
    more = dataclasses.replace(view, remaining=changed, num_tasks=view.num_tasks + 5)
    after = policy.logits(more, np.zeros(len(view)))
    rows = np.isin(np.arange(len(view)), view.stage_row[hidden]) & (
        np.bincount(view.stage_row, view.schedulable, len(view)) > 0
    )
    finite = np.isfinite(before) & np.isfinite(after)
    moved = (np.abs(np.where(finite, after, 0) - np.where(finite, before, 0)) > 1e-6).any(axis=1)
    assert rows.sum() > 10
    assert moved[rows].all()


def test_answers_of_the_teacher_become_choices_and_numbers_that_can_be_committed():
    view, _ = made_view(2, num_steps=60, num_executors=8)
    rng = np.random.default_rng(0)
    stage = (rng.random(60) * (view.num_stages + 1)).astype(np.int64) - 1  # any stage, or none
    executors = rng.integers(0, 8, 60)
    batch = {
        "observations": view,
        "returns": np.zeros((60, 1), np.float32),
        "targets": np.stack([stage, executors], axis=1)[:, None],
    }
    inputs = cjs.CJSParts().tensors(batch)
    left_out = 0
    for row in range(60):
        first = view.stage_ptr[row]
        can = np.flatnonzero(view.schedulable[first : view.stage_ptr[row + 1]]).tolist()
        # A stage that cannot be chosen counts as none, as in the simulator.
        chosen = 1 + can.index(stage[row]) if stage[row] in can else 0
        number = 0
        if chosen:
            demand = view.demand[first + stage[row]]
            number = min(executors[row] + 1, view.committable[row], demand) - 1
        assert inputs["actions"][row, 0].tolist() == [chosen, number]
        assert inputs["chosen"][row] == chosen
        allowed = bool(chosen) or bool(inputs["choices"].allowed[row, 0])
        assert bool(inputs["mask"][row, 0]) == allowed
        left_out += not allowed
    assert 0 < left_out < 60


def test_the_loss_is_that_of_both_parts_where_the_answer_is_allowed(tmp_path):
    model = model_of(tmp_path, "llama")
    batch = make_cjs_batch(make_cjs_episodes())
    logits = at_once(model, batch)
    loss, right = cjs.CJSParts().score(model.config, logits, batch)
    expected, stages, numbers = 0.0, [], []
    for row, (chosen, number) in enumerate(batch["actions"][:, 0].tolist()):
        if not batch["mask"][row, 0]:
            continue
        expected -= float(F.log_softmax(logits.choice[row], dim=0)[chosen])
        stages.append(int(logits.choice[row].argmax()) == chosen)
        if chosen:
            expected -= float(F.log_softmax(logits.executors[row], dim=0)[number])
            numbers.append(int(logits.executors[row].argmax()) == number)
    assert float(loss) == pytest.approx(expected, rel=1e-5)
    assert right["stage_accuracy"].tolist() == stages
    assert right["executor_accuracy"].tolist() == numbers


def test_passes_hold_every_decision_once_and_alike_numbers_of_choices():
    episodes = make_cjs_episodes((300, 200), num_jobs=12)
    batch = Windows(episodes, np.zeros(episodes.mask.shape), 1).batch(np.arange(500))
    batch["returns"] = np.arange(500.0, dtype=np.float32)[:, None]  # to know them again
    passes = cjs.CJSParts().split(batch, 128)
    numbers = [part["returns"][:, 0].astype(np.int64) for part in passes]
    assert max(map(len, numbers)) <= 128
    assert sorted(np.concatenate(numbers)) == list(range(500))
    for part, rows in zip(passes, numbers, strict=True):
        assert_equal_views(part["observations"], batch["observations"].take(rows))
        np.testing.assert_array_equal(part["actions"], batch["actions"][rows])
    exists = [cjs.choices_of(part["observations"]).exists for part in passes]
    assert sum(each.size for each in exists) < 1.25 * sum(each.sum() for each in exists)
    assert len(cjs.CJSParts().split({**batch, "observations": batch["observations"]}, 10_000)) < 8


def test_it_acts_in_clusters_of_any_size_and_where_an_episode_is_over(tmp_path):
    model = model_of(tmp_path, "bert")
    for seed, executors in enumerate((3, 10, 100)):
        view, _ = made_view(seed, num_steps=40, num_executors=executors, most_stages=14)
        view = concatenate(empty_row(), view, empty_row())
        policy = LLMPolicy(model, len(view), sampled=True)
        policy.reset(np.arange(len(view)), np.arange(len(view)))
        for _ in range(3):
            actions = policy.act(view, np.full(len(view), -3.0), {})
            assert actions.shape == (42, 2)
            assert actions.dtype == np.int64
            assert actions[[0, -1]].tolist() == [[-1, 0], [-1, 0]]
            rows = np.flatnonzero(actions[:, 0] >= 0)
            stages = view.stage_ptr[rows] + actions[rows, 0]
            assert (actions[rows, 0] < view.num_stages[rows]).all()
            assert view.schedulable[stages].all()
            limit = np.minimum(view.committable[rows], view.demand[stages])
            assert (actions[rows, 1] < limit).all()
            assert (actions[:, 1] >= 0).all()
    over = concatenate(empty_row(), empty_row())
    assert LLMPolicy(model, 2).act(over, np.zeros(2), {}).tolist() == [[-1, 0], [-1, 0]]


def test_draws_go_by_episode_seed_whatever_the_batch_and_greedy_takes_the_greatest(tmp_path):
    model = model_of(tmp_path, "llama")
    view, _ = made_view(3, num_steps=20)

    def play(rows, **options):
        policy = LLMPolicyFactory(model, **options)(
            type("Env", (), {"num_envs": len(rows), "num_executors": 20})
        )
        policy.reset(np.arange(len(rows)), np.asarray(rows))
        return [policy.act(view.take(rows), np.zeros(len(rows)), {}) for _ in range(4)]

    together = play(range(20), sampled=True)
    alone = [play([row], sampled=True) for row in range(20)]
    for step in range(4):
        assert together[step].tolist() == [alone[row][step][0].tolist() for row in range(20)]
    assert any((together[0] != each).any() for each in together[1:])
    greedy = play(range(20))
    assert all((greedy[0] == each).all() for each in greedy)
    logits = LLMPolicy(model, 20).logits(view, np.zeros(20))
    places = cjs.choices_of(view).place[np.arange(20), logits.argmax(axis=1)]
    assert greedy[0][:, 0].tolist() == places.tolist()


def test_the_return_asked_for_counts_job_seconds_left(tmp_path):
    returns = ReturnSpec("return_to_go", center=-100.0, scale=50.0, target=0.0)
    model = model_of(tmp_path, "llama", returns=returns)
    view, _ = made_view(3, num_steps=2)
    policy = LLMPolicy(model, 2)
    policy.reset(np.arange(2), np.arange(2))
    policy.act(view, np.zeros(2), {})
    policy.act(view, np.array([-30.0, 0.0]), {})  # 30 job-seconds gone; and a decision at once
    assert policy._returns.tokens().tolist() == pytest.approx([30.0 / 50.0, 0.0])
    one = policy.logits(view, np.array([-30.0, 0.0]))
    two = policy.logits(view, np.array([-300.0, 0.0]))
    assert (one[0] != two[0]).any()
    assert (one[1] == two[1]).all()


def test_returns_of_ragged_episodes_and_gains_over_a_baseline():
    episodes = make_cjs_episodes((9, 4), policies=("fair", "fifo"))
    to_go = ReturnSpec("return_to_go").fit(episodes)
    tokens = to_go.tokens(episodes) * to_go.scale + to_go.center
    for row, length in enumerate(episodes.lengths):
        expected = episodes.rewards[row, :length][::-1].cumsum()[::-1]
        np.testing.assert_allclose(tokens[row, :length], expected)
        assert (tokens[row, :length] <= 0).all()
    gains = ReturnSpec("baseline", baseline="fifo").fit(episodes)
    # The made-up policies do the same on a seed, so nobody gains.
    np.testing.assert_allclose(gains.tokens(episodes), 0.0)


def learnable(lengths):
    """Return episodes of a teacher that takes the longest tasks, and executors for all of them."""
    episodes = make_cjs_episodes(lengths)
    view = episodes.seen
    choices = cjs.choices_of(view)
    longest = np.where(choices.exists & (choices.place >= 0), view.duration_ms[choices.stage], -1.0)
    best = longest.argmax(axis=1)
    rows = np.arange(len(view))
    actions = episodes.actions.copy()
    actions[episodes.mask] = np.stack(
        [choices.place[rows, best], choices.limit[rows, best] - 1], axis=1
    )
    return dataclasses.replace(episodes, actions=actions)


def test_it_learns_a_rule_from_a_pool_and_keeps_it(tmp_path):
    train = TrainConfig(
        updates=60, batch_episodes=128, learning_rate=5e-3, validate_every=30, threads=1
    )
    told, seen = [], []

    def validate(factory):
        seen.append(factory.sampled)
        return 0.0

    config = make_cjs_config(
        shape_folder(tmp_path, "llama", initializer_range=0.05), returns=ReturnSpec()
    )
    config = dataclasses.replace(config, feature_dim=64)
    run = TrainingRun(tmp_path / "run", validate=validate, progress=told.append)
    result = fit_llm(learnable((50,) * 10), config, train, run)
    accuracy = [each["stage_accuracy"] for each in told if "stage_accuracy" in each]
    assert np.mean(accuracy[:3]) < 0.6
    assert np.mean(accuracy[-5:]) > 0.85
    assert np.mean([each.get("executor_accuracy", 1.0) for each in told[-5:]]) > 0.85
    assert seen == [False, False]  # it is chosen as it acts
    fresh = learnable((61, 42))
    model = load_llm_policy(result.policy).model
    found = LLMPolicy(model, 103).act(fresh.seen, np.zeros(103), {})
    assert (found[:, 0] == fresh.actions[fresh.mask][:, 0]).mean() > 0.7


def files_of(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_resumed_run_equals_an_unbroken_one_bit_for_bit(tmp_path):
    config = make_cjs_config(
        shape_folder(tmp_path, "gpt2"),
        adapt="lora",
        dropout=0.1,
        returns=ReturnSpec("return_to_go"),
        lora_rank=4,
    )
    episodes = make_cjs_episodes((40, 25, 31))
    train = TrainConfig(updates=5, batch_episodes=16, accumulate=2, checkpoint_every=2, threads=1)
    fit_llm(episodes, config, train, TrainingRun(tmp_path / "whole"))
    fit_llm(episodes, config, train, TrainingRun(tmp_path / "parts", stop_after=3))
    fit_llm(episodes, config, train, TrainingRun(tmp_path / "parts", resume=True))
    assert files_of(tmp_path / "whole" / "last") == files_of(tmp_path / "parts" / "last")
    assert (
        json.loads((tmp_path / "whole" / "last" / "config.json").read_text())["config"]["problem"]
        == "cjs"
    )


@pytest.mark.parametrize("adapt", ["lora", "full"])
def test_a_policy_that_was_written_and_read_decides_the_same(tmp_path, adapt):
    model = model_of(tmp_path, "llama", adapt=adapt)
    batch = make_cjs_batch(make_cjs_episodes())
    save_llm_policy(tmp_path / "policy", model)
    again, _ = load_model(tmp_path / "policy")
    for one, other in zip(at_once(model, batch), at_once(again.eval(), batch), strict=True):
        assert torch.equal(one, other)


def test_what_never_moved_in_training_says_nothing_later():
    normal = cjs.Normal(2)
    normal.fit(np.array([[1.0, 5.0], [3.0, 5.0]], np.float32))
    found = normal(torch.tensor([[2.0, 5.0], [4.0, 99.0]]))
    assert found.tolist() == [[0.0, 0.0], [2.0, 0.0]]


def test_what_does_not_fit_is_refused(tmp_path):
    config = make_cjs_config("tiny", layers=1)
    with pytest.raises(
        InputError, match=r"context_steps and max_steps must be 1 for cjs, .* got 5"
    ):
        LLMModel(dataclasses.replace(config, context_steps=5))
    with pytest.raises(
        InputError, match=r"context_steps and max_steps must be 1 for cjs, .* got 9"
    ):
        LLMModel(dataclasses.replace(config, max_steps=9))
    with pytest.raises(InputError, match="layout must be one of compact, got 'pair'"):
        LLMModel(dataclasses.replace(config, layout="pair"))
    episodes = make_cjs_episodes((5,))
    train, run = TrainConfig(updates=1, threads=1), TrainingRun(tmp_path / "run")
    wrong = dataclasses.replace(episodes, actions=episodes.actions + np.array([1000, 0]))
    with pytest.raises(InputError, match=r"actions must name one of \d+ stages or -1, got 9\d\d"):
        fit_llm(wrong, config, train, run)
    wrong = dataclasses.replace(episodes, actions=episodes.actions - np.array([0, 1000]))
    with pytest.raises(InputError, match="executors of actions must be at least 0, got -1000"):
        fit_llm(wrong, config, train, run)
    wrong = dataclasses.replace(episodes, actions=episodes.actions[..., 0])
    with pytest.raises(InputError, match="actions must be a stage and executors"):
        fit_llm(wrong, config, train, run)
    with pytest.raises(InputError, match="env must be one of the problem cjs"):
        LLMPolicyFactory(LLMModel(config))(object())
