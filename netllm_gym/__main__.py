"""`python -m netllm_gym`."""

from netllm_gym.cli import main

main()
