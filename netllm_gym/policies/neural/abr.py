"""Published ABR networks: the actors of GENET and of uniform domain randomisation (UDR).

Their weights have no licence, so they are not shipped; they are read from the data folder,
`abr/weights/actor_*.npz`. The network is Pensieve's (SIGCOMM 2017) with three outputs: one rung
down, the same rung, one rung up.

Source: Genet (SIGCOMM 2022) as NetLLM evaluates it. Difference: the convolutions of the checkpoints
read a length of one with six channels, so only row 1 of their four kernel rows is ever used. Here
they are the equal dense layers.
"""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from netllm_gym.arrays import Float32Array, FloatArray, IntArray
from netllm_gym.configs import check
from netllm_gym.data.datasets import find_data
from netllm_gym.data.npz import read_weights
from netllm_gym.envs.abr.observation import (
    BITRATE,
    BUFFER,
    DOWNLOAD,
    HISTORY,
    REMAINING,
    SIZES,
    THROUGHPUT,
)
from netllm_gym.envs.rows import num_rows_of
from netllm_gym.errors import InputError
from netllm_gym.policies.baselines.abr import AnyABREnv, Observations, last_rungs
from netllm_gym.policies.policy import decoding_of
from netllm_gym.randomness import EpisodeDraws

ACTOR_FILES = {  # published network -> file below abr/weights
    "genet_reference": "actor_genet.npz",
    "udr_1_reference": "actor_udr_1.npz",
    "udr_2_reference": "actor_udr_2.npz",
    "udr_3_reference": "actor_udr_3.npz",
    "udr_real_reference": "actor_udr_real.npz",
}
RUNGS = 6  # of the ladder that the networks were trained on
MOVES = 3  # one rung down, the same, one up
_BRANCHES = (  # layer, row of the observation, newest columns that it reads; in order of the merge
    ("fc_bitrate", BITRATE, 1),
    ("fc_buffer", BUFFER, 1),
    ("conv_throughput", THROUGHPUT, HISTORY),
    ("conv_delay", DOWNLOAD, HISTORY),
    ("conv_sizes", SIZES, RUNGS),
    ("fc_remain", REMAINING, 1),
)
_DEAD_KERNEL_AXES = (4, 1)  # of the convolutions' (4, 1, 6, width) weights


class PensieveActor(nn.Module):
    """One dense branch per row of the observation, merged by a hidden layer; all of one width."""

    def __init__(self, width: int = 128) -> None:
        super().__init__()
        self.branches = nn.ModuleDict(
            {layer: nn.Linear(columns, width) for layer, _, columns in _BRANCHES}
        )
        self.fc_hidden = nn.Linear(len(_BRANCHES) * width, width)
        self.fc_out = nn.Linear(width, MOVES)

    def forward(self, observations: Tensor) -> Tensor:
        """Return (B, 3) logits of down, same and up for (B, 6, 6) observations."""
        seen = [
            torch.relu(self.branches[layer](observations[:, row, -columns:]))  # (B, width)
            for layer, row, columns in _BRANCHES
        ]
        hidden = torch.relu(self.fc_hidden(torch.cat(seen, dim=1)))
        logits: Tensor = self.fc_out(hidden)
        return logits


def read_actor(path: Path) -> PensieveActor:
    """Read a published actor, arrays `<layer>_W` (in, out) and `<layer>_b` (out,) of float32.

    Raises:
        InputError: If the file is not such an archive; it is never unpickled.
    """
    actor = PensieveActor()
    layers: dict[str, nn.Module] = {**actor.branches}
    layers |= {"fc_hidden": actor.fc_hidden, "fc_out": actor.fc_out}
    shapes: dict[str, tuple[int, ...]] = {}
    for layer, module in layers.items():
        assert isinstance(module, nn.Linear)
        outputs, inputs = module.weight.shape
        kernel = _DEAD_KERNEL_AXES if layer.startswith("conv_") else ()
        shapes |= {f"{layer}_W": (*kernel, inputs, outputs), f"{layer}_b": (outputs,)}
    arrays = read_weights(path, shapes)
    for layer, module in layers.items():
        assert isinstance(module, nn.Linear)
        weight, bias = arrays[f"{layer}_W"], arrays[f"{layer}_b"]
        used = weight[1, 0] if weight.ndim > 2 else weight
        if not (np.isfinite(used).all() and np.isfinite(bias).all()):
            raise InputError(f"{layer} of {path} must be finite, got inf or nan")
        with torch.no_grad():
            module.weight.copy_(torch.from_numpy(used).T)
            module.bias.copy_(torch.from_numpy(bias))
    return actor.eval()


def choose_moves(probabilities: Float32Array, thousandths: IntArray) -> IntArray:
    """Return the reference's draw from (N, 3) probabilities: 0, 1 or 2 for down, same, up.

    It is the first move whose cumulative probability exceeds k/1000, with k in 1..999, or move 0
    if there is none because of rounding.
    """
    drawn = (thousandths / 1000.0).astype(np.float32)  # as numpy compares a float with float32
    exceeds = np.cumsum(probabilities, axis=1) > drawn[:, None]
    return np.asarray(exceeds.argmax(axis=1), np.int64)


class ReferenceActorPolicy:
    """The policy of a published actor.

    Args:
        env: Environment whose video must have the six rungs that the actors were trained on.
        actor: Key of `ACTOR_FILES`.
        sampled: Whether moves are drawn by the episode's seed; else the likeliest is taken.

    Raises:
        MissingDataError: If the weights are not on this machine.
    """

    def __init__(
        self, env: AnyABREnv, actor: str = "genet_reference", sampled: bool = False
    ) -> None:
        check(actor in ACTOR_FILES, "actor", f"be one of {', '.join(ACTOR_FILES)}", actor)
        if env.video.num_rungs != RUNGS:
            raise InputError(
                f"video must have the {RUNGS} rungs that {actor} was trained on, "
                f"got {env.video.num_rungs}"
            )
        self.name = f"{actor}:sampled" if sampled else actor
        self.actor = read_actor(find_data("abr", "weights", ACTOR_FILES[actor]))
        self._sampled = sampled
        self._ladder_mbps = env.video.ladder_mbps
        self._draws = EpisodeDraws(num_rows_of(env))

    def reset(self, rows: IntArray, seeds: IntArray) -> None:
        """Start the rows' draws anew; the network has no memory."""
        self._draws.reset(rows, seeds)

    def act(
        self, observations: Observations, rewards: FloatArray, infos: Mapping[str, Any]
    ) -> IntArray:
        """Return (N,) rungs."""
        with torch.inference_mode():
            logits = self.actor(torch.from_numpy(np.ascontiguousarray(observations)))
            if self._sampled:
                moves = choose_moves(torch.softmax(logits, dim=1).numpy(), self._thousandths())
            else:
                moves = logits.argmax(dim=1).numpy()
        moved = last_rungs(observations, self._ladder_mbps) + moves - 1
        return np.asarray(np.clip(moved, 0, RUNGS - 1), np.int64)

    def _thousandths(self) -> IntArray:
        """Draw (N,) k uniform in 1..999."""
        return 1 + (self._draws.draw() * 999.0).astype(np.int64)


def reference_actor(name: str) -> Callable[[AnyABREnv], ReferenceActorPolicy]:
    """Return the factory of `genet_reference`, `udr_1_reference:sampled` and so on."""
    actor, sampled = decoding_of(name)
    return partial(ReferenceActorPolicy, actor=actor, sampled=bool(sampled))
