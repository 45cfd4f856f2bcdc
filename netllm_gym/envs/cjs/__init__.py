"""Cluster job scheduling: workloads, one compiled simulator, the scalar and the vector face."""
