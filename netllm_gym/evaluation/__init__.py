"""Policies x a case -> a table."""
