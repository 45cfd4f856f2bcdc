"""Cluster job scheduling: workloads, one compiled simulator, scalar and vector environment."""
