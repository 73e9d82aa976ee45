"""OPoly26's container is OMol25's."""

from __future__ import annotations

from model.data.miniature.omol25 import FAMILY, suits, write

__all__ = ["FAMILY", "suits", "write"]
