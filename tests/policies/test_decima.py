"""Decima: the slow obvious forward of one cluster, and what the published program did."""

import json
import random
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from netllm_gym.data.datasets import find_data
from netllm_gym.envs.cjs.observation import ClusterView
from netllm_gym.errors import InputError, MissingDataError
from netllm_gym.policies.neural.cjs import (
    WEIGHTS_FILE,
    Decima,
    DecimaNetworkConfig,
    _pick,
    cluster_graph,
    decima_reference,
    read_decima,
)
from netllm_gym.policies.neural.networks import NetworkPolicy
from tests.policies.made_clusters import FINISHED, MadeJob, MadeStage, made_row, scattered_rows
from tests.policies.plain_cluster import (
    SHARED,
    golden,
    needs_plain,
    plain,
    plain_action,
    replay,
    view_of,
)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def made_network(seed=0):
    """A network whose choices are neither even nor sure."""
    network = Decima(DecimaNetworkConfig(seed))
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(0.0, 0.1)
            if name.endswith("score.4.weight"):
                parameter.mul_(20.0)
    return network


def offering_rows(num_rows=60, seed=0):
    """Rows that offer something, as every row that is asked does."""
    view = scattered_rows(num_rows, seed)
    offers = np.bincount(view.stage_row[view.schedulable], minlength=num_rows) > 0
    return view.take(np.flatnonzero(offers))


def layer(network, name, inputs):
    return getattr(network, name)(torch.tensor(np.asarray(inputs), dtype=torch.float32)).numpy()


def plain_forward(network, view):
    """Return the scores of the stages, and of the executors by job, of a view of one row."""
    cluster, committable = int(view.num_executors[0]), int(view.committable[0])
    caps, features = [], []
    for j in range(view.num_jobs[0]):
        cap = min(max(cluster - view.supply[j], 0), committable)
        caps.append(committable if j == view.source_job[0] else int(cap))
    for s, j in enumerate(view.stage_job):
        own = 1.0 if j == view.source_job[0] else -1.0
        work = float(view.remaining[s]) * float(view.duration_ms[s]) / 1e5
        shares = [caps[j] / cluster, own, view.supply[j] / cluster]
        features.append([*shares, view.remaining[s] / 200, work])
    embedded = {}

    def embed(s):
        if s not in embedded:
            prepared = layer(network, "prepare", features[s])
            children = [child for parent, child in view.edges if parent == s]
            if len(view.edges) == 0:
                embedded[s] = prepared
            elif not children:
                embedded[s] = layer(network, "update", prepared)
            else:
                heard = sum(layer(network, "message", embed(child)) for child in children)
                embedded[s] = prepared + layer(network, "update", heard)
        return embedded[s]

    jobs = [
        sum(
            layer(network, "job", [*features[s], *embed(s)])
            for s in range(len(features))
            if view.stage_job[s] == j
        )
        for j in range(len(caps))
    ]
    all_jobs = sum(layer(network, "cluster", job) for job in jobs)
    stage_scores = [
        layer(network, "stage_score", [*features[s], *embed(s), *jobs[j], *all_jobs])[0]
        for s, j in enumerate(view.stage_job)
        if view.schedulable[s]
    ]
    executor_scores = []
    for j, cap in enumerate(caps):
        first = features[list(view.stage_job).index(j)][:3]
        rows = [[*first, *jobs[j], *all_jobs, k / cluster] for k in range(cap)]
        executor_scores.append(layer(network, "executor_score", rows)[:, 0] if rows else [])
    return stage_scores, executor_scores


def log_softmax(scores):
    scores = np.asarray(scores, float)
    return scores - scores.max() - np.log(np.exp(scores - scores.max()).sum())


