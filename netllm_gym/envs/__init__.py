"""Gymnasium environments for networking problems; importing this registers their ids."""

from gymnasium.envs.registration import register, registry


def register_envs() -> None:
    """Register every id of the package once."""
    if "NetLLM-ABR-v0" not in registry:
        register(
            id="NetLLM-ABR-v0",
            entry_point="netllm_gym.envs.abr.env:ABREnv",
            vector_entry_point="netllm_gym.envs.abr.vector_env:ABRVectorEnv",
        )
