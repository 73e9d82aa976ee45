"""A batch system in memory, and campaigns carried through it: what a plan would meet with."""
