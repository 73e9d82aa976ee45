"""The campaign driver: one YAML file carried through a batch system, without torch."""

__version__ = "0.1.0"
