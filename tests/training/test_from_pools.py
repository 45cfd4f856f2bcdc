"""Training from a pool: what is remembered of it, and what is refused before a run begins."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from netllm_gym.cli.main import run
from netllm_gym.collection.collect import collect
from netllm_gym.data.abr.sets import load_trace_set
from netllm_gym.errors import InputError
from netllm_gym.policies.llm.config import BackboneConfig, LLMConfig
from netllm_gym.policies.loading import load_policy
from netllm_gym.policies.returns import ReturnSpec
from netllm_gym.pools.pool import ExperiencePool, PoolWriter
from netllm_gym.pools.windows import PaddedEpisodes
from netllm_gym.training.from_pools import best_teacher
from netllm_gym.training.llm_config import LLMTraining, TrainConfig
from netllm_gym.training.methods import train as train_by

ONE = TrainConfig(updates=1, batch_episodes=2, threads=1)
NO_RETURNS = ReturnSpec(kind="none")
CONFIG = LLMConfig(feature_dim=8, backbone=BackboneConfig(layers=1), returns=NO_RETURNS)


def train(problem, pools, out, policy=CONFIG, schedule=ONE, policies=None, validate_on=None):
    config = LLMTraining(policy, schedule)
    where = {"pool": pools, "policies": policies, "validate_on": validate_on}
    return train_by(problem, "llm", out, config=config, **where)


def test_a_run_remembers_its_pool_its_validation_and_what_its_teachers_saw(tmp_path, pool, valid):
    taught = shutil.copytree(pool, tmp_path / "taught")
    meta = json.loads((taught / "meta.json").read_text())
    meta["env_spec"]["teachers_recordings"] = ["fcc-7", "synthetic-0"]
    (taught / "meta.json").write_text(json.dumps(meta))
    train("abr", taught, tmp_path / "run", CONFIG, ONE, ["bba"], valid)
    for part in ("best", "last"):
        kept = json.loads((tmp_path / "run" / part / "config.json").read_text())["trained_on"]
        worlds = meta["env_spec"]["worlds"]
        assert kept["traces"] == "synthetic"
        assert kept["recordings"] == sorted({*worlds["recordings"], "fcc-7", "synthetic-0"})
        assert kept["policies"] == ["bba"]
        assert kept["pool_sha256"] == ExperiencePool.load(pool).sha256
        assert kept["validated_on"] == valid
        [one] = load_trace_set(valid).traces
        assert kept["validation_recordings"] == [one.content]
        assert len(kept["validation_sha256"]) == 64


def test_a_run_is_resumed_only_with_its_pool_teachers_and_validation(tmp_path, pool, valid):
    out = tmp_path / "run"
    two = dataclasses.replace(ONE, updates=2)
    case = {"traces": "synthetic", "video": "synthetic"}
    other_pool = collect("abr", ["bba", "lowest"], 2, tmp_path / "pool", case, seed=5).folder
    assert ExperiencePool.load(other_pool).sha256 != ExperiencePool.load(pool).sha256
    train("abr", pool, out, CONFIG, two, ["bba"], valid)
    with pytest.raises(InputError, match=r"trained_on must be that of the run in .* with plan"):
        train("abr", other_pool, out, CONFIG, two, ["bba"], valid)
    with pytest.raises(InputError, match=r"with policies \['bba'\], got \['lowest'\]"):
        train("abr", pool, out, CONFIG, two, ["lowest"], valid)
    (Path(valid) / "one.txt").write_text("".join(f"{second} 2.0\n" for second in range(60)))
    with pytest.raises(InputError, match="with validation_recordings"):
        train("abr", pool, out, CONFIG, two, ["bba"], valid)


def test_teachers_that_are_not_there_are_one_sentence(tmp_path, pool, valid):
    with pytest.raises(InputError, match=r"must be in the pool \(bba, lowest\), got a, b"):
        best_teacher([ExperiencePool.load(pool)], ["a", "b"])
    with pytest.raises(InputError, match=r"must be in the pool \(bba, lowest\), got 'a'"):
        train("abr", pool, tmp_path / "run", CONFIG, ONE, ["a"], valid)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"id": "NetLLM-ABR-v9"}, "pool/meta.json: id must be NetLLM-ABR-v0, got 'NetLLM-A"),
        ({"arguments": ["synthetic"]}, "meta.json: arguments must be an object, got"),
        ({"arguments": {"colour": 1}}, "meta.json: arguments must have no other names than traces"),
        (
            {"worlds": {"recordings": 5}},
            "meta.json: worlds.recordings must be a valid array",
        ),
        ({"teachers_recordings": "abc"}, "meta.json: teachers_recordings must be a valid array"),
    ],
)
def test_a_pool_of_another_origin_is_one_sentence(tmp_path, pool, valid, change, sentence):
    other = shutil.copytree(pool, tmp_path / "pool")
    meta = json.loads((other / "meta.json").read_text())
    meta["env_spec"].update(change)
    (other / "meta.json").write_text(json.dumps(meta))
    with pytest.raises(InputError, match=sentence):
        train("abr", other, tmp_path / "run", CONFIG, ONE, ["bba"], valid)
    assert not (tmp_path / "run").exists()


def test_a_pool_that_does_not_say_what_was_played_is_one_sentence(tmp_path, pool, valid):
    bare = shutil.copytree(pool, tmp_path / "bare")
    meta = json.loads((bare / "meta.json").read_text())
    del meta["env_spec"]["worlds"]
    (bare / "meta.json").write_text(json.dumps(meta))
    with pytest.raises(InputError, match="env_spec must hold worlds, as `collect`"):
        train("abr", bare, tmp_path / "run", CONFIG, ONE, ["bba"], valid)
    assert not (tmp_path / "run").exists()


def test_traces_without_a_validation_list_of_their_own_need_one_named(tmp_path, pool):
    # fcc-valid lies inside fcc-train, so it is no default for it.
    for traces in ("fcc-train", "synthetic-test"):
        other = shutil.copytree(pool, tmp_path / traces)
        meta = json.loads((other / "meta.json").read_text())
        meta["env_spec"]["arguments"]["traces"] = traces
        (other / "meta.json").write_text(json.dumps(meta))
        with pytest.raises(
            InputError,
            match=f"--traces does, since {traces} has none of its own for validation; "
            rf"netllm-gym data split {traces} --out splits makes one \(splits/train\.json, ",
        ):
            train("abr", other, tmp_path / "run", CONFIG, ONE, ["bba"])


def test_a_policy_chosen_on_its_training_recordings_says_so(tmp_path, pool, valid):
    case = {"traces": valid, "video": "synthetic"}
    mine = collect("abr", ["bba"], 2, tmp_path / "mine", case).folder
    train("abr", mine, tmp_path / "chosen", CONFIG, ONE, ["bba"], valid)
    assert load_policy(str(tmp_path / "chosen")).trained_on == (
        f"{Path(valid).name} (selected on its training recordings)"
    )
    train("abr", pool, tmp_path / "fair", CONFIG, ONE, ["bba"], valid)
    assert load_policy(str(tmp_path / "fair")).trained_on == "synthetic"


def test_a_config_without_returns_needs_no_baseline(tmp_path, pool, valid):
    config = LLMConfig(feature_dim=8, backbone=BackboneConfig(layers=1))
    train("abr", pool, tmp_path / "run", config, ONE, ["bba"], valid)
    assert (tmp_path / "run" / "best").is_dir()


def test_the_baseline_must_be_a_teacher(tmp_path, pool, valid):
    config = dataclasses.replace(CONFIG, returns=ReturnSpec("baseline", baseline="lowest"))
    with pytest.raises(
        InputError, match=r"baseline must be among the teachers \(bba\), got 'lowest', .*--policies"
    ):
        train("abr", pool, tmp_path / "run", config, ONE, ["bba"], valid)
    assert not (tmp_path / "run").exists()


@pytest.fixture(scope="module")
def pools(tmp_path_factory):
    """Two pools of one ladder and different traces; an expert was asked in the second."""
    folder = tmp_path_factory.mktemp("two")
    for name, traces, expert in (("a", "synthetic", None), ("b", "synthetic-uniform", "lowest")):
        case = {"traces": traces, "video": "synthetic"}
        collect("abr", ["bba", "bola"], 2, folder / name, case, expert=expert)
    return folder / "a", folder / "b"


def test_several_pools_are_laid_out_one_after_the_other(pools):
    both = PaddedEpisodes.from_pools([ExperiencePool.load(each) for each in pools], ["bba"])
    alone = [PaddedEpisodes.from_pools([ExperiencePool.load(each)], ["bba"]) for each in pools]
    for name in ("observations", "actions", "rewards", "seed"):
        parts = [getattr(each, name) for each in alone]
        np.testing.assert_array_equal(getattr(both, name), np.concatenate(parts))
    # Where nobody was asked, what was done is imitated.
    assert (both.targets[:2] == both.actions[:2]).all()
    assert not both.targets[2:].any()


def test_a_run_remembers_all_its_pools(tmp_path, pools):
    arguments = [
        "train",
        "llm",
        "abr",
        "--pool",
        f"{pools[0]},{pools[1]}",
        "--out",
        str(tmp_path / "run"),
    ]
    small = ["--policies", "bba,bola", "--layers", "1", "--updates", "1", "--batch-episodes", "2"]
    small += ["--threads", "1"]
    assert run([*arguments, *small]) == 0
    kept = json.loads((tmp_path / "run/last/config.json").read_text())["trained_on"]
    opened = [ExperiencePool.load(each) for each in pools]
    worlds = [each.env_spec["worlds"] for each in opened]
    assert kept["traces"] == "synthetic + synthetic-uniform"
    assert kept["video"] == "synthetic"
    assert kept["recordings"] == sorted({*worlds[0]["recordings"], *worlds[1]["recordings"]})
    assert kept["policies"] == ["bba", "bola"]
    assert kept["plan"] == [each.plan for each in opened]
    assert kept["pool_sha256"] == f"{opened[0].sha256} + {opened[1].sha256}"
    assert kept["validated_on"] == "synthetic-valid"
    assert run([*arguments[:3], str(pools[0]), *arguments[4:], *small]) == 2  # another run's folder


def test_the_best_teacher_of_several_pools_has_the_highest_mean_over_all(pools):
    opened = [ExperiencePool.load(each) for each in pools]
    returns = {
        name: np.mean(
            [e.rewards.sum() for pool in opened for e in pool.episodes if e.policy == name]
        )
        for name in ("bba", "bola")
    }
    assert best_teacher(opened) == (max(returns, key=returns.get),)


def test_pools_that_do_not_go_together_are_one_sentence(tmp_path, pools):
    with pytest.raises(InputError, match=r"pools must be one or more, all different, got .*a, .*a"):
        train("abr", [pools[0], pools[0]], tmp_path / "run", CONFIG, ONE, ["bba"])
    with pytest.raises(InputError, match="pools must be one or more, all different, got none"):
        train("abr", [], tmp_path / "run", CONFIG, ONE, ["bba"])
    synthetic = {"traces": "synthetic", "video": "synthetic"}
    plain = collect("abr", ["bba"], 2, tmp_path / "plain", synthetic, seed=9).folder
    gains = dataclasses.replace(CONFIG, returns=ReturnSpec(kind="baseline", baseline="bba"))
    with pytest.raises(InputError, match="returns must be none or return_to_go for several pools"):
        train("abr", [pools[0], plain], tmp_path / "run", gains, ONE, ["bba"])
    video = tmp_path / "video"
    video.mkdir()
    (video / "video.json").write_text('{"chunk_s": 4}')
    for rung in range(6, 13):  # seven rungs have a ladder of their own
        sizes = "".join(f"{rung * 100_000}\n" for _ in range(48))
        (video / f"video_size_{rung - 6}").write_text(sizes)
    case = {"traces": "synthetic", "video": str(video)}
    other = collect("abr", ["bba"], 1, tmp_path / "other", case).folder
    with pytest.raises(InputError, match="observations must have shape"):
        train("abr", [pools[0], other], tmp_path / "run", CONFIG, ONE, ["bba"])
    shutil.rmtree(video)
    video.mkdir()
    (video / "video.json").write_text('{"chunk_s": 4}')
    for rung in range(5):  # as wide an observation as six rungs have
        sizes = "".join(f"{(rung + 1) * 100_000}\n" for _ in range(48))
        (video / f"video_size_{rung}").write_text(sizes)
    other = collect("abr", ["bba"], 1, tmp_path / "fewer", case).folder
    with pytest.raises(
        InputError, match=r"must mean the same in all pools, got .* 0.3, .* and .* 0.2, 0.4,"
    ):
        train("abr", [pools[0], other], tmp_path / "run", CONFIG, ONE, ["bba"])
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("method", ["llm", "bc", "cql"])
def test_actions_that_there_are_not_are_refused_with_the_name_of_the_pool(tmp_path, pool, method):
    played = ExperiencePool.load(pool, "abr")
    plan = {**played.plan, "num_shards": 1}
    wrong = [dataclasses.replace(each, actions=each.actions + 3) for each in played.episodes]
    PoolWriter(tmp_path / "wrong", "abr", played.env_spec, plan).write(0, wrong)
    config = {"updates": 1, "threads": 1, **({"backbone": "tiny"} if method == "llm" else {})}
    with pytest.raises(InputError, match=r"wrong: actions must be in 0\.\.5, got 3\.\."):
        train_by("abr", method, tmp_path / "run", pool=tmp_path / "wrong", config=config)
    assert not (tmp_path / "run").exists()
