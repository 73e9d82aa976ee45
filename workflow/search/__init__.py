"""Hyper-parameter search: space, optimizer, stopping rule, feasibility."""
