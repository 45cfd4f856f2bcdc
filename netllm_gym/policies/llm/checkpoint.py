"""A policy on disk: one folder, JSON and safetensors, no pickle, nothing else needed to run it.

- `config.json`: the policy's config, the backbone's, what it was trained on, and the hash of a
  pretrained backbone's weights where they are not kept here.
- `policy.safetensors`: encoders, norm, head and their constants.
- `adapter/`: LoRA, as peft writes it.
- `backbone.safetensors`: the backbone's weights, unless they are a pretrained model's own.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from peft import get_peft_model_state_dict, set_peft_model_state_dict
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from netllm_gym.errors import InputError
from netllm_gym.policies.llm.config import LLMConfig, from_json, to_json
from netllm_gym.policies.llm.model import LLMModel, check_device
from netllm_gym.policies.llm.policy import LLMPolicyFactory, for_acting

SCHEMA = "netllm-gym policy 1"


def save_llm_policy(
    folder: Path | str, model: LLMModel, trained_on: Mapping[str, Any] | None = None
) -> None:
    """Write a policy, replacing the folder as a whole.

    Args:
        folder: Where; its parent is made if need be.
        model: Any state; nothing of it is changed.
        trained_on: Where the training data came from (pool, traces, hashes), as JSON values.
    """
    replace_folder(Path(folder), lambda new: write_policy(new, model, trained_on))


def write_policy(
    folder: Path, model: LLMModel, trained_on: Mapping[str, Any] | None = None
) -> None:
    """Write a policy's files into an existing folder."""
    config = model.config
    save_file(_plain(model.outside()), folder / "policy.safetensors")
    if config.backbone.adapt == "lora":
        model.backbone.save_pretrained(  # type: ignore[operator]
            str(folder / "adapter"), save_embedding_layers=False
        )
    if keeps_base(config):
        state = model.backbone.state_dict()
        base = {plain: state[name] for plain, name in _base_names(model).items()}
        save_file(_plain(base), folder / "backbone.safetensors")
    values = {
        "schema": SCHEMA,
        "config": to_json(config),
        "backbone_config": model.backbone_config,
        "trained_on": dict(trained_on or {}),
    }
    if model.base_sha256 is not None:
        values["base_sha256"] = model.base_sha256
    (folder / "config.json").write_text(json.dumps(values, indent=2, sort_keys=True) + "\n")


def keeps_base(config: LLMConfig) -> bool:
    """Whether the backbone's own weights must be kept: they were trained, or drawn by chance."""
    return config.backbone.adapt == "full" or config.backbone.init == "random"


def load_llm_policy(
    folder: Path | str, *, sampled: bool = False, name: str = "netllm", device: str = "cpu"
) -> LLMPolicyFactory:
    """Read a policy, ready to act.

    Args:
        folder: As `save_llm_policy` wrote it.
        sampled: Draw actions instead of taking the greatest.
        name: What tables call it.
        device: Where it runs.

    Returns:
        A factory env -> policy with the attribute `trained_on`.

    Raises:
        InputError: If a file is missing, broken, or of another schema.
    """
    check_device(device)
    model, values = load_model(Path(folder))
    acting = for_acting(model).to(device)
    return LLMPolicyFactory(acting, sampled=sampled, name=name, trained_on=values["trained_on"])


def load_model(folder: Path) -> tuple[LLMModel, dict[str, Any]]:
    """Read a policy's model, trainable as it was, and the values of its `config.json`."""
    values = read_config(folder)
    try:
        config = from_json(LLMConfig, values["config"])
    except InputError as error:
        raise InputError(f"{folder / 'config.json'}: {error}") from None
    stored = values["backbone_config"] if keeps_base(config) else None
    model = LLMModel(config, stored)
    base_sha256 = values.get("base_sha256")  # policies of the first version have none
    if base_sha256 not in (None, model.base_sha256):
        raise InputError(
            f"backbone {config.backbone.name} must have the weights that {folder} was trained "
            f"with, SHA-256 {base_sha256}, got {model.base_sha256}"
        )
    # Adapter first: its absence is the likeliest fault, and the sentence should say so.
    if config.backbone.adapt == "lora":
        path = folder / "adapter" / "adapter_model.safetensors"
        adapter = _read(path)
        wanted = get_peft_model_state_dict(model.backbone, save_embedding_layers=False)
        if adapter.keys() != wanted.keys():
            odd = min(adapter.keys() ^ wanted.keys())
            raise InputError(f"{path} must fit config.json, got {odd} amiss")
        set_peft_model_state_dict(model.backbone, adapter)
    if stored is not None:
        path = folder / "backbone.safetensors"
        names = _base_names(model)
        weights = {names.get(name, name): each for name, each in _read(path).items()}
        _load(model.backbone, weights, set(names.values()), path)
    path = folder / "policy.safetensors"
    _load(model, _read(path), set(model.outside()), path)
    return model, values


