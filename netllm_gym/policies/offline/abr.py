"""ABR for the offline methods: the published matrix laid flat, and the rungs of the ladder."""

from typing import Any

from netllm_gym.policies.baselines.abr import check_trained_for
from netllm_gym.policies.offline.config import OfflineConfig
from netllm_gym.policies.offline.parts import ArrayParts


class ABRParts(ArrayParts):
    """The offline parts of ABR, named by its row."""

    def check_env(self, config: OfflineConfig, env: Any) -> None:
        """Compare the ladder, and the length of episodes where the policy knows it."""
        most_steps = config.max_steps if config.is_sequence_model else None
        check_trained_for(env, config.num_actions, most_steps)
