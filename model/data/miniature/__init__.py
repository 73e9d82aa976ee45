"""Miniatures of published data sets: a few structures of real physics, in the container of each reader."""
