"""A language-model policy on disk: a folder of JSON and safetensors, without pickles.

- `config.json`: the policy's config, the backbone's, what it was trained on, the hashes of the
  files below, and that of a pretrained backbone's weights where they are not kept here.
- `policy.safetensors`: encoders, norm, head and their constants.
- `adapter/`: LoRA, as peft writes it.
- `backbone.safetensors`: the backbone's weights, unless they are a pretrained model's own.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from peft import get_peft_model_state_dict, set_peft_model_state_dict
from torch import Tensor

from netllm_gym.configs import from_json
from netllm_gym.errors import InputError, MissingDataError
from netllm_gym.files import errors_begin_with, one_line, replace_folder
from netllm_gym.policies.checkpoint import (
    check_device,
    check_tensors,
    machine_errors,
    read_config,
    read_tensors,
    write_config,
    write_tensors,
)
from netllm_gym.policies.llm.config import LLMConfig
from netllm_gym.policies.llm.model import LLMModel
from netllm_gym.policies.llm.policy import factory_of, for_acting
from netllm_gym.policies.policy import TrainedPolicyFactory

SCHEMA = "netllm-gym policy 1"
POLICY_FILE = "policy.safetensors"
BACKBONE_FILE = "backbone.safetensors"
ADAPTER_FILE = "adapter/adapter_model.safetensors"


def save_llm_policy(
    folder: Path | str, model: LLMModel, trained_on: Mapping[str, Any] | None = None
) -> None:
    """Write a policy, replacing the folder as a whole; see `write_policy`."""
    replace_folder(Path(folder), lambda new: write_policy(new, model, trained_on))


def write_policy(
    folder: Path, model: LLMModel, trained_on: Mapping[str, Any] | None = None
) -> None:
    """Write a policy's files into an existing folder; nothing of the model is changed.

    `trained_on` says where the training data came from (pool, traces, hashes), as JSON values.
    """
    config = model.config
    write_tensors(folder / POLICY_FILE, model.outside())
    if config.backbone.adapt == "lora":
        with machine_errors(folder / ADAPTER_FILE):
            model.backbone.save_pretrained(  # type: ignore[operator]
                str(folder / "adapter"), save_embedding_layers=False
            )
    if keeps_base(config):
        state = model.backbone.state_dict()
        base = {plain: state[name] for plain, name in _base_names(model).items()}
        write_tensors(folder / BACKBONE_FILE, base)
    more: dict[str, Any] = {"backbone_config": model.backbone_config}
    if model.base_sha256 is not None:
        more["base_sha256"] = model.base_sha256
    write_config(folder, SCHEMA, config, _files(config), trained_on, **more)


def keeps_base(config: LLMConfig) -> bool:
    """Whether the backbone's own weights must be kept: they were trained, or drawn by chance."""
    return config.backbone.adapt == "full" or config.backbone.init == "random"


def load_llm_policy(
    folder: Path | str, *, sampled: bool | None = None, name: str = "", device: str = "cpu"
) -> TrainedPolicyFactory:
    """Read a policy or predictor, ready to act; see `FOLDER_READERS` in `policies/loading.py`."""
    check_device(device)
    model, values = load_model(Path(folder))
    acting = for_acting(model).to(device)
    return factory_of(acting, sampled=sampled, name=name, trained_on=values["trained_on"])


def load_model(folder: Path) -> tuple[LLMModel, dict[str, Any]]:
    """Read a policy's model, trainable as it was, and the values of its `config.json`."""
    values = read_config(folder, SCHEMA, objects=("backbone_config",))
    path = folder / "config.json"
    with errors_begin_with(path):
        config = from_json(LLMConfig, values["config"])
        config.returns.constants()  # without them it could not act
    hashes = values.get("sha256", {})  # policies of the first version have none
    weights = {name: read_tensors(folder / name, hashes.get(name)) for name in _files(config)}
    if keeps_base(config):
        stored = values["backbone_config"]
        with torch.device("meta"):  # sizes first: a number may ask for all the memory
            _check(_build(config, stored, path), weights, folder)
        model = _build(config, stored, path)
    else:
        model = _build(config, None, path)
        base_sha256 = values.get("base_sha256")  # policies of the first version have none
        if base_sha256 not in (None, model.base_sha256):
            raise InputError(
                f"backbone {config.backbone.name} must have the weights that {folder} was trained "
                f"with, SHA-256 {base_sha256}, got {model.base_sha256}"
            )
        _check(model, weights, folder)
    _put(model, weights)
    return model, values


def _files(config: LLMConfig) -> list[str]:
    """Return the files of weights, the one first whose absence is the likeliest fault."""
    adapter = [ADAPTER_FILE] if config.backbone.adapt == "lora" else []
    base = [BACKBONE_FILE] if keeps_base(config) else []
    return [*adapter, *base, POLICY_FILE]


def _build(config: LLMConfig, stored: Mapping[str, Any] | None, path: Path) -> LLMModel:
    try:
        return LLMModel(config, stored)
    except MissingDataError:
        raise
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except Exception as error:  # it may hold any numbers; each library has its own errors
        raise InputError(
            f"{path} must describe a model that can be built, got {one_line(error)}"
        ) from error


def _check(model: LLMModel, files: Mapping[str, Mapping[str, Tensor]], folder: Path) -> None:
    """Refuse weights whose names, shapes or types are not those of the model."""
    state = model.backbone.state_dict()
    for file, tensors in files.items():
        path = folder / file
        if file == ADAPTER_FILE:
            wanted = get_peft_model_state_dict(model.backbone, save_embedding_layers=False)
        elif file == BACKBONE_FILE:
            wanted = {plain: state[name] for plain, name in _base_names(model).items()}
        else:
            wanted = model.outside()
        check_tensors(path, tensors, wanted)


def _put(model: LLMModel, files: Mapping[str, Mapping[str, Tensor]]) -> None:
    """Put the weights of each file, checked before, in their place."""
    names = _base_names(model)
    for file, tensors in files.items():
        if file == ADAPTER_FILE:
            set_peft_model_state_dict(model.backbone, tensors)
        elif file == BACKBONE_FILE:
            renamed = {names[plain]: each for plain, each in tensors.items()}
            model.backbone.load_state_dict(renamed, strict=False)
        else:
            model.load_state_dict(tensors, strict=False)


def _base_names(model: LLMModel) -> dict[str, str]:
    """Return the backbone's weights without LoRA: name in the plain backbone -> name here."""
    prefix = "base_model.model." if model.config.backbone.adapt == "lora" else ""
    return {
        name.removeprefix(prefix).replace(".base_layer.", "."): name
        for name in model.backbone.state_dict()
        if ".lora_" not in name
    }