@torch.no_grad()
def test_a_batch_is_the_obvious_forward_of_each_row():
    network, view = made_network(), offering_rows()
    assert (view.num_edges == 0).any()  # such rows have a rule of their own
    assert (view.num_edges > 0).any()
    choice = network(cluster_graph(view))
    for row in range(len(view)):
        alone = view.take([row])
        stage_scores, executor_scores = plain_forward(network, alone)
        expected = log_softmax(stage_scores)
        found = choice.stage_log_probs[row].numpy()
        np.testing.assert_allclose(found[: len(expected)], expected, rtol=1e-4, atol=1e-5)
        assert np.exp(found[len(expected) :]).sum() == 0.0
        stage, executors = choice.actions[row].tolist()
        assert stage == np.flatnonzero(alone.schedulable)[expected.argmax()]
        expected = log_softmax(executor_scores[alone.stage_job[stage]])
        found = choice.executor_log_probs[row].numpy()
        np.testing.assert_allclose(found[: len(expected)], expected, rtol=1e-4, atol=1e-5)
        assert np.exp(found[len(expected) :]).sum() == 0.0
        assert executors == expected.argmax()


def test_a_choice_that_is_named_has_the_probability_it_was_drawn_with():
    network, view = made_network(), offering_rows()
    graph = cluster_graph(view)
    draws = torch.rand(2, len(view), generator=torch.Generator().manual_seed(0))
    drawn = network(graph, draws.double())
    named = network(graph, actions=drawn.actions)
    torch.testing.assert_close(named, drawn, rtol=0.0, atol=0.0)
    stages = np.exp(drawn.stage_log_probs.detach().numpy().astype(float))
    executors = np.exp(drawn.executor_log_probs.detach().numpy().astype(float))
    with np.errstate(divide="ignore", invalid="ignore"):
        expected = sum(-np.nansum(p * np.log(p), axis=1) for p in (stages, executors))
    np.testing.assert_allclose(drawn.entropy().detach().numpy(), expected, rtol=1e-4, atol=1e-5)


def test_gradients_reach_every_weight_and_are_finite():
    network, view = made_network(), offering_rows()
    choice = network(cluster_graph(view), torch.full((2, len(view)), 0.5, dtype=torch.float64))
    (choice.log_prob + choice.entropy()).sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        # A score's last bias moves all scores alike, which no softmax notices.
        assert name.endswith("score.4.bias") or parameter.grad.abs().sum() > 0, name


@torch.no_grad()
def test_draws_fall_as_often_as_the_probabilities_say():
    jobs = [MadeJob([MadeStage(30, 900.0, True), MadeStage(9, 400.0, True)]) for _ in range(2)]
    view = ClusterView.concatenate([made_row(jobs, committable=4)] * 5000)
    policy = NetworkPolicy(made_network(), 5000, sampled=True, name="made")
    policy.reset(np.arange(5000), np.arange(5000))
    actions = policy.act(view, np.zeros(5000), {})
    choice = policy.model(cluster_graph(view.take([0])))
    shares = np.bincount(actions[:, 0], minlength=4) / 5000
    np.testing.assert_allclose(shares, choice.stage_log_probs[0].exp(), atol=0.03)
    likeliest, _ = choice.actions[0].tolist()
    counts = np.bincount(actions[actions[:, 0] == likeliest, 1], minlength=4)
    np.testing.assert_allclose(counts / counts.sum(), choice.executor_log_probs[0].exp(), atol=0.05)


def test_no_draw_leaves_what_a_row_offers():
    # Two to choose from and a third column that is another row's; half the draws' range each.
    log_probs = torch.tensor([[0.5, 0.5, 0.0]]).log().clamp(min=-1e30).repeat(4, 1)
    draws = torch.tensor([0.0, 0.4999, 0.5, 1.0 - 2.0**-53], dtype=torch.float64)
    assert _pick(log_probs, torch.tensor([2] * 4), draws).tolist() == [0, 0, 1, 1]
    assert _pick(log_probs, torch.tensor([2] * 4), torch.ones(4).double()).tolist() == [1] * 4


