"""Experience pools: episodes that policies played, on disk."""
