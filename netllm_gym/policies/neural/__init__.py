"""Policies that are small neural networks; needs torch."""
