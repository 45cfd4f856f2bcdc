"""A policy that was written and read decides the same; a broken one is one sentence."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModel

from netllm_gym.errors import InputError
from netllm_gym.policies.llm.checkpoint import (
    load_llm_policy,
    load_model,
    save_llm_policy,
)
from netllm_gym.policies.llm.model import inputs_of
from netllm_gym.policies.llm.policy import for_acting
from tests.policies.llm.made import (
    MAX_STEPS,
    SHAPES,
    make_batch,
    make_episodes,
    make_model,
    shape_folder,
)

ENV = SimpleNamespace(num_envs=2, video=SimpleNamespace(ladder_mbps=np.ones(6), num_chunks=10))


def weights_folder(tmp_path, kind):
    """Write a "pretrained" model: a local folder with weights."""
    folder = shape_folder(tmp_path, kind)
    torch.manual_seed(3)
    AutoModel.from_config(AutoConfig.from_pretrained(folder)).save_pretrained(folder)
    return folder


def shaken(model):
    """Move every weight that is trained, so that none can be left out unseen."""
    torch.manual_seed(4)
    for each in model.parameters():
        if each.requires_grad:
            each.data += 0.05 * torch.randn_like(each)
    observations = torch.rand(50, 6, 6)
    model.encoders.fit(observations)
    return model


@pytest.mark.parametrize("init", ["pretrained", "random"])
@pytest.mark.parametrize("adapt", ["lora", "frozen", "full"])
@pytest.mark.parametrize("kind", ["gpt2", "bert"])
def test_round_trip_gives_equal_logits(tmp_path, kind, adapt, init):
    name = weights_folder(tmp_path, kind)
    model = shaken(make_model(name, "netllm", adapt=adapt, init=init))
    batch = make_batch(make_episodes(2))
    expected = model(inputs_of(batch))
    save_llm_policy(tmp_path / "policy", model, {"pool": "made"})
    files = {path.name for path in (tmp_path / "policy").iterdir()}
    kept = {"backbone.safetensors"} if adapt == "full" or init == "random" else set()
    adapter = {"adapter"} if adapt == "lora" else set()
    assert files == {"config.json", "policy.safetensors"} | kept | adapter
    again, values = load_model(tmp_path / "policy")
    assert values["trained_on"] == {"pool": "made"}
    assert again.config == model.config
    assert torch.equal(again.eval()(inputs_of(batch)), expected)
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    assert {n for n, p in again.named_parameters() if p.requires_grad} == trained
    factory = load_llm_policy(tmp_path / "policy")
    assert factory.trained_on == {"pool": "made"}
    torch.testing.assert_close(factory.model(inputs_of(batch)), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", SHAPES)
def test_merging_for_acting_changes_neither_the_decisions_nor_the_model(tmp_path, kind):
    model = shaken(make_model(shape_folder(tmp_path, kind), adapt="lora"))
    batch = make_batch(make_episodes(2))
    before = {name: each.clone() for name, each in model.state_dict().items()}
    acting = for_acting(model)
    assert not any("lora" in name for name, _ in acting.named_parameters())
    expected = model(inputs_of(batch))
    torch.testing.assert_close(acting(inputs_of(batch)), expected, rtol=1e-4, atol=1e-5)
    assert all(torch.equal(each, before[name]) for name, each in model.state_dict().items())


def test_what_a_rollout_needs_is_inside_when_the_backbone_was_random(tmp_path):
    folder = shape_folder(tmp_path, "llama")
    save_llm_policy(tmp_path / "policy", make_model(folder))
    (tmp_path / "llama" / "config.json").unlink()
    load_llm_policy(tmp_path / "policy")(ENV)


def broken(tmp_path):
    """Return a whole policy's folder, to be broken."""
    model = make_model(shape_folder(tmp_path, "llama"), adapt="lora")
    save_llm_policy(tmp_path / "policy", model)
    return tmp_path / "policy"


FILES = ("policy.safetensors", "backbone.safetensors", "adapter/adapter_model.safetensors")


@pytest.mark.parametrize("name", FILES)
def test_a_missing_or_cut_file_is_named(tmp_path, name):
    folder = broken(tmp_path)
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=f"{name} must be a safetensors file"):
        load_llm_policy(folder)
    (folder / name).unlink()
    with pytest.raises(InputError, match=f"{name} must exist: the policy is incomplete"):
        load_llm_policy(folder)


def test_weights_of_another_policy_are_refused(tmp_path):
    folder = broken(tmp_path)
    other = make_model(shape_folder(tmp_path, "gpt2"), "netllm", adapt="lora")
    save_llm_policy(tmp_path / "other", other)
    config = json.loads((folder / "config.json").read_text())
    bare = {name: value for name, value in config.items() if name != "sha256"}
    for name in FILES:
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes((tmp_path / "other" / name).read_bytes())
        with pytest.raises(InputError, match=f"{name} must have SHA-256 .*: it was altered"):
            load_llm_policy(folder)
        (folder / "config.json").write_text(json.dumps(bare))  # as the first version wrote it
        with pytest.raises(InputError, match=f"{name} must fit config.json"):
            load_llm_policy(folder)
        (folder / name).write_bytes(whole)
        load_llm_policy(folder)
        (folder / "config.json").write_text(json.dumps(config))
    load_llm_policy(folder)


