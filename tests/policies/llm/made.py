"""Small backbones, made-up episodes and the models that the tests around here share."""

import json

import numpy as np
import torch

from netllm_gym.policies.llm.config import BackboneConfig, LLMConfig
from netllm_gym.policies.llm.model import LLMModel
from netllm_gym.policies.returns import ReturnSpec
from netllm_gym.pools.windows import PaddedEpisodes, Windows

MAX_STEPS = 9
ABR_SIZES = {"problem": "abr", "max_steps": 47, "num_actions": 6, "observation_shape": (6, 6)}
NO_RETURNS = ReturnSpec(kind="none", center=0.0, scale=1.0, target=0.0)
# Weights far from 0, so that attention is far from uniform and a wrong mask shows.
WILD = {
    "initializer_range": 0.25,
    "max_position_embeddings": 128,
    "bos_token_id": 0,
    "eos_token_id": 0,
}
SHAPES = {
    "gpt2": {"model_type": "gpt2", "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128},
    "llama": {"model_type": "llama", "num_key_value_heads": 4},
    "qwen2": {"model_type": "qwen2", "num_key_value_heads": 2, "use_sliding_window": False},
    "bert": {"model_type": "bert", "type_vocab_size": 2},
}
WIDTHS = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}


def shape_folder(tmp_path, kind, **changes):
    """Write a backbone's config.json, as a local folder without weights would have it."""
    folder = tmp_path / kind
    folder.mkdir(exist_ok=True)
    widths = {} if kind == "gpt2" else WIDTHS
    shape = {"vocab_size": 11, **WILD, **widths, **SHAPES.get(kind, {}), **changes}
    (folder / "config.json").write_text(json.dumps(shape))
    return str(folder)


def make_config(name, layout="compact", context_steps=None, returns=NO_RETURNS, **backbone):
    backbone = BackboneConfig(name, **{"init": "random", **backbone})
    return LLMConfig(
        **{**ABR_SIZES, "max_steps": MAX_STEPS},
        layout=layout,
        feature_dim=16,
        context_steps=context_steps,
        backbone=backbone,
        returns=returns,
    )


def make_model(*args, **kwargs):
    return LLMModel(make_config(*args, **kwargs)).eval()


def make_episodes(num_episodes=8, lengths=None, seed=0):
    """Made-up episodes of policies "a" and "b", in pairs of one seed."""
    rng = np.random.default_rng(seed)
    E, T = num_episodes, MAX_STEPS
    lengths = np.full(E, T) if lengths is None else np.asarray(lengths)
    return PaddedEpisodes(
        observations=rng.random((E, T, 6, 6), np.float32),
        actions=rng.integers(0, 6, (E, T)),
        rewards=rng.normal(size=(E, T)),
        mask=np.arange(T) < lengths[:, None],
        policies=("a", "b"),
        policy=np.arange(E) % 2,
        seed=np.arange(E) // 2,
        cases=({},) * E,
    )


def make_batch(episodes, rows=None, returns=None):
    """Return whole episodes as the model's batch; random return tokens unless given."""
    if returns is None:
        returns = np.random.default_rng(1).normal(size=episodes.mask.shape)
    windows = Windows(episodes, returns, episodes.mask.shape[1])
    rows = np.arange(len(episodes)) if rows is None else np.asarray(rows)
    return {name: torch.from_numpy(each) for name, each in windows.batch(rows).items()}
