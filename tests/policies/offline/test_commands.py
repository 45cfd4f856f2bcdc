"""Offline learning from the command line and Python: trained, gone on with, benched, refused."""

import json

import pytest

from netllm_gym.cli.main import run
from netllm_gym.collection.collect import collect
from netllm_gym.errors import InputError
from netllm_gym.policies.loading import load_policy
from netllm_gym.pools.pool import ExperiencePool
from netllm_gym.training.methods import train
from tests.policies.offline.made import METHODS


def asked(method, pool, valid, out, *more):
    command = ["train", method, "abr", "--pool", str(pool), "--out", str(out)]
    return [*command, "--validate-on", valid, "--updates", "2", "--batch-size", "8", *more]


def test_what_was_learned_offline_is_a_row_of_the_table(tmp_path, pool, valid, capsys):
    for method in METHODS:
        command = asked(method, pool, valid, tmp_path / f"my-{method}", "--policies", "bba,lowest")
        assert run(command) == 0
        assert run(command) == 0  # nothing is left to do
    capsys.readouterr()
    names = ",".join(str(tmp_path / f"my-{method}") for method in METHODS)
    table = tmp_path / "table.json"
    bench = ["bench", "abr", "--traces", valid, "--policies", f"{names},bba"]
    assert run([*bench, "--json", str(table)]) == 0
    rows = {row["policy"]: row for row in json.loads(table.read_text())["rows"]}
    assert rows.keys() == {"my-bc", "my-cql", "my-dt", "bba"}
    # The traces that are played are those on which the best was chosen.
    assert rows["my-bc"]["trained_on"] == "synthetic (leaky: selected on 1 of 1 recordings)"
    assert load_policy(f"{tmp_path / 'my-dt'}:sampled").name == "my-dt:sampled"
    config = load_policy(str(tmp_path / "my-dt")).factory.config
    assert (config.returns.kind, config.returns.quantile) == ("return_to_go", 0.9)
    assert run(["bench", "abr", "--policies", f"{tmp_path / 'my-cql'}:sampled"]) == 2
    assert "decoding must be greedy for my-cql, got sampled" in capsys.readouterr().err


def test_a_run_says_where_its_pool_came_from(tmp_path, pool, valid):
    options = {"updates": 1, "batch_size": 4}
    where = {"pool": pool, "policies": ["bba"], "validate_on": valid}
    train("abr", "bc", tmp_path / "run", config=options, **where)
    kept = json.loads((tmp_path / "run" / "best" / "config.json").read_text())["trained_on"]
    opened = ExperiencePool.load(pool)
    assert kept["pool_sha256"] == opened.sha256
    assert kept["recordings"] == sorted(opened.env_spec["worlds"]["recordings"])
    assert kept["decisions"] == {"decisions": 94, "exact": 94, "left_out": 0}


def test_seed_returns_and_padding_reach_the_run(tmp_path, pool, valid):
    told = ["--policies", "bba,lowest", "--returns", "baseline", "--ignore-padding"]
    told += ["--return-baseline", "lowest"]
    assert run(asked("dt", pool, valid, tmp_path / "gain", *told, "--seed", "5")) == 0
    config = load_policy(str(tmp_path / "gain")).factory.config
    assert (config.seed, config.returns.kind, config.returns.baseline) == (5, "baseline", "lowest")
    state = json.loads((tmp_path / "gain" / "last" / "state.json").read_text())
    assert (state["train"]["seed"], state["train"]["ignore_padding"]) == (5, True)


@pytest.mark.parametrize(
    ("method", "more", "sentence"),
    [
        ("bc", ["--returns", "none"], "--returns is an option of llm, dt, not of bc"),
        ("cql", ["--ignore-padding"], "--ignore-padding is an option of dt, not of cql"),
        ("dt", ["--backbone", "minilm"], "--backbone is an option of llm, not of dt"),
        (
            "dt",
            ["--returns", "baseline", "--return-baseline", "bola"],
            "baseline must be a policy of the pool",
        ),
        ("bc", ["--traces", "synthetic"], "--traces is an option of ppo, udr, genet, not of bc"),
        ("bc", ["--policies", "bola"], "policies must be in the pool (bba, lowest), got 'bola'"),
        ("bc", ["--batch-size", "0"], "batch_size must be at least 1, got 0"),
        ("bc", ["--device", "abacus"], "device must be one torch can use here, got 'abacus'"),
    ],
)
def test_wrong_arguments(tmp_path, pool, valid, capsys, method, more, sentence):
    assert run(asked(method, pool, valid, tmp_path / "run", *more)) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_only_dt_is_told_returns(tmp_path, pool):
    with pytest.raises(InputError, match="returns must be an option of BCTraining"):
        train("abr", "bc", tmp_path / "run", pool=pool, config={"returns": "none"})


def test_clusters_too(tmp_path):
    small = {"workload": "synthetic", "num_executors": 4, "num_jobs": 3}
    collect("cjs", ["srpt"], 2, tmp_path / "pool", small)
    options = {"updates": 2, "batch_size": 8}
    train("cjs", "bc", tmp_path / "mine", pool=tmp_path / "pool", config=options)
    command = ["bench", "cjs", "--num-executors", "4", "--num-jobs", "3"]
    mine = tmp_path / "mine"
    assert run([*command, "--policies", f"{mine},{mine}:sampled,srpt"]) == 0
    assert run(["bench", "abr", "--policies", str(mine)]) == 2
