"""OPoly26: polymers in the container, with the fields and at the level of theory of OMol25.

Layout: As OMol25's.
"""

from __future__ import annotations

from dataclasses import replace

from model.data.readers import _aselmdb
from model.data.readers.base import SourceInfo
from model.data.readers.omol25 import Config, count, files, read

__all__ = ["INFO", "Config", "count", "files", "info", "read"]

INFO = SourceInfo(
    title="OPoly26",
    count=6_570_000,
    level_of_theory="wB97M-V/def2-TZVPD",
    licence="CC BY 4.0",
    citation="Levine et al., arXiv:2512.23117 (2025)",
    units={"energy": "eV", "forces": "eV/Å", "length": "Å"},
    energy_kind="total",
    is_absolute=True,
    role="pretraining",
    mean_atoms=183.0,
    url="https://huggingface.co/facebook/OMol25",
    pitfalls=(
        "The count is rounded: 6.57 million calculations of 1.2 billion atoms.",
        "Totals are absolute and large: keep float64 or train residuals.",
        "Energies are at OMol25's level of theory, so a branch of its own is a choice, not a need.",
        _aselmdb.UNPACK,
    ),
    version=2,
)


def info(config: Config) -> SourceInfo:
    """Return the facts with these options."""
    return replace(INFO, level_of_theory=config.level_of_theory)
