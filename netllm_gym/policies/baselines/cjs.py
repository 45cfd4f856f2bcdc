"""Rules for cluster job scheduling: random, FIFO, fair shares, shortest job first, SRPT.

Every rule answers for all rows of a `ClusterView` at once, with an operation per array and none per
stage. An answer is (position of a stage among the row's stages, executors - 1), where executors
means at most; the stage is -1 where the rule leaves the executors where they are.

Sources: `spec/cjs.md` 5.1 for random, FIFO and fair, equal to NetLLM's; weighted fair and SJF-CP
are the baselines of Decima (Mao et al., SIGCOMM 2019), which NetLLM does not have.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from netllm_gym.envs.cjs.observation import ClusterView
from netllm_gym.errors import InputError
from netllm_gym.policies.policy import FloatArray, IntArray
from netllm_gym.randomness import EpisodeDraws

BoolArray = NDArray[np.bool_]
AnyCJSEnv = Any


class Offers(NamedTuple):
    """The K stages of a view that may be chosen, in order; places count over the whole view."""

    stage: IntArray  # (K,) its place
    job: IntArray  # (K,) place of its job
    ready: BoolArray  # (K,) whether its parents have all ended, so that it can begin at once


def offers(view: ClusterView) -> Offers:
    """Return the stages that may be chosen."""
    waiting = np.zeros(len(view.remaining), np.bool_)
    waiting[child_places(view)] = True
    stage = np.flatnonzero(view.schedulable)
    job = view.job_ptr[view.stage_row[stage]] + view.stage_job[stage]
    return Offers(stage, job, ~waiting[stage])


def stage_places(view: ClusterView) -> IntArray:
    """Return (M,) the place of each stage's job among all jobs of the view."""
    return view.job_ptr[view.stage_row] + view.stage_job


def child_places(view: ClusterView) -> IntArray:
    """Return (L,) the place of each edge's child among all stages of the view."""
    return view.stage_ptr[view.edge_row] + view.edges[:, 1]