def read_config(folder: Path) -> dict[str, Any]:
    """Return the checked values of a policy's `config.json`."""
    path = folder / "config.json"
    if not folder.is_dir():
        raise InputError(f"policy must be a folder, got {folder}, which does not exist")
    if not path.is_file():
        raise InputError(f"{folder} must hold config.json, got a folder without it")
    try:
        values = json.loads(path.read_text())
    except ValueError as error:
        raise InputError(f"{path} must be JSON, got {error}") from error
    schema = values.get("schema") if isinstance(values, dict) else None
    if schema != SCHEMA:
        raise InputError(f"{path} must have the schema {SCHEMA!r}, got {schema!r}")
    missing = [each for each in ("config", "backbone_config", "trained_on") if each not in values]
    if missing:
        raise InputError(f"{path} must have {missing[0]}, got none")
    for name in ("backbone_config", "trained_on"):
        if not isinstance(values[name], dict):
            raise InputError(f"{path} must have an object as {name}, got {values[name]!r}")
    for name in ("recordings", "validation_recordings"):
        names = values["trained_on"].get(name, [])
        if not isinstance(names, list) or not all(isinstance(each, str) for each in names):
            raise InputError(f"{path} must have a list of names as {name}, got {names!r}")
    return dict(values)


def policy_sha256(folder: Path) -> str:
    """Return a hash over the names and contents of a policy's files."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(f"{path.relative_to(folder).as_posix()} {content}\n".encode())
    return digest.hexdigest()


def replace_folder(folder: Path, write: Callable[[Path], None]) -> None:
    """Fill a new folder beside `folder`, then put it in its place; a crash leaves a whole one."""
    recover_folder(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    new = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
    try:
        write(new)
        new.chmod(0o755)
        old = _old(folder)
        if folder.exists():
            os.replace(folder, old)
        os.replace(new, folder)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def recover_folder(folder: Path) -> None:
    """Put back what a crash between the two renames of `replace_folder` took away."""
    old = _old(folder)
    if old.exists():
        if folder.exists():
            shutil.rmtree(old)
        else:
            os.replace(old, folder)


def _old(folder: Path) -> Path:
    return folder.parent / f".{folder.name}.old"


def _base_names(model: LLMModel) -> dict[str, str]:
    """Return the backbone's weights without LoRA: name in the plain backbone -> name here."""
    prefix = "base_model.model." if model.config.backbone.adapt == "lora" else ""
    return {
        name.removeprefix(prefix).replace(".base_layer.", "."): name
        for name in model.backbone.state_dict()
        if ".lora_" not in name
    }


def _load(module: nn.Module, weights: Mapping[str, Tensor], names: set[str], path: Path) -> None:
    """Put the weights with these names, no more and no fewer, into a module that has others too."""
    if weights.keys() != names:
        raise InputError(f"{path} must fit config.json, got {min(weights.keys() ^ names)} amiss")
    try:
        module.load_state_dict(weights, strict=False)
    except RuntimeError as error:
        raise InputError(f"{path} must fit config.json, got weights of other shapes") from error


def _read(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise InputError(f"{path} must exist: the policy is incomplete, got no such file")
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} must be a safetensors file, got {error}") from error


def _plain(state: Mapping[str, Any]) -> dict[str, Tensor]:
    return {name: torch.as_tensor(each).detach().cpu().contiguous() for name, each in state.items()}
