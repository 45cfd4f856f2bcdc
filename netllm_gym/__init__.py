"""Gymnasium environments, experience pools and adapted language models for networking."""

from netllm_gym.envs import register_envs

__version__ = "0.1.0"

register_envs()
