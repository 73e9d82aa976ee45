"""A stand-in for PBS Pro on Aurora: a server that runs jobs on virtual nodes of this machine, and its commands on PATH."""
