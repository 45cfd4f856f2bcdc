"""Training: resumed runs are equal bit for bit, the gradient is clipped once, the loss divided by
the steps that count."""

import dataclasses
import json
import math

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from netllm_gym.envs.abr.vector_env import ABRVectorEnv
from netllm_gym.errors import InputError
from netllm_gym.policies.llm.abr import ABRParts
from netllm_gym.policies.llm.checkpoint import load_llm_policy, save_llm_policy
from netllm_gym.policies.llm.config import LLMConfig
from netllm_gym.policies.llm.model import LLMModel, inputs_of
from netllm_gym.policies.llm.parts import masked_cross_entropy, parts_of
from netllm_gym.policies.returns import ReturnSpec
from netllm_gym.training.llm import fit_llm, make_optimizer
from netllm_gym.training.llm_config import TrainConfig
from netllm_gym.training.run import TrainingRun
from tests.commands import files_of
from tests.policies.llm.made import MAX_STEPS, make_batch, make_config, make_episodes, shape_folder

RETURNS = ReturnSpec("return_to_go")
SHORT = TrainConfig(updates=6, batch_episodes=3, accumulate=2, checkpoint_every=2, threads=1)


@pytest.mark.parametrize("adapt", ["lora", "full"])
def test_a_resumed_run_equals_an_unbroken_one_bit_for_bit(tmp_path, adapt):
    # LoRA's dropout is on, so the draws must be the same ones too.
    config = make_config(
        shape_folder(tmp_path, "gpt2"), adapt=adapt, dropout=0.1, returns=RETURNS, lora_rank=4
    )
    episodes = make_episodes(8, lengths=[9, 5, 7, 9, 9, 3, 8, 9])
    scores = iter([0.5, 0.7, 0.6] * 2)
    options = {"validate": lambda factory: next(scores), "trained_on": {"pool": "made"}}
    train = dataclasses.replace(SHORT, validate_every=2)
    whole = fit_llm(episodes, config, train, TrainingRun(tmp_path / "whole", **options))
    run = TrainingRun(tmp_path / "parts", **options, resume=True)
    fit_llm(episodes, config, train, dataclasses.replace(run, stop_after=3))
    torch.rand(7)  # the global generator may be anywhere
    parts = fit_llm(episodes, config, train, run)
    assert (
        (whole.best_update, whole.best_score) == (parts.best_update, parts.best_score) == (4, 0.7)
    )
    for name in ("last", "best"):
        assert files_of(tmp_path / "whole" / name) == files_of(tmp_path / "parts" / name)
    lines = [
        [json.loads(line) for line in (tmp_path / run / "metrics.jsonl").read_text().splitlines()]
        for run in ("whole", "parts")
    ]
    for run in lines:
        for line in run:
            line.pop("seconds", None)
    assert lines[0] == lines[1]
    assert len(lines[0]) == 6 + 3


def test_one_update_is_the_gradient_of_all_its_steps_clipped_once(tmp_path):
    config = make_config(shape_folder(tmp_path, "llama"), adapt="full", returns=RETURNS)
    episodes = make_episodes(6, lengths=[9, 2, 7, 9, 1, 3])
    train = TrainConfig(
        updates=1, batch_episodes=2, accumulate=3, max_grad_norm=0.25, warmup_fraction=0
    )
    fit_llm(episodes, config, train, TrainingRun(tmp_path / "run"))
    # By hand: all six episodes at once (one shuffle takes each once), mean over the 31 steps.
    config = dataclasses.replace(config, returns=RETURNS.fit(episodes))
    model = LLMModel(config)
    model.encoders.fit(torch.from_numpy(episodes.observations[episodes.mask]))
    batch = make_batch(episodes, returns=config.returns.tokens(episodes))
    optimizer = make_optimizer(model, train)
    loss = masked_cross_entropy(model(inputs_of(batch)), batch["actions"], batch["mask"]) / 31
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 0.25)
    assert norm > 0.25
    optimizer.step()
    told = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[0])
    assert told["loss"] == pytest.approx(float(loss.detach()), rel=1e-5)
    assert told["gradient_norm"] == pytest.approx(float(norm), rel=1e-4)
    moments = load_file(tmp_path / "run" / "last" / "optimizer.safetensors")
    for name, each in model.named_parameters():
        for moment, value in optimizer.state.get(each, {}).items():
            got = moments[f"{name}|{moment}"]
            torch.testing.assert_close(got, value, rtol=1e-3, atol=1e-7)