@pytest.mark.parametrize("decoding", ["sampled", "greedy"])
def test_each_row_is_answered_as_if_alone(decoding):
    view = scattered_rows(60, seed=5)
    network = made_network()

    def choose(view, seeds):
        sampled = decoding == "sampled"
        policy = NetworkPolicy(network, len(view), sampled=sampled, name="made")
        policy.reset(np.arange(len(view)), np.asarray(seeds))
        return policy.act(view, np.zeros(len(view)), {}).tolist()

    together = choose(view, range(60))
    assert together == [choose(view.take([row]), [row])[0] for row in range(60)]
    offered = np.bincount(view.stage_row[view.schedulable], minlength=60) > 0
    assert [stage >= 0 for stage, _ in together] == offered.tolist()
    assert choose(ClusterView.concatenate([FINISHED] * 2), [0, 1]) == [[-1, 0], [-1, 0]]


PUBLISHED = (
    "encoder.node_encoder.mlp_prep",
    "encoder.node_encoder.mlp_msg",
    "encoder.node_encoder.mlp_update",
    "encoder.dag_encoder.mlp",
    "encoder.global_encoder.mlp",
    "stage_policy_network.mlp_score",
    "exec_policy_network.mlp_score",
)


@pytest.fixture
def plant(tmp_path, monkeypatch):
    """Return a function that puts weights where the published ones are looked for."""
    monkeypatch.setenv("NETLLM_GYM_DATA", str(tmp_path))
    (tmp_path / "cjs/weights").mkdir(parents=True)

    def write(arrays):
        path = tmp_path / "cjs/weights" / WEIGHTS_FILE
        np.savez(path, **arrays)
        return path

    return write


def published_arrays(network):
    modules = [name.split(".")[0] for name, _ in network.named_parameters()]
    names = dict(zip(dict.fromkeys(modules), PUBLISHED, strict=True))
    return {
        f"{names[name.split('.')[0]]}.{name.split('.', 1)[1]}": weight.detach().numpy()
        for name, weight in network.named_parameters()
    }


def test_published_names_go_to_their_layers(plant):
    network = made_network()
    read = read_decima(plant(published_arrays(network)))
    torch.testing.assert_close(read.state_dict(), network.state_dict(), rtol=0.0, atol=0.0)
    assert sum(weight.numel() for weight in read.parameters()) == 20_802
    assert decima_reference("decima_reference")(SimpleNamespace(num_envs=2)).name == (
        "decima_reference"
    )
    greedy = decima_reference("decima_reference:greedy")(SimpleNamespace(num_envs=2))
    assert greedy.name == "decima_reference:greedy"
    with pytest.raises(InputError, match="decoding must be greedy or sampled, got 'beam'"):
        decima_reference("decima_reference:beam")


def test_wrong_weights_are_refused_in_one_sentence(plant, tmp_path):
    arrays = published_arrays(made_network())
    key = "encoder.dag_encoder.mlp.0.weight"
    with pytest.raises(InputError, match=rf"{key} of .* must be \(32, 21\) of float32, got none"):
        read_decima(plant({name: array for name, array in arrays.items() if name != key}))
    with pytest.raises(InputError, match=r"must be \(32, 21\) of float32, got \(21, 32\)"):
        read_decima(plant({**arrays, key: arrays[key].T}))
    with pytest.raises(InputError, match="must be finite, got inf or nan"):
        read_decima(plant({**arrays, key: arrays[key] * np.float32(np.nan)}))
    with pytest.raises(InputError, match=r"must be a \.npz archive of plain arrays"):
        read_decima(plant({key: np.array([{}], object)}))
    (tmp_path / "cjs/weights" / WEIGHTS_FILE).unlink()
    with pytest.raises(MissingDataError, match=f"cjs/weights/{WEIGHTS_FILE} must be on this"):
        decima_reference("decima_reference")


def published_network():
    return read_decima(find_data("cjs", "weights", WEIGHTS_FILE))


def captured_view(state):
    """Return the view of a state that the published program was captured in."""
    committable, source, num_executors = state["scalars"].tolist()
    nodes, begins = state["raw_nodes"], state["dag_ptr"]
    jobs = []
    for j, supply in enumerate(state["exec_supplies"].tolist()):
        own = nodes[begins[j] : begins[j + 1]].tolist()
        stages = [MadeStage(int(left), ms, bool(flag)) for left, ms, flag in own]
        inside = (begins[j] <= state["edge_links"]) & (state["edge_links"] < begins[j + 1])
        edges = state["edge_links"][inside.all(axis=1)] - begins[j]
        jobs.append(MadeJob(stages, edges.tolist(), supply))
    return made_row(jobs, committable, source if source < len(jobs) else -1, num_executors)


