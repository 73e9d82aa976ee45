"""Readers of published containers, one file each; the name in the YAML is the module's name."""