def test_decay_spares_norms_and_biases_and_the_adapter_has_its_own_rate(tmp_path):
    model = LLMModel(make_config(shape_folder(tmp_path, "gpt2"), adapt="full"))
    train = TrainConfig(weight_decay=0.1, learning_rate=1e-3, adapter_learning_rate=1e-5)
    seen = {}
    names = {id(each): name for name, each in model.named_parameters()}
    for group in make_optimizer(model, train).param_groups:
        for each in group["params"]:
            seen[names[id(each)]] = (group["initial_lr"], group["weight_decay"])
    for name, each in model.named_parameters():
        if each.requires_grad:
            rate = 1e-5 if name.startswith("backbone.") else 1e-3
            assert seen.pop(name) == (rate, 0.1 if each.ndim > 1 else 0.0)
    assert not seen


def test_the_rate_rises_over_a_share_of_the_updates_then_falls_as_a_cosine():
    train = TrainConfig(updates=100, warmup_fraction=0.1, final_fraction=0.2)
    shares = [train.share(update) for update in range(100)]
    assert shares[0] == pytest.approx(1 / 11)
    assert shares[10] == 1.0
    assert shares[55] == pytest.approx(0.2 + 0.8 * 0.5)
    assert shares[99] == pytest.approx(0.2, abs=1e-3)
    assert max(shares) == 1.0
    assert TrainConfig(updates=1, warmup_fraction=0).share(0) == 1.0


def test_it_learns_a_rule_and_keeps_the_best_and_the_last(tmp_path):
    episodes = make_episodes(32)
    rungs = (episodes.observations[..., 1, -1] * 6).astype(np.int64)  # the newest buffer decides
    episodes = dataclasses.replace(episodes, actions=rungs)
    config = make_config(shape_folder(tmp_path, "llama"), returns=RETURNS)
    train = TrainConfig(
        updates=60, batch_episodes=32, learning_rate=2e-2, validate_every=20, threads=1
    )
    told = []
    run = TrainingRun(
        tmp_path / "run",
        validate=lambda factory: -float(factory.config.returns.target),
        progress=told.append,
    )
    result = fit_llm(episodes, config, train, run)
    accuracy = [each["accuracy"] for each in told if "accuracy" in each]
    assert np.mean(accuracy[:3]) < 0.4
    assert np.mean(accuracy[-3:]) > 0.7
    assert result.best_update == 20  # equal scores do not replace the first
    assert result.policy == tmp_path / "run" / "best"
    assert result.updates == 60


def test_validation_acts_in_eval_mode_with_nothing_left_to_chance(tmp_path):
    config = make_config(shape_folder(tmp_path, "gpt2"), adapt="lora", dropout=0.5, returns=RETURNS)
    seen = []

    def validate(factory):
        assert not any(module.training for module in factory.model.modules())
        batch = make_batch(make_episodes(2))
        one, other = (factory.model(inputs_of(batch)) for _ in range(2))
        seen.append(torch.equal(one, other))
        return 0.0

    fit_llm(make_episodes(8), config, SHORT, TrainingRun(tmp_path / "run", validate=validate))
    assert seen == [True]


