"""A local folder of a backbone: whole and in safetensors, or one sentence that names it."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from netllm_gym.errors import InputError
from netllm_gym.policies.llm.backbone import load_backbone
from netllm_gym.policies.llm.config import BackboneConfig
from tests.policies.llm.test_checkpoint import weights_folder


@pytest.fixture
def folder(tmp_path):
    return Path(weights_folder(tmp_path, "llama"))


def refused(folder, sentence):
    with pytest.raises(InputError, match=sentence) as refusal:
        load_backbone(BackboneConfig(str(folder)), seed=0)
    assert str(folder) in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_cut_and_foreign_weights_are_refused(folder):
    load_backbone(BackboneConfig(str(folder)), seed=0)
    path = folder / "model.safetensors"
    whole = path.read_bytes()
    for data in (b"", whole[: len(whole) // 2], b"not weights at all"):
        path.write_bytes(data)
        refused(folder, "must hold weights in safetensors, got")


def test_weights_that_lack_one_or_have_another_shape_are_not_drawn_by_chance(folder):
    path = folder / "model.safetensors"
    weights = load_file(path)
    name = "layers.0.mlp.gate_proj.weight"
    for other in ({}, {name: weights[name][:1].clone()}):
        left = {key: each for key, each in weights.items() if key != name}
        save_file({**left, **other}, path, metadata={"format": "pt"})
        refused(folder, f"must hold {name} as its config.json says, got none or one of another")


def test_a_pickle_is_not_opened(folder):
    path = folder / "model.safetensors"
    torch.save(load_file(path), folder / "pytorch_model.bin")
    path.unlink()
    refused(folder, "must hold weights in safetensors")


@pytest.mark.parametrize(
    "config",
    [
        b"",
        b"5",
        b"{}",
        b"[" * 100_000,
        b'{"model_type": "none such"}',
        b'{"model_type": "llama", "hidden_size": "wide"}',
    ],
)
def test_a_config_of_another_kind_is_refused(folder, config):
    (folder / "config.json").write_bytes(config)
    refused(folder, "backbone must be tiny, minilm, a local folder or a model of the hub")


def test_layers_without_end_are_not_built(folder):
    path = folder / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, "num_hidden_layers": 10**9}))
    refused(folder, r"num_hidden_layers of backbone .* must be in 1\.\.1000, got 1000000000")
