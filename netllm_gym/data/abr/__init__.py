"""Throughput traces and videos."""
