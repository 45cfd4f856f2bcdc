"""The command line, `netllm-gym`."""
