"""Policies that are not learned: rules, plans and bounds."""
