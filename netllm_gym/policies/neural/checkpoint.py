"""A small network on disk: `config.json` and `weights.safetensors`, nothing else needed to run it.

`config.json` names the network, which decides what its `config` means; `policies/checkpoint.py`
has what all kinds of policies share.
"""

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from netllm_gym.configs import from_json, to_json
from netllm_gym.errors import InputError
from netllm_gym.policies.checkpoint import (
    check_device,
    check_tensors,
    read_config,
    read_tensors,
    write_config,
    write_tensors,
)
from netllm_gym.policies.neural.networks import KeptNetwork
from netllm_gym.policies.policy import TrainedPolicyFactory

SCHEMA = "netllm-gym network 1"
WEIGHTS_FILE = "weights.safetensors"
NETWORKS = {  # name in config.json -> config and class, imported when they are asked for
    "abr-memory": ("netllm_gym.policies.neural.abr_mlp", "ABRNetworkConfig", "ABRNetwork"),
    "decima": ("netllm_gym.policies.neural.cjs", "DecimaNetworkConfig", "Decima"),
    "viewport": ("netllm_gym.policies.neural.vp", "ViewportNetworkConfig", "ViewportNetwork"),
}


def write_network(
    folder: Path, network: KeptNetwork, trained_on: Mapping[str, Any] | None = None
) -> None:
    """Write a network's files into an existing folder.

    Args:
        folder: Where.
        network: Any state; nothing of it is changed.
        trained_on: Where the training data came from (worlds, recordings), as JSON values.
    """
    [name] = [name for name, known in NETWORKS.items() if known[2] == type(network).__name__]
    write_tensors(folder / WEIGHTS_FILE, network.state_dict())
    values = {"schema": SCHEMA, "network": name, "config": to_json(network.config)}
    write_config(folder, values, [WEIGHTS_FILE], trained_on)


def load_network(folder: Path) -> tuple[KeptNetwork, dict[str, Any]]:
    """Read a network and the values of its `config.json`.

    Raises:
        InputError: If a file is missing, broken, altered or of another schema.
    """
    values = read_config(folder, SCHEMA)
    path = folder / "config.json"
    name = values.get("network")
    if name not in NETWORKS:
        raise InputError(
            f"{path} must name a network of {', '.join(NETWORKS)}, got {name!r}; what an older "
            "version trained must be trained anew"
        )
    module, config_name, class_name = NETWORKS[name]
    found = importlib.import_module(module)
    weights = read_tensors(folder / WEIGHTS_FILE, values.get("sha256", {}).get(WEIGHTS_FILE))
    try:
        config = from_json(getattr(found, config_name), values["config"])
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    with torch.device("meta"):  # sizes first: a number may ask for all the memory
        wanted = getattr(found, class_name)(config).state_dict()
    check_tensors(folder / WEIGHTS_FILE, weights, wanted)
    network: KeptNetwork = getattr(found, class_name)(config)
    network.load_state_dict(weights)
    return network, values


def load_network_policy(
    folder: Path | str, *, sampled: bool | None = None, name: str = "ppo", device: str = "cpu"
) -> TrainedPolicyFactory:
    """Read a policy, ready to act.

    Args:
        folder: As `write_network` filled it.
        sampled: Draw actions instead of taking the likeliest; None does as is usual for the
            problem.
        name: What tables call it.
        device: Must be there; a network this small is as fast on the CPU, where it runs.

    Returns:
        A factory env -> policy, or windows -> predictor, with the attribute `trained_on`.

    Raises:
        InputError: If a file is missing, broken, altered or of another schema.
    """
    check_device(device)
    network, values = load_network(Path(folder))
    acting = network.eval().requires_grad_(False)
    return acting.factory(sampled=sampled, name=name, trained_on=values["trained_on"])
