"""Whatever stands in a file from outside is read, or refused in one sentence that names the file.

One body for all readers: a whole file is harmed in any way, or replaced by anything, and read as
the product reads it. Few examples in the fast suite, 2,000 of each reader in the slow one.
"""

import hashlib
import json
import math
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netllm_gym.data.abr.sets import load_trace_set
from netllm_gym.data.abr.traces import write_cooked_trace
from netllm_gym.data.abr.video import load_video
from netllm_gym.errors import InputError
from netllm_gym.files import read_json
from netllm_gym.policies.llm.backbone import load_backbone
from netllm_gym.policies.llm.config import BackboneConfig
from netllm_gym.policies.loading import load_policy
from netllm_gym.policies.neural.abr import PensieveActor, read_actor
from netllm_gym.pools.pool import ExperiencePool, PoolWriter
from netllm_gym.pools.windows import PaddedEpisodes
from netllm_gym.problems.index import find_problem
from netllm_gym.training.llm import fit_llm
from netllm_gym.training.llm_config import TrainConfig
from netllm_gym.training.run import TrainingRun
from tests.commands import files_of
from tests.policies.llm.made import make_config, make_episodes, shape_folder
from tests.policies.llm.test_checkpoint import weights_folder
from tests.pools.made import assert_equal_episodes, made_episode

ROW = find_problem("abr")
FEW, MANY = 15, 2000

NUMBERS = st.integers(-3, 300) | st.integers() | st.floats() | st.just(2**63)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=5,
)
LINES = st.lists(
    st.lists(NUMBERS.map(str) | st.text(max_size=4), max_size=3).map(" ".join), max_size=6
).map("\n".join)


# Reading as the product reads, each from the folder `outside`. What is read must keep the laws that
# the rest of the package relies on, and come back equal from a file that is written of it. -------


def read_pool(folder, again):
    pool = ExperiencePool.load(folder / "pool", "abr")
    episodes = list(pool.episodes)
    assert len(pool) == len(episodes) > 0
    for episode in episodes:
        assert episode.num_steps == len(episode.rewards) > 0
        assert np.isfinite(episode.rewards).all()
        assert np.isfinite(episode.observations).all()
    pool.summary()
    PaddedEpisodes.from_pools([pool])
    PoolWriter(again, "abr", pool.env_spec, {"num_shards": 1}).write(0, episodes)
    for found, expected in zip(ExperiencePool.load(again).episodes, episodes, strict=True):
        assert_equal_episodes(found, expected)


def read_traces(folder, again):
    traces = load_trace_set(folder / "traces")
    # Whatever the units were, a cooked file of theirs is in these, as `data convert` says it, too.
    (again / "trace-set.json").write_text('{"time_unit": "s", "rate_unit": "Mbit/s"}')
    for number, trace in enumerate(traces.traces):
        assert np.isfinite(trace.time_s).all()
        assert np.isfinite(trace.capacity_mbps).all()
        assert trace.time_s[0] == 0
        assert (np.diff(trace.time_s) > 0).all()
        assert (trace.capacity_mbps >= 0).all()
        assert trace.capacity_mbps[1:].max() > 0
        write_cooked_trace(again / f"{number:03d}", trace.time_s, trace.capacity_mbps)
    for found, expected in zip(load_trace_set(again).traces, traces.traces, strict=True):
        assert found.content == expected.content
    env = ROW.make_env(1, traces=traces)
    env.reset(seed=0)
    for _ in range(3):
        reward = env.step(np.array([5]))[1]
    assert math.isfinite(reward[0])


def read_pointers(folder, again):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NETLLM_GYM_DATA", str(folder))
        traces = load_trace_set("published")
    assert 1 <= traces.start_pointer(0) < 60
    named = json.loads((folder / "abr/start_pointers.json").read_bytes())
    if named["split"] == "published":
        assert traces.start_pointers == (named["start_pointers"]["one"],)
    else:
        assert traces.start_pointers is None


def read_video(folder, again):
    video = load_video(folder / "video")
    assert (video.size_bytes > 0).all()
    assert (np.diff(video.ladder_mbps) > 0).all()
    assert 2 <= video.num_chunks <= len(video.size_bytes)
    for rung, sizes in enumerate(video.size_bytes.T):
        (again / f"video_size_{rung}").write_text("\n".join(map(str, sizes)))
    (again / "video.json").write_bytes((folder / "video/video.json").read_bytes())
    np.testing.assert_array_equal(load_video(again).size_bytes, video.size_bytes)
    env = ROW.make_env(1, traces=folder / "traces", video=video, buffer_cap_s=np.inf)
    env.reset(seed=0)
    reward = env.step(np.array([1]))[1]
    assert math.isfinite(reward[0])


