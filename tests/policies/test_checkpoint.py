"""Weights are taken only where there is room for them."""

from pathlib import Path

import pytest
import torch

from netllm_gym.errors import InputError
from netllm_gym.policies.checkpoint import check_tensors

ROOM = {"weight": torch.zeros(2, 3), "steps": torch.zeros((), dtype=torch.int64)}
FILE = Path("weights.safetensors")


def test_weights_that_fit_pass():
    check_tensors(FILE, {name: each + 1 for name, each in ROOM.items()}, ROOM)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"weight": torch.zeros(3, 2)}, r"with weight \(2, 3\) of torch.float32, got \(3, 2\)"),
        ({"weight": torch.zeros(2, 3, dtype=torch.float64)}, "got .* of torch.float64"),
        ({"weight": torch.full((2, 3), torch.nan)}, "weight of weights.* must be finite, got inf"),
        ({"other": torch.zeros(1)}, "must fit config.json, which differs in other"),
    ],
)
def test_weights_that_do_not_fit_are_refused(change, sentence):
    with pytest.raises(InputError, match=sentence):
        check_tensors(FILE, {**ROOM, **change}, ROOM)


def test_a_weight_that_is_not_there_is_named():
    with pytest.raises(InputError, match="which differs in weight"):
        check_tensors(FILE, {"steps": ROOM["steps"]}, ROOM)