def test_what_does_not_fit_is_refused(tmp_path):
    config = make_config(shape_folder(tmp_path, "llama"), returns=RETURNS)
    episodes = make_episodes(8)
    out = tmp_path / "run"
    run = TrainingRun(out)
    wide = dataclasses.replace(episodes, observations=np.zeros((8, 9, 6, 8), np.float32))
    odd = dataclasses.replace(episodes, actions=episodes.actions + (episodes.actions == 5))
    with pytest.raises(
        InputError, match=r"observations must have the shape \(6, 6\), got \(6, 8\)"
    ):
        fit_llm(wide, config, SHORT, run)
    with pytest.raises(InputError, match=r"actions must be in 0\.\.5, got 0\.\.6"):
        fit_llm(odd, config, SHORT, run)
    with pytest.raises(InputError, match=f"episodes must have at most 4 steps, got {MAX_STEPS}"):
        fit_llm(episodes, dataclasses.replace(config, max_steps=4), SHORT, run)
    assert not out.exists()
    fit_llm(episodes, config, SHORT, TrainingRun(out, stop_after=2))
    with pytest.raises(InputError, match="out must be new or be resumed"):
        fit_llm(episodes, config, SHORT, run)
    other = dataclasses.replace(SHORT, learning_rate=0.5)
    with pytest.raises(InputError, match=r"with learning_rate 0\.001, got 0\.5"):
        fit_llm(episodes, config, other, TrainingRun(out, resume=True))
    (out / "last" / "optimizer.safetensors").unlink()
    with pytest.raises(InputError, match=r"optimizer\.safetensors must exist"):
        fit_llm(episodes, config, SHORT, TrainingRun(out, resume=True))


def test_a_run_of_another_origin_is_not_resumed(tmp_path):
    config = make_config(shape_folder(tmp_path, "llama"), returns=RETURNS)
    out = tmp_path / "run"
    origin = {"policies": ("a", "b"), "pool_sha256": "1" * 64, "validated_on": "valid"}
    run = TrainingRun(out, trained_on=origin, resume=True)
    fit_llm(make_episodes(8), config, SHORT, dataclasses.replace(run, stop_after=2))
    before = files_of(out)
    for name, value, said in [
        ("policies", ("a",), r"with policies \['a', 'b'\], got \['a'\]"),
        ("pool_sha256", "2" * 64, r"with pool_sha256 '11.*11', got '22.*22'"),
        ("validated_on", "test", "with validated_on 'valid', got 'test'"),
    ]:
        other = dataclasses.replace(run, trained_on={**origin, name: value})
        with pytest.raises(InputError, match=f"trained_on must be that of the run in .*{said}"):
            fit_llm(make_episodes(8), config, SHORT, other)
        assert files_of(out) == before
    fit_llm(make_episodes(8), config, SHORT, run)
    kept = json.loads((out / "last" / "config.json").read_text())["trained_on"]
    assert kept == {**origin, "policies": ["a", "b"]}


def test_metrics_of_a_run_killed_before_its_first_checkpoint_do_not_stay(tmp_path):
    config = make_config(shape_folder(tmp_path, "llama"), returns=RETURNS)
    out = tmp_path / "run"

    class KilledError(Exception):
        pass

    def kill(values):
        if values["update"] == 2:
            raise KilledError

    train = dataclasses.replace(SHORT, checkpoint_every=3)
    run = TrainingRun(out, resume=True)
    with pytest.raises(KilledError):
        fit_llm(make_episodes(8), config, train, dataclasses.replace(run, progress=kill))
    fit_llm(make_episodes(8), config, train, dataclasses.replace(run, stop_after=3))
    path = out / "metrics.jsonl"
    path.write_text(path.read_text() + '{"update": 4, "lo')  # killed within a line
    fit_llm(make_episodes(8), config, train, run)
    lines = [json.loads(line)["update"] for line in path.read_text().splitlines()]
    assert lines == [1, 2, 3, 4, 5, 6]


def test_a_place_that_is_no_run_and_a_device_that_is_not_there_are_refused(tmp_path):
    config = make_config(shape_folder(tmp_path, "llama"), returns=RETURNS)
    pool = tmp_path / "pool"
    pool.mkdir()
    (pool / "meta.json").write_text("{}")
    for out, train, sentence in [
        (pool, SHORT, r"out must be a new or empty folder or a training run, .* with meta\.json"),
        (pool / "meta.json", SHORT, r"out must be a folder, got .*meta\.json is a file"),
        (pool / "meta.json" / "run", SHORT, r"out must be a folder, got .*meta\.json is a file"),
        (
            tmp_path / "new",
            dataclasses.replace(SHORT, device="nonsense"),
            "device must be one torch can use here, got 'nonsense'",
        ),
        (tmp_path / "new", dataclasses.replace(SHORT, device="meta"), "device must be one torch"),
    ]:
        with pytest.raises(InputError, match=sentence):
            fit_llm(make_episodes(8), config, train, TrainingRun(out, resume=True))
    assert sorted(files_of(tmp_path)) == ["llama/config.json", "pool/meta.json"]
    assert not (tmp_path / "new").exists()


