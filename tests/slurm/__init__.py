"""A real Slurm for tests: eight nodes on this machine, each with a mount, process and host-name space of its own."""
