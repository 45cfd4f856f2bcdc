"""Workloads of the cluster: jobs, their stages and durations."""