def test_the_throughput_that_comes_is_learned_too_and_is_no_rung(tmp_path):
    config = dataclasses.replace(
        make_config(shape_folder(tmp_path, "llama"), adapt="full"),
        max_steps=47,
        throughput_weight=0.5,
    )
    model = LLMModel(config)
    episodes = make_episodes(3, lengths=[9, 1, 4])
    batch = make_batch(episodes)
    output = model(inputs_of(batch))
    output.retain_grad()
    assert output.shape == (3, 9, 7)
    loss, told = ABRParts().score(config, output, batch)
    loss.backward()
    learns = torch.zeros(3, 9, dtype=torch.bool)
    learns[0, :8], learns[2, :3] = True, True
    assert torch.equal(output.grad[..., 6] != 0, learns)
    loss, output = loss.detach(), output.detach()
    by_hand = float(masked_cross_entropy(output[..., :6], batch["actions"], batch["mask"]))
    for row, length in enumerate([9, 1, 4]):
        for step in range(length - 1):  # what the last chunk reaches, no observation shows
            reached = math.log(float(episodes.observations[row, step + 1, 2, -1]) + 0.01)
            off = abs(float(output[row, step, 6]) - reached)
            by_hand += 0.5 * (off**2 / 2 if off < 1 else off - 0.5)
    assert float(loss) == pytest.approx(by_hand, rel=1e-5)
    assert len(told["throughput_error"]) == 11
    # However sure it is of the throughput, the choice is among the rungs, also once it is read.
    sure = torch.cat([output[..., :6], torch.full((3, 9, 1), 1000.0)], dim=-1)
    assert torch.equal(ABRParts().score(config, sure, batch)[1]["accuracy"], told["accuracy"])
    # Beside what actions are worth it is learned all the same.
    worth = {**batch, "values": torch.rand(3, 9, 6)}
    plain = dataclasses.replace(config, throughput_weight=0.0)
    gained = ABRParts().score(config, output, worth)[0] - ABRParts().score(plain, output, worth)[0]
    assert float(gained) == pytest.approx(0.5 * float(told["throughput_error"].sum()), rel=1e-4)
    with torch.no_grad():
        model.head.bias[6] = 1000.0
    save_llm_policy(tmp_path / "policy", model)
    env = ABRVectorEnv(num_envs=2)
    policy = load_llm_policy(tmp_path / "policy")(env)
    policy.reset(np.arange(2), np.arange(2))
    observations, infos = env.reset(seed=[0, 1])
    assert policy.logits(observations, np.zeros(2)).shape == (2, 6)
    assert (policy.act(observations, np.zeros(2), infos) < 6).all()


@pytest.mark.parametrize("weight", [-0.1, 1001.0, math.nan, math.inf])
def test_a_weight_without_sense_is_refused(weight):
    with pytest.raises(InputError, match=r"throughput_weight must be in 0\.\.1000, got"):
        LLMConfig(throughput_weight=weight)


def test_no_throughput_is_predicted_of_clusters():
    with pytest.raises(InputError, match=r"throughput_weight must be 0 for cjs, got 0\.1"):
        parts_of("cjs").check_config(LLMConfig(problem="cjs", throughput_weight=0.1))


def test_the_machines_setting_of_threads_does_not_change_the_weights(tmp_path):
    config = make_config(shape_folder(tmp_path, "gpt2"), adapt="full")
    episodes = make_episodes(64, lengths=[9] * 64)
    schedule = TrainConfig(updates=2, batch_episodes=64)
    before = torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            fit_llm(episodes, config, schedule, TrainingRun(tmp_path / f"{threads}"))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert files_of(tmp_path / "1/last") == files_of(tmp_path / "2/last")
