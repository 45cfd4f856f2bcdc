"""Policies: rules, published and trained networks, and language models, under one protocol."""
