"""`python -m netllm_gym`."""

from netllm_gym.cli.main import main

main()