def read_published_actor(folder, again):
    actor = read_actor(folder / "actor.npz").state_dict()
    assert all(each.isfinite().all() for each in actor.values())
    np.savez(again / "actor.npz", **actor_arrays(read_actor(folder / "actor.npz")))
    found = read_actor(again / "actor.npz").state_dict()
    assert all(each.equal(found[name]) for name, each in actor.items())


def read_policy(folder, again):
    env = ROW.make_env(1, traces=folder / "traces", video=folder / "video")
    policy = load_policy(str(folder / "run"), "abr").factory(env)
    assert all(each.isfinite().all() for each in policy.model.parameters())
    observations, infos = env.reset(seed=[0])
    policy.reset(np.array([0]), np.array([0]))
    assert 0 <= policy.act(observations, np.zeros(1), infos)[0] < 6


def read_run(folder, again):
    updates = make_run(folder, resume=True).updates
    assert 1 <= updates <= 2  # no more than the run is to make
    lines = (folder / "run/metrics.jsonl").read_text().splitlines()
    assert all(json.loads(line)["update"] <= updates for line in lines)


def read_backbone(folder, again):
    backbone = load_backbone(BackboneConfig(str(folder / "llama")), seed=0)
    assert all(each.isfinite().all() for each in backbone.model.parameters())


def make_run(folder, resume=False):
    config = make_config(shape_folder(folder, "gpt2", n_layer=1), adapt="lora", lora_rank=2)
    train = TrainConfig(updates=2, batch_episodes=1, threads=1)
    run = TrainingRun(folder / "run", validate=lambda factory: 0.5, resume=resume, stop_after=1)
    return fit_llm(make_episodes(2), config, train, run)


READERS = {  # what is read: (how, files that are harmed)
    "pool": (read_pool, ("pool/meta.json", "pool/shard-00000.npz")),
    "traces": (read_traces, ("traces/one",)),
    "start pointers": (read_pointers, ("abr/start_pointers.json",)),
    "video": (read_video, ("video/video_size_0", "video/video_size_5", "video/video.json")),
    "actor": (read_published_actor, ("actor.npz",)),
    "policy": (
        read_policy,
        (
            *("run/last/config.json", "run/last/policy.safetensors"),
            *("run/last/backbone.safetensors", "run/last/adapter/adapter_model.safetensors"),
        ),
    ),
    "run": (
        read_run,
        ("run/last/state.json", "run/last/optimizer.safetensors", "run/metrics.jsonl"),
    ),
    "backbone": (read_backbone, ("llama/config.json", "llama/model.safetensors")),
}


@pytest.fixture(scope="module")
def outside(tmp_path_factory):
    """Return a folder with one of everything, whole."""
    folder = tmp_path_factory.mktemp("outside")
    rng = np.random.default_rng(0)
    for traces in (folder / "traces", folder / "abr/traces/published"):
        traces.mkdir(parents=True)
        write_cooked_trace(traces / "one", np.arange(60.0), rng.uniform(0.5, 4, 60))
    pointers = {"split": "published", "start_pointers": {"one": 7}}
    (folder / "abr/start_pointers.json").write_text(json.dumps(pointers))
    (folder / "video").mkdir()
    (folder / "video/video.json").write_text('{"chunk_s": 1.5, "num_chunks": 8}')
    for rung in range(6):
        sizes = rng.integers(100_000, 200_000, 9) * (rung + 1)
        (folder / f"video/video_size_{rung}").write_text("\n".join(map(str, sizes)))
    np.savez_compressed(folder / "actor.npz", **actor_arrays(PensieveActor()))
    PoolWriter(folder / "pool", "abr", {}, {"num_shards": 1}).write(
        0, [made_episode(seed) for seed in range(4)]
    )
    make_run(folder)
    weights_folder(folder, "llama")
    return folder