@needs_plain
@torch.no_grad()
def test_captured_states_give_what_the_published_network_gave():
    folder = SHARED / "reference/cjs"
    rows = json.loads((folder / "decima_forward_golden_index.json").read_text())
    with np.load(folder / "decima_forward_golden.npz", allow_pickle=False) as archive:
        states = [{} for _ in rows]
        for key in archive.files:
            number, _, name = key.partition("/")
            states[int(number)][name] = archive[key]
    view = ClusterView.concatenate([captured_view(state) for state in states])
    network, graph = published_network(), cluster_graph(view)
    np.testing.assert_array_equal(graph.features, np.concatenate([s["x"] for s in states]))
    embedded = network.embed(graph)
    for ours, name in ((embedded.stages, "h_node"), (embedded.jobs, "h_dag")):
        theirs = np.concatenate([state[name] for state in states])
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)
    theirs = np.concatenate([state["h_glob"] for state in states])
    np.testing.assert_allclose(embedded.clusters, theirs, rtol=1e-5, atol=1e-5)
    stage_log_probs = network.stage_log_probs(graph, embedded).numpy()
    for row, state in enumerate(states):
        expected = log_softmax(state["stage_logits"])
        np.testing.assert_allclose(
            stage_log_probs[row, : len(expected)], expected, rtol=1e-5, atol=1e-5
        )
    for j in range(max(view.num_jobs)):  # the j-th job of every row that has one, else its first
        jobs = view.job_ptr[:-1] + np.where(j < view.num_jobs, j, 0)
        found = network.executor_log_probs(graph, embedded, torch.from_numpy(jobs)).numpy()
        for row, state in enumerate(states):
            if f"exec_logits_job{j}" in state:
                expected = log_softmax(state[f"exec_logits_job{j}"])
                np.testing.assert_allclose(
                    found[row, : len(expected)], expected, rtol=1e-5, atol=1e-5
                )


@needs_plain
def test_greedy_decisions_are_the_published_programs():
    run = golden("decima_greedy_seed666_jobs5_exec10")
    sim = replay(run)
    policy = decima_reference("decima_reference:greedy")(SimpleNamespace(num_envs=1))
    for decision in run["decisions"]:
        action = plain_action(sim, policy.act(view_of([sim]), np.zeros(1), {})[0])
        assert list(action) == decision["a"], f"at {decision['t']} ms"
        sim.step(action)


@needs_plain
@torch.no_grad()
def test_sampled_decisions_are_the_published_programs_from_the_same_draws():
    # Durations come from the same stream. The published program takes idle executors in the order
    # of a hash, which shows in decision 88 of 92 for the first time.
    run, module, stream = golden("decima_seed666_jobs5_exec10"), plain(), random.Random(666)
    sim = module.Sim(module.arrivals(666, 5), 10, module.rng_sampler(stream))
    network = published_network()
    for decision in run["decisions"][:88]:
        draws = torch.tensor([[stream.random()], [stream.random()]], dtype=torch.float64)
        chosen = network(cluster_graph(view_of([sim])), draws).actions[0].tolist()
        action = plain_action(sim, chosen)
        assert list(action) == decision["a"], f"at {decision['t']} ms"
        sim.step(action)


def test_a_decision_costs_a_twentieth_of_the_published_programs():
    jobs = [
        MadeJob(
            [MadeStage(40, 900.0, s == 0) for s in range(8)],
            [(s, s + 1) for s in range(7)],
        )
        for _ in range(2)
    ]
    view = ClusterView.concatenate([made_row(jobs, 12, num_executors=50)] * 32)
    policy = NetworkPolicy(made_network(), 32, sampled=True, name="made")
    costs_s = []
    for _ in range(20):
        begun = time.process_time()
        policy.act(view, np.zeros(32), {})
        costs_s.append(time.process_time() - begun)
    assert min(costs_s) / 32 < 3.6e-3 / 20  # 0.06 ms where it was written
