"""Offline reinforcement learning by d3rlpy, as rows beside the language model's."""