@pytest.mark.parametrize("name", FILES)
def test_a_changed_weight_is_not_acted_on(tmp_path, name):
    folder = broken(tmp_path)
    data = bytearray((folder / name).read_bytes())
    data[-1] ^= 1  # still a safetensors file, of one other number
    (folder / name).write_bytes(data)
    with pytest.raises(InputError, match=f"{name} must have SHA-256 .*: it was altered"):
        load_llm_policy(folder)


@pytest.mark.parametrize("name", FILES)
def test_weights_of_another_shape_or_type_are_refused(tmp_path, name):
    folder = broken(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    del config["sha256"]
    (folder / "config.json").write_text(json.dumps(config))
    weights = load_file(folder / name)
    one = max(weights, key=lambda key: weights[key].numel())
    for harm in (lambda each: each[..., :1].contiguous(), lambda each: each.to(torch.int32)):
        save_file({**weights, one: harm(weights[one])}, folder / name)
        with pytest.raises(InputError, match=f"{name} must fit config.json with {one} .* got"):
            load_llm_policy(folder)


def test_another_schema_a_broken_config_and_no_policy_are_refused(tmp_path):
    folder = broken(tmp_path)
    values = json.loads((folder / "config.json").read_text())
    for change, sentence in [
        ({"schema": "netllm-gym policy 99"}, "must have the schema"),
        ({"config": {**values["config"], "problem": "xyz"}}, "problem must be one of abr, cjs"),
        (
            {"config": {**values["config"], "depth": 3}},
            "LLMConfig must have no unknown field, got 'depth'",
        ),
        (
            {"config": {**values["config"], "returns": {}}},
            r"config\.json: returns must be fitted to a pool first, got no constants",
        ),
        ({"config": 5}, r"config\.json: config must be an object, got 5"),
        ({"config": {**values["config"], "seed": "0"}}, "seed must be a valid integer, got '0'"),
        (
            {"backbone_config": {**values["backbone_config"], "hidden_size": "x"}},
            "backbone_config must be one of llama, got .* expected int, got str",
        ),
        ({"backbone_config": 5}, "backbone_config must be an object, got 5"),
        ({"trained_on": [1]}, r"trained_on must be an object, got \[1\]"),
        ({"trained_on": {"recordings": 5}}, r"trained_on\.recordings must be a valid array, got 5"),
        ({"sha256": "0"}, "sha256 must be an object, got '0'"),
        (
            {"config": {**values["config"], "feature_dim": 2**60}},
            r"config\.json must describe a model that can be built, got",
        ),
        (  # 100 GB, which a machine may believe that it has
            {"config": {**values["config"], "max_steps": 10**9}},
            r"policy\.safetensors must fit config\.json with timestep\.weight \(1000000000, 32\)",
        ),
        (
            {"backbone_config": {**values["backbone_config"], "num_hidden_layers": 2**60}},
            r"config\.json: num_hidden_layers of backbone .* must be in 1\.\.1000, got",
        ),
    ]:
        (folder / "config.json").write_text(json.dumps({**values, **change}))
        with pytest.raises(InputError, match=sentence):
            load_llm_policy(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(InputError, match=r"config\.json must be JSON"):
        load_llm_policy(folder)
    (folder / "config.json").unlink()
    with pytest.raises(InputError, match=r"must hold config\.json"):
        load_llm_policy(folder)
    with pytest.raises(InputError, match="must be a folder, got"):
        load_llm_policy(tmp_path / "nowhere")


@pytest.mark.parametrize("adapt", ["lora", "frozen"])
def test_a_pretrained_backbone_must_have_the_weights_of_the_training(tmp_path, adapt):
    name = weights_folder(tmp_path, "llama")
    folder = tmp_path / "policy"
    save_llm_policy(folder, make_model(name, adapt=adapt, init="pretrained"))
    load_llm_policy(folder)
    path = tmp_path / "llama" / "model.safetensors"
    weights = load_file(path)
    weights["norm.weight"] += 1e-6
    save_file(weights, path, metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"backbone .*llama must have the weights that .*policy"):
        load_llm_policy(folder)
    values = json.loads((folder / "config.json").read_text())
    del values["base_sha256"]  # as the first version wrote it
    (folder / "config.json").write_text(json.dumps(values))
    load_llm_policy(folder)


def test_only_a_device_that_is_there_is_taken(tmp_path):
    with pytest.raises(InputError, match="device must be one torch can use here, got 'nonsense'"):
        load_llm_policy(broken(tmp_path), device="nonsense")


def test_an_environment_of_another_kind_is_refused(tmp_path):
    factory = load_llm_policy(broken(tmp_path))
    assert factory(ENV).name == "netllm"
    four = SimpleNamespace(num_envs=2, video=SimpleNamespace(ladder_mbps=np.ones(4), num_chunks=10))
    with pytest.raises(InputError, match="must have a ladder of 6 rungs, as in training, got 4"):
        factory(four)
    long = SimpleNamespace(num_envs=2, video=SimpleNamespace(ladder_mbps=np.ones(6), num_chunks=11))
    with pytest.raises(InputError, match=f"at most {MAX_STEPS} decisions an episode, .* got 10"):
        factory(long)
    with pytest.raises(InputError, match="env must be one of the problem abr"):
        factory(SimpleNamespace(num_envs=2))
