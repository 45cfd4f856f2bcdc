"""Made-up clusters as batches of the model, and the models that the CJS tests share."""

from dataclasses import replace

import numpy as np

from netllm_gym.envs.cjs.observation import ClusterView
from netllm_gym.policies.llm import cjs
from netllm_gym.policies.llm.config import BackboneConfig, LLMConfig
from netllm_gym.policies.llm.model import LLMModel
from netllm_gym.pools.windows import PaddedEpisodes, Windows
from tests.policies.llm.made import NO_RETURNS
from tests.pools.made_cjs import made_cluster_episode, made_view


def make_cjs_config(name, returns=NO_RETURNS, **backbone):
    return LLMConfig(
        problem="cjs",
        feature_dim=16,
        max_steps=1,
        num_actions=0,
        observation_shape=(),
        backbone=BackboneConfig(name, **{"init": "random", **backbone}),
        returns=returns,
    )


def make_cjs_model(name, **options):
    model = LLMModel(make_cjs_config(name, **options)).eval()
    model.encoders.fit(made_view(9, num_steps=60)[0])
    for each in model.head.parameters():
        each.data *= 4.0  # so that a wrong token shows
    return model


def make_cjs_episodes(lengths=(30, 12, 21), policies=("fair",), **shape):
    """Made-up episodes, one per length and policy; those of one length have one seed."""
    return PaddedEpisodes.of(
        [
            made_cluster_episode(seed, policy, num_steps=length, **shape)
            for policy in policies
            for seed, length in enumerate(lengths)
        ]
    )


def make_cjs_batch(episodes, rows=None):
    """Return decisions, all or some, as the model's batch of one forward pass."""
    windows = Windows(episodes, np.zeros(episodes.mask.shape), 1)
    rows = np.arange(len(windows)) if rows is None else np.asarray(rows)
    return cjs.CJSParts().tensors(windows.batch(rows))


def empty_row():
    """Return the view of a cluster whose episode is over."""
    view, _ = made_view(0, num_steps=1)
    return replace(
        view,
        committable=np.zeros(1, np.int32),
        source_job=np.full(1, -1, np.int32),
        **dict.fromkeys(("num_stages", "num_jobs", "num_edges"), np.zeros(1, np.int32)),
        **{
            name: getattr(view, name)[:0]
            for name in (
                *("remaining", "demand", "duration_ms", "schedulable", "stage_id", "stage_job"),
                *("num_tasks", "job_id", "supply", "arrival_ms", "work_ms", "edges"),
            )
        },
    )


def concatenate(*views):
    return ClusterView.concatenate(views)
