"""Cluster job scheduling (CJS): choose which stage of which job gets how many executors."""
