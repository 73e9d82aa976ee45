"""OPoly26: the container, fields and units of OMol25."""

from __future__ import annotations

from tests.contracts.sources.omol25 import EXPECTED, FILE, OPTIONS, write

__all__ = ["EXPECTED", "FILE", "OPTIONS", "write"]
