"""Decima: a graph network that schedules a cluster, and its published weights.

One forward pass serves N clusters, the rows of a `ClusterView`; only the two choices are padded.
Messages pass from children to parents, one generation of all graphs at a time.

The published weights are not shipped; they are read from the data folder, `cjs/weights`.

Source: Decima (Mao et al., SIGCOMM 2019) as spark-sched-sim trained it and NetLLM evaluates it.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from netllm_gym.arrays import BoolArray, FloatArray, IntArray
from netllm_gym.configs import MAX_SEED, check
from netllm_gym.data.datasets import find_data
from netllm_gym.data.npz import read_weights
from netllm_gym.envs.cjs.observation import ClusterView
from netllm_gym.errors import InputError
from netllm_gym.policies.baselines.cjs import (
    edge_ends,
    jobs_of_source,
    numbered,
    places_of_jobs,
    room_of_jobs,
)
from netllm_gym.policies.cjs_graph import Level, heights_of, levels_of
from netllm_gym.policies.neural.networks import (
    ActionEvaluation,
    Imitation,
    Network,
    NetworkPolicyFactory,
    dense,
)
from netllm_gym.policies.policy import decoding_of

WEIGHTS_FILE = "decima_tpch_weights.npz"
STAGE_FEATURES = 5
JOB_FEATURES = 3  # the first of them, the same for all stages of a job
WIDTH = 16  # of an embedding
TASKS_SCALE = 200.0
WORK_SCALE_MS = 1e5
_ENCODER_HIDDEN, _HEAD_HIDDEN = (32, 16), (64, 64)
_SLOPE = 0.2  # of LeakyReLU below 0
_MASKED = -1e30  # logit of what cannot be chosen; finite, so that 0 times it is 0
_PUBLISHED_NAMES = {  # ours -> of the published archive
    "prepare": "encoder.node_encoder.mlp_prep",
    "message": "encoder.node_encoder.mlp_msg",
    "update": "encoder.node_encoder.mlp_update",
    "job": "encoder.dag_encoder.mlp",
    "cluster": "encoder.global_encoder.mlp",
    "stage_score": "stage_policy_network.mlp_score",
    "executor_score": "exec_policy_network.mlp_score",
}


class ClusterGraph(NamedTuple):
    """N rows with M stages, J jobs and K stages to choose from, as the network reads them.

    Places count over the whole batch.
    """

    features: Tensor  # (M, 5)
    stage_job: Tensor  # (M,) place of the job
    stage_begin: Tensor  # (N,) where each row's stages begin among the M
    job_features: Tensor  # (J, 3)
    job_row: Tensor  # (J,)
    cap: Tensor  # (J,) executors that the job may be given
    num_executors: Tensor  # (N,)
    leaves: Tensor  # places of stages without a child, in rows that have an edge
    generations: list[Level]  # all other stages of these rows, children first; of tensors
    offered: Tensor  # (K,) places
    offered_row: Tensor  # (K,)
    offered_column: Tensor  # (K,) number among those of its row
    num_offered: Tensor  # (N,)


def cluster_graph(view: ClusterView) -> ClusterGraph:
    """Return what the network reads of a view in which every row offers a stage."""
    stage_job, num_executors = places_of_jobs(view), view.num_executors[view.job_row]
    cap = room_of_jobs(view)
    job_features = np.empty((len(cap), JOB_FEATURES), np.float32)
    job_features[:, 0] = cap / num_executors
    job_features[:, 1] = np.where(jobs_of_source(view), 1.0, -1.0)
    job_features[:, 2] = view.supply / num_executors
    features = np.empty((len(stage_job), STAGE_FEATURES), np.float32)
    features[:, :JOB_FEATURES] = job_features[stage_job]
    features[:, 3] = view.remaining / TASKS_SCALE
    features[:, 4] = view.remaining.astype(np.float32) * view.duration_ms / WORK_SCALE_MS
    edges = edge_ends(view)
    lowest, *generations = levels_of(edges, heights_of(len(stage_job), edges))
    leaves = lowest.parents[view.num_edges[view.stage_row[lowest.parents]] > 0]
    offered = np.flatnonzero(view.schedulable)
    offered_row = view.stage_row[offered]
    offered_column, num_offered = numbered(offered_row, len(view))
    assert num_offered.all(), "every row must offer a stage"
    return ClusterGraph(
        features=torch.from_numpy(features),
        stage_job=torch.from_numpy(stage_job),
        stage_begin=torch.from_numpy(view.stage_ptr[:-1]),
        job_features=torch.from_numpy(job_features),
        job_row=torch.from_numpy(view.job_row),
        cap=torch.from_numpy(cap.astype(np.int64)),
        num_executors=torch.from_numpy(view.num_executors.astype(np.float32)),
        leaves=torch.from_numpy(leaves),
        generations=[Level(*map(torch.from_numpy, each)) for each in generations],
        offered=torch.from_numpy(offered),
        offered_row=torch.from_numpy(offered_row),
        offered_column=torch.from_numpy(offered_column),
        num_offered=torch.from_numpy(num_offered),
    )


class Embeddings(NamedTuple):
    """Embeddings of a batch."""

    stages: Tensor  # (M, 16)
    jobs: Tensor  # (J, 16)
    clusters: Tensor  # (N, 16)


class Choice(NamedTuple):
    """What was chosen in each row, and how likely everything was.

    S and X are the largest numbers of stages and executors that a row could choose from; what is
    beyond a row's own has probability 0 and a finite logarithm.
    """

    actions: Tensor  # (N, 2) as the environment takes them
    log_prob: Tensor  # (N,) of the action
    stage_log_probs: Tensor  # (N, S) of the offered stages in order
    executor_log_probs: Tensor  # (N, X) of 1, 2, ... executors for the chosen stage

    def entropy(self) -> Tensor:
        """Return (N,) of the stage, plus that of the executors given the stage."""
        of_stage = (self.stage_log_probs.exp() * self.stage_log_probs).sum(1)
        return -of_stage - (self.executor_log_probs.exp() * self.executor_log_probs).sum(1)


@dataclass(frozen=True)
class DecimaNetworkConfig:
    """Config of a network of Decima's shape, which serves clusters of any size.

    Attributes:
        seed: Seed of the initial weights.
        problem: Short name of the problem.
    """

    seed: int = 0
    problem: str = "cjs"

    def __post_init__(self) -> None:
        check(0 <= self.seed <= MAX_SEED, "seed", f"be in 0..{MAX_SEED}", self.seed)
        check(self.problem == "cjs", "problem", "be cjs", self.problem)


class Decima(Network):
    """Embeds stages, jobs and the cluster; scores stages, then executors for the chosen one."""

    kind = "decima"
    config: DecimaNetworkConfig
    draws_per_decision: ClassVar[int] = 2  # for the stage and the executors
    draws_by_default: ClassVar[bool] = True  # as it is trained and evaluated

    def __init__(self, config: DecimaNetworkConfig | None = None) -> None:
        super().__init__()
        self.config = DecimaNetworkConfig() if config is None else config
        leaky = partial(nn.LeakyReLU, _SLOPE, inplace=True)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.config.seed)
            self.prepare = dense(STAGE_FEATURES, _ENCODER_HIDDEN, WIDTH, leaky)
            self.message = dense(WIDTH, _ENCODER_HIDDEN, WIDTH, leaky)
            self.update = dense(WIDTH, _ENCODER_HIDDEN, WIDTH, leaky)
            self.job = dense(STAGE_FEATURES + WIDTH, _ENCODER_HIDDEN, WIDTH, leaky)
            self.cluster = dense(WIDTH, _ENCODER_HIDDEN, WIDTH, leaky)
            self.stage_score = dense(STAGE_FEATURES + 3 * WIDTH, _HEAD_HIDDEN, 1, nn.Tanh)
            self.executor_score = dense(JOB_FEATURES + 2 * WIDTH + 1, _HEAD_HIDDEN, 1, nn.Tanh)

    def decide(self, observations: ClusterView, draws: FloatArray | None) -> IntArray:
        """Return (N, 2) actions, no stage where there is no choice."""
        actions = np.tile(np.array([-1, 0]), (len(observations), 1))
        rows = np.flatnonzero(self.chooses(observations))
        if not len(rows):
            return actions
        seen = observations if len(rows) == len(observations) else observations.take(rows)
        drawn = None if draws is None else torch.from_numpy(draws[:, rows])
        actions[rows] = self(cluster_graph(seen), drawn).actions.numpy()
        return actions

    def evaluate_actions(self, observations: ClusterView, actions: IntArray) -> ActionEvaluation:
        """Return how likely (B, 2) actions are; see the base."""
        choice = self(cluster_graph(observations), actions=torch.from_numpy(actions))
        return ActionEvaluation(choice.log_prob, choice.entropy(), None)

    def imitation(self, observations: ClusterView, actions: IntArray) -> Imitation:
        """Return how well the network imitates (B, 2) actions; see the base.

        It agrees where its likeliest stage is the same.
        """
        graph, targets = cluster_graph(observations), torch.from_numpy(actions)
        choice = self(graph, actions=targets)
        begin = torch.cumsum(graph.num_offered, 0) - graph.num_offered
        likeliest = graph.offered[begin + choice.stage_log_probs.argmax(1)] - graph.stage_begin
        demand = torch.from_numpy(observations.demand.astype(np.int64))
        losses = imitation_losses(choice, demand[graph.stage_begin + targets[:, 0]])
        return Imitation(losses, (likeliest == targets[:, 0]).numpy())

    def chooses(self, observations: ClusterView) -> BoolArray:
        """Return (B,) whether there are a stage and executors for it."""
        return offers_choice(observations)

    def check_env(self, env: Any) -> None:
        """Accept any cluster."""

    def forward(
        self, graph: ClusterGraph, draws: Tensor | None = None, actions: Tensor | None = None
    ) -> Choice:
        """Choose in N clusters, or return how likely given choices are.

        Args:
            graph: Of N clusters.
            draws: (2, N) uniform in [0, 1), for the stage and the executors.
            actions: (N, 2) that were chosen. Without draws and actions, the likeliest are.
        """
        return self.choose(graph, self.embed(graph), draws, actions)

    def choose(
        self,
        graph: ClusterGraph,
        embedded: Embeddings,
        draws: Tensor | None = None,
        actions: Tensor | None = None,
    ) -> Choice:
        """Do the same as `forward`, given the embeddings of the graph."""
        stage_log_probs = self.stage_log_probs(graph, embedded)
        if actions is None:
            stage = _pick(stage_log_probs, graph.num_offered, None if draws is None else draws[0])
            begin = torch.cumsum(graph.num_offered, 0) - graph.num_offered
            place = graph.offered[begin + stage]
        else:
            place = graph.stage_begin + actions[:, 0]
            column = torch.zeros(len(graph.features), dtype=torch.int64)
            column[graph.offered] = graph.offered_column
            stage = column[place]
        jobs = graph.stage_job[place]
        executor_log_probs = self.executor_log_probs(graph, embedded, jobs)
        if actions is None:
            executors = _pick(
                executor_log_probs, graph.cap[jobs], None if draws is None else draws[1]
            )
        else:
            executors = actions[:, 1]
        return Choice(
            torch.stack([place - graph.stage_begin, executors], 1),
            stage_log_probs.gather(1, stage[:, None])[:, 0]
            + executor_log_probs.gather(1, executors[:, None])[:, 0],
            stage_log_probs,
            executor_log_probs,
        )

    def embed(self, graph: ClusterGraph) -> Embeddings:
        """Pass messages from children to parents, and sum up jobs and clusters."""
        prepared = self.prepare(graph.features)
        stages = prepared
        if len(graph.leaves):
            stages = stages.index_copy(0, graph.leaves, self.update(prepared[graph.leaves]))
        for parents, children, slots in graph.generations:
            heard = prepared.new_zeros(len(parents), WIDTH)
            heard = heard.index_add(0, slots, self.message(stages[children]))
            stages = stages.index_copy(0, parents, prepared[parents] + self.update(heard))
        jobs = stages.new_zeros(len(graph.job_row), WIDTH).index_add(
            0, graph.stage_job, self.job(torch.cat([graph.features, stages], 1))
        )
        clusters = stages.new_zeros(len(graph.num_executors), WIDTH).index_add(
            0, graph.job_row, self.cluster(jobs)
        )
        return Embeddings(stages, jobs, clusters)

    def stage_log_probs(self, graph: ClusterGraph, embedded: Embeddings) -> Tensor:
        """Return (N, S) log-probabilities of the offered stages of each row."""
        jobs = graph.stage_job[graph.offered]
        seen = [
            graph.features[graph.offered],
            embedded.stages[graph.offered],
            embedded.jobs[jobs],
            embedded.clusters[graph.offered_row],
        ]
        scores = self.stage_score(torch.cat(seen, 1))[:, 0]  # (K,)
        return _log_probs(scores, graph.offered_row, graph.offered_column, graph.num_offered)

    def executor_log_probs(self, graph: ClusterGraph, embedded: Embeddings, jobs: Tensor) -> Tensor:
        """Return (N, X) log-probabilities of 1, 2, ... executors for (N,) jobs, one of each row."""
        seen = torch.cat([graph.job_features[jobs], embedded.jobs[jobs], embedded.clusters], 1)
        count = graph.cap[jobs]
        row = torch.repeat_interleave(count)  # (X in all,)
        column = torch.arange(len(row)) - (torch.cumsum(count, 0) - count)[row]
        share = column / graph.num_executors[row]
        # A row's candidates differ in the last input alone, so the first layer is done once a row.
        first, *others = self.executor_score
        assert isinstance(first, nn.Linear)
        hidden = F.linear(seen, first.weight[:, :-1], first.bias)
        hidden = torch.addcmul(hidden[row], share[:, None], first.weight[:, -1])
        for layer in others:
            hidden = layer(hidden)
        return _log_probs(hidden[:, 0], row, column, count)


def offers_choice(view: ClusterView) -> BoolArray:
    """Return (N,) whether a row has a stage that can be chosen and executors for it."""
    offered = np.bincount(view.stage_row[view.schedulable], minlength=len(view)) > 0
    return np.asarray(offered & (view.committable > 0))


def imitation_losses(choice: Choice, demand: Tensor) -> Tensor:
    """Return (B,) negative log-probabilities of another policy's actions, in nats.

    The environment gives a stage no more executors than it demands, (B,). So where the action gives
    that many or more, every number from the demand up is right.
    """
    given, of_executors = choice.actions[:, 1:], choice.executor_log_probs  # (B, 1), (B, X)
    columns = torch.arange(of_executors.shape[1])
    enough = demand[:, None] - 1
    right = torch.where(given >= enough, columns >= enough, columns == given)
    of_stage = choice.log_prob - of_executors.gather(1, given)[:, 0]
    return -of_stage - of_executors.masked_fill(~right, _MASKED).logsumexp(1)


def _log_probs(scores: Tensor, row: Tensor, column: Tensor, count: Tensor) -> Tensor:
    """Lay scores out as (N, most of a row) and normalise each row."""
    padded = scores.new_full((len(count), int(count.max())), _MASKED)
    return torch.log_softmax(padded.index_put((row, column), scores), 1)


def _pick(log_probs: Tensor, count: Tensor, draws: Tensor | None) -> Tensor:
    """Return (N,) columns: the likeliest, or where the draw falls among the probabilities."""
    if draws is None:
        return log_probs.argmax(1)
    upto = log_probs.exp().cumsum(1, dtype=torch.float64)
    drawn = (upto <= (draws * upto[:, -1])[:, None]).sum(1)
    return torch.minimum(drawn, count - 1)  # rounding must not leave the row's own


def read_decima(path: Path) -> Decima:
    """Read published weights, float32 arrays; refuse a file that is not such an archive."""
    network = Decima()
    weights: dict[str, nn.Parameter] = {}
    for name, weight in network.named_parameters():
        module, _, rest = name.partition(".")
        weights[f"{_PUBLISHED_NAMES[module]}.{rest}"] = weight
    arrays = read_weights(path, {key: tuple(weight.shape) for key, weight in weights.items()})
    for key, weight in weights.items():
        if not np.isfinite(arrays[key]).all():
            raise InputError(f"{key} of {path} must be finite, got inf or nan")
        with torch.no_grad():
            weight.copy_(torch.from_numpy(arrays[key]))
    return network.eval()


def decima_reference(name: str) -> NetworkPolicyFactory:
    """Return the factory of `decima_reference`, `decima_reference:greedy` and so on.

    Raises:
        MissingDataError: If the weights are not on this machine.
    """
    plain, sampled = decoding_of(name)
    network = read_decima(find_data("cjs", "weights", WEIGHTS_FILE)).requires_grad_(False)
    factory = NetworkPolicyFactory(network, sampled=sampled, name=plain)
    factory.name = plain if factory.sampled else name
    return factory
