"""Gymnasium environments for networking problems; importing this registers their ids."""

from gymnasium.envs.registration import register, registry


def register_envs() -> None:
    """Register every id of the package once."""
    for name in ("ABR", "CJS"):
        if f"NetLLM-{name}-v0" not in registry:
            register(
                id=f"NetLLM-{name}-v0",
                entry_point=f"netllm_gym.envs.{name.lower()}.env:{name}Env",
                vector_entry_point=f"netllm_gym.envs.{name.lower()}.vector_env:{name}VectorEnv",
            )
