"""A small network on disk: `config.json` and `weights.safetensors`.

`config.json` holds the network's kind, by which a problem names its class, and its config.
`policies/checkpoint.py` has what all kinds of trained policies share.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, get_type_hints

import torch
from torch import nn

from netllm_gym.configs import from_json
from netllm_gym.errors import InputError
from netllm_gym.files import errors_begin_with
from netllm_gym.policies.checkpoint import (
    check_device,
    check_tensors,
    read_config,
    read_tensors,
    write_config,
    write_tensors,
)
from netllm_gym.policies.policy import TrainedPolicyFactory
from netllm_gym.problems.index import problems
from netllm_gym.problems.problem import imported

SCHEMA = "netllm-gym network 1"
WEIGHTS_FILE = "weights.safetensors"


class KeptNetwork(nn.Module):
    """A network that can be written to a folder and read from it.

    A subclass is made from its config alone, and annotates `config` with the config's class.

    Attributes:
        kind: Name of the class in `config.json`; the problem's `networks` say what it means.
        config: A frozen dataclass with the field `problem`, the short name of its problem. With
            the weights, it rebuilds the network.
    """

    kind: ClassVar[str]
    config: Any

    def factory(
        self, *, sampled: bool | None, name: str, trained_on: Mapping[str, Any]
    ) -> TrainedPolicyFactory:
        """Return what builds policies, or predictors, of it; see `TrainedPolicyFactory`."""
        raise NotImplementedError


def write_network(
    folder: Path, network: KeptNetwork, trained_on: Mapping[str, Any] | None = None
) -> None:
    """Write a network's files into an existing folder; see `write_config`."""
    write_tensors(folder / WEIGHTS_FILE, network.state_dict())
    write_config(folder, SCHEMA, network.config, [WEIGHTS_FILE], trained_on, network=network.kind)


def load_network(folder: Path) -> tuple[KeptNetwork, dict[str, Any]]:
    """Read a network and the values of its `config.json`; refuse broken files."""
    values = read_config(folder, SCHEMA)
    path = folder / "config.json"
    known = {kind: target for each in problems().values() for kind, target in each.networks.items()}
    kind = values.get("network")
    if not isinstance(kind, str) or kind not in known:
        raise InputError(
            f"{path} must name a network of {', '.join(known)}, got {kind!r}; networks of older "
            "versions must be trained anew"
        )
    network_class: type[KeptNetwork] = imported(known[kind])
    weights = read_tensors(folder / WEIGHTS_FILE, values.get("sha256", {}).get(WEIGHTS_FILE))
    with errors_begin_with(path):
        config = from_json(get_type_hints(network_class)["config"], values["config"])
    with torch.device("meta"):  # only sizes, since a number may ask for more than all the memory
        wanted = network_class(config).state_dict()
    check_tensors(folder / WEIGHTS_FILE, weights, wanted)
    network = network_class(config)
    network.load_state_dict(weights)
    return network, values


def load_network_policy(
    folder: Path | str, *, sampled: bool | None = None, name: str = "", device: str = "cpu"
) -> TrainedPolicyFactory:
    """Read a policy or predictor, ready to act; see `FOLDER_READERS` in `policies/loading.py`.

    The device must exist, but the network runs on the CPU, which is as fast for its size.
    """
    check_device(device)
    network, values = load_network(Path(folder))
    acting = network.eval().requires_grad_(False)
    return acting.factory(sampled=sampled, name=name, trained_on=values["trained_on"])
