"""Configs travel as JSON and refuse what could not be run."""

import json
import math

import pytest

from netllm_gym.configs import from_json, to_json
from netllm_gym.errors import InputError
from netllm_gym.policies.llm.config import BackboneConfig, LLMConfig
from netllm_gym.policies.returns import ReturnSpec
from netllm_gym.training.llm_config import TrainConfig


@pytest.mark.parametrize(
    "config",
    [
        LLMConfig(),
        LLMConfig(
            backbone=BackboneConfig("minilm", layers=3, lora_targets=("query", "key")),
            returns=ReturnSpec("return_to_go", clip=(-10.0, 5.0), center=1.0, scale=2.0),
        ),
        TrainConfig(accumulate=4),
    ],
)
def test_json_round_trip(config):
    assert from_json(type(config), json.loads(json.dumps(to_json(config)))) == config


def test_random_weights_are_trained_whole_and_pretrained_ones_adapted():
    assert (BackboneConfig("tiny").init, BackboneConfig("tiny").adapt) == ("random", "full")
    assert (BackboneConfig("minilm").init, BackboneConfig("minilm").adapt) == ("pretrained", "lora")
    control = BackboneConfig("minilm", init="random", adapt="lora")
    assert (control.init, control.adapt) == ("random", "lora")


def test_a_decision_never_sees_more_than_the_episode():
    assert LLMConfig(max_steps=47).band_steps == 47
    assert LLMConfig(max_steps=47, context_steps=20).band_steps == 20
    assert LLMConfig(max_steps=47, context_steps=99).band_steps == 47


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: BackboneConfig("tiny", init="pretrained"), "which has no trained weights"),
        (lambda: BackboneConfig(adapt="some"), "adapt must be one of lora, frozen, full"),
        (lambda: BackboneConfig(layers=0), "layers must be at least 1, got 0"),
        (lambda: BackboneConfig(lora_targets="some"), "lora_targets must be default, all-linear"),
        (lambda: BackboneConfig(positions="odd"), "positions must be one of auto"),
        (lambda: BackboneConfig(dtype="int8"), "dtype must be one of float32, bfloat16"),
        (lambda: LLMConfig(context_steps=0), "context_steps must be at least 1, got 0"),
        (lambda: TrainConfig(updates=0), "updates must be at least 1, got 0"),
        (
            lambda: TrainConfig(max_grad_norm=0.0),
            "max_grad_norm must be above 0 and finite, got 0.0",
        ),
        (lambda: TrainConfig(learning_rate=math.nan), "learning_rate must be above 0 and finite"),
        (lambda: TrainConfig(adapter_learning_rate=math.inf), "be above 0 and finite, got inf"),
        (lambda: TrainConfig(seed=2**31), "seed must be in 0..2147483647, got 2147483648"),
        (lambda: LLMConfig(seed=-1), "seed must be in 0..2147483647, got -1"),
        (lambda: ReturnSpec(factor=math.nan), "factor must be finite, got nan"),
        (lambda: TrainConfig(warmup_fraction=2.0), r"warmup_fraction must lie in \[0, 1\], got 2"),
        (
            lambda: from_json(TrainConfig, {"epochs": 3}),
            "TrainConfig must have no unknown field, got 'epochs'",
        ),
        (lambda: from_json(LLMConfig, 5), "LLMConfig must be an object, got 5"),
        (
            lambda: from_json(LLMConfig, {"feature_dim": "9"}),
            "feature_dim must be a valid integer, got '9'",
        ),
        (
            lambda: from_json(LLMConfig, {"max_steps": True}),
            "max_steps must be a valid integer, got True",
        ),
        (lambda: from_json(LLMConfig, {"backbone": 5}), "backbone must be an object, got 5"),
        (
            lambda: from_json(LLMConfig, {"observation_shape": [6, "6"]}),
            r"observation_shape\[1\] must be a valid integer, got '6'",
        ),
        (
            lambda: from_json(LLMConfig, {"returns": {"clip": [1.0]}}),
            r"returns\.clip must have 2 values or more, got \[1\.0\]",
        ),
        (
            lambda: from_json(LLMConfig, {"returns": {"center": math.nan}}),
            r"returns\.center must be a finite number, got nan",
        ),
    ],
)
def test_wrong_values_are_one_sentence(make, sentence):
    with pytest.raises(InputError, match=sentence):
        make()