def actor_arrays(actor):
    """Return the arrays of a published actor's file."""
    layers = {**actor.branches, "fc_hidden": actor.fc_hidden, "fc_out": actor.fc_out}
    arrays = {}
    for name, layer in layers.items():
        weight = layer.weight.detach().numpy().T  # (in, out)
        kernel = (4, 1) if name.startswith("conv_") else ()
        arrays[f"{name}_W"] = np.broadcast_to(weight, (*kernel, *weight.shape))
        arrays[f"{name}_b"] = layer.bias.detach().numpy()
    return arrays


# Harm ---------------------------------------------------------------------------------------------


def harmed_bytes(data, whole):
    """Draw what a file may have become: cut, altered, or something else altogether."""
    kind = data.draw(st.sampled_from(["cut", "alter", "lengthen", "bytes", "json", "lines"]))
    place = data.draw(st.integers(0, len(whole) - 1))
    if kind == "cut":
        return whole[:place]
    if kind == "alter":
        new = data.draw(st.binary(min_size=1, max_size=4))
        return whole[:place] + new + whole[place + len(new) :]
    if kind == "lengthen":
        return whole[:place] + data.draw(st.binary(min_size=1, max_size=9)) + whole[place:]
    if kind == "bytes":
        return data.draw(st.binary(max_size=200))
    return (json.dumps(data.draw(JSON)) if kind == "json" else data.draw(LINES)).encode()


def harmed_json(data, whole):
    """Draw a JSON file in which one value, anywhere, is missing or another."""
    content = json.loads(whole)
    inside, key = {"": content}, ""
    while True:
        keys = sorted(inside) if isinstance(inside, dict) else list(range(len(inside)))
        key = data.draw(st.sampled_from(keys))
        deeper = inside[key]
        if not (isinstance(deeper, dict | list) and deeper and data.draw(st.booleans())):
            break
        inside = deeper
    if key != "" and data.draw(st.booleans()):
        del inside[key]
    else:
        inside[key] = data.draw(JSON)
        content = inside[""] if key == "" else content
    return json.dumps(content).encode()


def harmed_header(data, whole):
    """Draw a safetensors file with a broken description of its tensors, its length right."""
    length = int.from_bytes(whole[:8], "little")
    header = harmed_json(data, whole[8 : 8 + length])
    return len(header).to_bytes(8, "little") + header + whole[8 + length :]


def forge_hashes(folder, name, new):
    """Let the hashes fit a harmed file, so that its own reader must hold."""
    path = folder / name
    sha256 = hashlib.sha256(new).hexdigest()
    if name.startswith("pool/shard"):
        meta = read_json(folder / "pool/meta.json")
        meta["shards"][0].update(sha256=sha256, num_bytes=len(new))
        (folder / "pool/meta.json").write_text(json.dumps(meta))
    elif path.name == "optimizer.safetensors":
        state = read_json(folder / "run/last/state.json")
        (folder / "run/last/state.json").write_text(
            json.dumps({**state, "optimizer_sha256": sha256})
        )
    elif name.startswith("run/last") and path.suffix == ".safetensors":
        config = read_json(folder / "run/last/config.json")
        config["sha256"][str(path.relative_to(folder / "run/last"))] = sha256
        (folder / "run/last/config.json").write_text(json.dumps(config))


@pytest.mark.parametrize("examples", [FEW, pytest.param(MANY, marks=pytest.mark.slow)])
@pytest.mark.parametrize("what", READERS)
def test_whatever_comes_is_read_or_refused(outside, tmp_path, what, examples):
    read, names = READERS[what]

    def read_outside():
        with TemporaryDirectory(dir=tmp_path) as again:
            read(outside, Path(again))

    read_outside()
    before = files_of(outside)

    @settings(max_examples=examples)
    @given(st.data())
    def body(data):
        name = data.draw(st.sampled_from(names))
        whole, kinds = before[name], [harmed_bytes]
        kinds += [harmed_json] * (3 * name.endswith(".json"))
        kinds += [harmed_header] * name.endswith(".safetensors")
        new = data.draw(st.sampled_from(kinds))(data, whole)
        try:
            (outside / name).write_bytes(new)
            if data.draw(st.booleans()):
                forge_hashes(outside, name, new)
            read_outside()
        except InputError as refusal:
            assert str(outside) in str(refusal)  # noqa: PT017
            assert "\n" not in str(refusal)  # noqa: PT017
        finally:
            after = files_of(outside)
            for path in after.keys() - before.keys():
                (outside / path).unlink()
            for path, data_before in before.items():
                if after.get(path) != data_before:
                    (outside / path).write_bytes(data_before)

    body()
