"""Small settings and made-up episodes that the tests around here share."""

import numpy as np

from netllm_gym.policies.offline import cjs
from netllm_gym.policies.offline.config import TRAININGS, OfflineConfig
from netllm_gym.policies.returns import ReturnSpec
from tests.policies.llm.made import MAX_STEPS

METHODS = ("bc", "cql", "dt")
SMALL = {"hidden_units": (16, 8), "context_steps": 4, "num_layers": 1, "num_heads": 2}
TOLD = ReturnSpec(kind="return_to_go", center=-1.0, scale=2.0, target=1.5)


def make_config(method, problem="abr", **changes):
    sizes = {
        "abr": {"num_features": 36, "num_actions": 6, "max_steps": MAX_STEPS},
        "cjs": {"num_features": cjs.NUM_FEATURES, "num_actions": cjs.NUM_ACTIONS, "max_steps": 1},
    }
    return OfflineConfig(
        **{"problem": problem, "method": method, **sizes[problem], **SMALL, "returns": TOLD}
        | changes
    )


def make_schedule(method, **changes):
    small = {"updates": 6, "batch_size": 8, "learning_rate": 1e-2}
    rest = {"validate_every": 0, "checkpoint_every": 0}
    often = {"target_every": 2} if method == "cql" else {}
    return TRAININGS[method](**small | rest | often | changes)


def lively(model):
    """Return the model with weights far from 0, so that a wrong input shows."""
    for name, each in model.named_parameters():
        if each.ndim >= 2:
            each.data *= 4.0 if "_encoder" in name else 20.0
    return model


def parts_of_features(row):
    """Return what one row's features say of the stages by rank, (K, F), and of the cluster."""
    stages, cluster = np.split(row, [row.size - cjs.NUM_ROW])
    return stages.reshape(cjs.NUM_SHOWN, -1), cluster
