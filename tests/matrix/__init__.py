"""The crash points K1 to K20, on Slurm and on PBS: one table, one way to play a case, one checker."""
