"""Policies x episodes -> experience pools."""
