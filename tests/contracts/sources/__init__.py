"""One module for each reader: its container written by the origin's own library, and what must come out.

A module has `FILE`, `OPTIONS` (of the reader), `EXPECTED` (records with values converted by hand), and
`write(path, energy_scale)`, which multiplies energies and forces so that a test can slip a unit. Where the source's
records are spread over several files, `write` puts the others beside `path`, and `COMPANIONS` names them.
"""
