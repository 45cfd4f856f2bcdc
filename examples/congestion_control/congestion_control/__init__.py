"""Congestion control over one bottleneck link: a problem that is added to netllm-gym.

Importing the package registers the environment `CongestionControl-v0` with Gymnasium.
"""

import gymnasium as gym

ENV_ID = "CongestionControl-v0"

if ENV_ID not in gym.registry:
    gym.register(
        id=ENV_ID,
        entry_point="congestion_control.env:CongestionEnv",
        vector_entry_point="congestion_control.env:CongestionVectorEnv",
    )
