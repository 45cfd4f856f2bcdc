"""Bytes of one shard: what goes in comes out, what does not fit together is named."""

import dataclasses
import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netllm_gym.errors import InputError
from netllm_gym.pools import abr
from netllm_gym.pools.shard import pack_shard, parse_shard
from tests.pools.made import RAGGED, assert_equal_episodes, made_episode, members, zipped

TEXT = st.text(max_size=8)
CASE_FIELDS = st.dictionaries(
    st.sampled_from(["trace", "video", "start_pointer"]),
    st.sampled_from([TEXT, st.integers(-(2**63) + 1, 2**63 - 1)]),
)


@settings(max_examples=40)
@given(st.lists(st.integers(1, 20), min_size=1, max_size=5), CASE_FIELDS, st.data())
def test_shards_of_any_lengths_and_cases_come_back(lengths, fields, data):
    made = [
        dataclasses.replace(
            made_episode(seed, num_steps, infos=()),
            seed=data.draw(st.integers(0, 2**63 - 1)),
            actions=np.array(
                data.draw(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=2, max_size=2))
            )[np.arange(num_steps) % 2],
            policy=data.draw(TEXT.filter(bool)),
            case={name: data.draw(values) for name, values in fields.items()},
        )
        for seed, num_steps in enumerate(lengths)
    ]
    packed = pack_shard(made, abr)
    shard = parse_shard(packed.data, Path("shard"))
    assert packed[1:3] == (len(made), sum(lengths))
    assert packed.seeds == (min(e.seed for e in made), max(e.seed for e in made))
    for index, expected in enumerate(made):
        assert_equal_episodes(shard.episode(index, abr), expected)


@settings(max_examples=40)
@given(st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=6), min_size=1, max_size=6))
def test_columns_with_other_rows_than_steps_come_back(episodes):
    rng = np.random.default_rng(0)
    made = [
        dataclasses.replace(
            made_episode(seed, len(sizes)),
            observations=[rng.random((size, 2)) for size in sizes],
            actions=rng.integers(0, 9, (len(sizes), 2)),  # slot and executors
        )
        for seed, sizes in enumerate(episodes)
    ]
    shard = parse_shard(pack_shard(made, RAGGED).data, Path("shard"))
    for index, expected in enumerate(made):
        found = shard.episode(index, RAGGED)
        np.testing.assert_array_equal(found.actions, expected.actions, strict=True)
        for graph, made_graph in zip(found.observations, expected.observations, strict=True):
            np.testing.assert_array_equal(graph, made_graph, strict=True)


@pytest.mark.parametrize(
    ("other", "sentence"),
    [
        ({"infos": {}}, r"infos must have the same names .* episode 1 \[\]"),
        ({"case": {"trace": "a"}}, r"case must have the same names .* episode 1 \['trace'\]"),
        (
            {"case": {"trace": 1, "recording": "r", "start_pointer": 1}},
            r"case\['trace'\] must be text or number in all episodes, got both",
        ),
        ({"expert_actions": np.zeros(5, np.int64)}, "in all episodes of a shard or in none, got 1"),
        ({"actions": np.zeros((5, 2), np.int64)}, "actions must have one type and width"),
        (
            {"observations": made_episode(num_steps=5, width=7).observations},
            "column.sizes_mb|sizes_mb must have one type and width",
        ),
    ],
)
def test_episodes_that_do_not_fit_together_are_refused(other, sentence):
    made = made_episode(1, 5)
    with pytest.raises(InputError, match=sentence):
        pack_shard([made, dataclasses.replace(made, **other)], abr)


def test_answers_of_an_expert_come_back_and_must_fit_the_actions():
    answers = [np.arange(5) % 3, np.arange(5)[::-1].copy()]
    made = [
        dataclasses.replace(made_episode(seed, 5), expert_actions=each)
        for seed, each in enumerate(answers)
    ]
    data = pack_shard(made, abr).data
    shard = parse_shard(data, Path("here.npz"))
    for index, each in enumerate(answers):
        np.testing.assert_array_equal(shard.episode(index, abr).expert_actions, each, strict=True)
    buffer = io.BytesIO()
    np.save(buffer, np.zeros((10, 2), np.int8))
    with pytest.raises(InputError, match=r"expert_actions must have shape \(10,\) as actions"):
        parse_shard(
            zipped(members(data) | {"expert_actions.npy": buffer.getvalue()}), Path("here.npz")
        )


def test_rows_that_do_not_add_up_are_refused():
    made = [
        dataclasses.replace(made_episode(seed, 2), observations=[np.ones((3, 2)), np.ones((1, 2))])
        for seed in range(2)
    ]
    parts = members(pack_shard(made, RAGGED).data)
    buffer = io.BytesIO()
    np.save(buffer, np.ones((7, 2)))  # eight nodes were written
    with pytest.raises(InputError, match=r"here.npz must .* column.nodes must have 8 rows, got 7"):
        parse_shard(zipped(parts | {"column.nodes.npy": buffer.getvalue()}), Path("here.npz"))


@pytest.mark.parametrize("name", ["policy", "case.trace"])
@pytest.mark.parametrize("number", [-1, 9])
def test_an_index_that_points_nowhere_is_refused(name, number):
    policies = ("bba", "mpc", "bba", "mpc")
    made = [made_episode(seed, policy=policy) for seed, policy in enumerate(policies)]
    parts = members(pack_shard(made, abr).data)
    buffer = io.BytesIO()
    np.save(buffer, np.array([0, 0, number, 0], np.int8))
    with pytest.raises(InputError, match=rf"here.npz must .* {name} must be in 0..\d, got"):
        parse_shard(zipped(parts | {f"{name}.npy": buffer.getvalue()}), Path("here.npz"))
