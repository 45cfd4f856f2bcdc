"""Other libraries play and record the environments: more than the programs of `docs/libraries.md`.

What they rely on is tested without them in `tests/envs/test_libraries.py`.
"""

import gymnasium as gym
import numpy as np
import pytest

import netllm_gym  # noqa: F401
from netllm_gym.envs.abr.player import PlayerConfig
from netllm_gym.envs.abr.qoe import LinearQoE
from netllm_gym.envs.cjs.cluster import ClusterConfig

SMALL_CLUSTER = {"num_jobs": 3, "num_executors": 3, "max_stages": 128, "max_jobs": 8}
SMALL = {"NetLLM-ABR-v0": {}, "NetLLM-CJS-v0": SMALL_CLUSTER}
every_env = pytest.mark.parametrize("env_id", sorted(SMALL))


@pytest.mark.slow
@every_env
def test_torchrl_reads_its_specs_and_plays(env_id):
    pytest.importorskip("torchrl")
    from torchrl.envs import GymEnv
    from torchrl.envs.utils import check_env_specs

    env = GymEnv(env_id, device="cpu", **SMALL[env_id])
    check_env_specs(env)
    played = env.rollout(400)
    assert bool(played["next", "done"][-1])
    with_infos = GymEnv(env_id, device="cpu", **SMALL[env_id]).auto_register_info_dict()
    metric = {"NetLLM-ABR-v0": "qoe", "NetLLM-CJS-v0": "jct_s"}[env_id]
    assert metric in list(with_infos.rollout(10)["next"].keys())


@pytest.mark.slow
@every_env
@pytest.mark.parametrize("mode", ["SameStep", "Disabled"])  # TorchRL takes no other
@pytest.mark.parametrize("native", [True, False])
def test_torchrl_plays_vector_environments(env_id, mode, native):
    pytest.importorskip("torchrl")
    from gymnasium.vector import AutoresetMode
    from torchrl.envs import GymWrapper

    options = {"autoreset_mode": AutoresetMode(mode)}
    made = (
        gym.make_vec(env_id, num_envs=3, **options, **SMALL[env_id])
        if native
        else gym.make_vec(
            env_id,
            num_envs=3,
            vectorization_mode="sync",
            vector_kwargs=options,
            **SMALL[env_id],
        )
    )
    played = GymWrapper(made).rollout(100, break_when_any_done=False)
    assert played.batch_size == (3, 100)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("env_id", "options"),
    [
        ("NetLLM-ABR-v0", {}),
        ("NetLLM-ABR-v0", {"player": PlayerConfig(rtt_moves_clock=True)}),
        ("NetLLM-ABR-v0", {"qoe": LinearQoE(rebuffer_penalty=2.0)}),
        ("NetLLM-ABR-v0", {"noise": (0.8, 1.2)}),
        ("NetLLM-CJS-v0", SMALL_CLUSTER),
        ("NetLLM-CJS-v0", {**SMALL_CLUSTER, "cluster": ClusterConfig(moving_delay_s=1.0)}),
    ],
)
def test_minari_records_infos_and_makes_the_environment_again(
    tmp_path, monkeypatch, env_id, options
):
    minari = pytest.importorskip("minari")
    pytest.importorskip("jax")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    env = minari.DataCollector(gym.make(env_id, **options), record_infos=True)
    env.action_space.seed(3)
    returns, actions = [], []
    for seed in range(2):
        env.reset(seed=seed)
        returns.append(0.0)
        is_over = False
        while not is_over:
            actions.append(env.action_space.sample())
            _, reward, terminated, truncated, _ = env.step(actions[-1])
            returns[-1] += reward
            is_over = terminated or truncated
    link = "https://example.org"
    env.create_dataset("made/random-v0", algorithm_name="random", code_permalink=link)
    data = minari.load_dataset("made/random-v0")
    episodes = list(data.iterate_episodes())
    assert [episode.rewards.sum() for episode in episodes] == pytest.approx(returns)
    again = data.recover_environment()
    first, _ = again.reset(seed=0)
    recorded = episodes[0].observations
    if isinstance(first, dict):
        recorded, first = recorded["stage_mask"], first["stage_mask"]
    np.testing.assert_array_equal(first, recorded[0])
    assert again.step(actions[0])[1] == episodes[0].rewards[0]
