"""A campaign in miniature on this machine: the same file, made-up data in the published containers, one kill."""
