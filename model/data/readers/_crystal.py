"""Crystals as pymatgen writes them to JSON, without pymatgen: `Structure.as_dict()`, whatever its verbosity."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

ISOTOPES = {"D": 1, "T": 1}

Crystal = tuple[list[int], NDArray[np.float64], tuple[NDArray[np.float64], list[bool]]]


def crystal(record: dict[str, Any]) -> Crystal:
    """Return atomic numbers, positions (Å), and cell with periodicity of a `Structure.as_dict()`.

    Positions are made from the fractional coordinates, as pymatgen does. The charge that every record has is no label:
    pymatgen writes 0 where none was given.

    Raises:
        ValueError: A site is shared by several elements, or partly empty.
        KeyError: Something is missing, or no element.
    """
    sites = record["sites"]
    numbers = [_number(site["species"]) for site in sites]
    fractions = np.array([site["abc"] for site in sites], np.float64).reshape(-1, 3)
    cell = np.array(record["lattice"]["matrix"], np.float64)
    return numbers, fractions @ cell, (cell, record["lattice"].get("pbc", [True] * 3))


def site_values(record: dict[str, Any], name: str) -> list[Any] | None:
    """Return a property of all sites in their order, or None where a site lacks it."""
    values = [(site.get("properties") or {}).get(name) for site in record["sites"]]
    return None if any(value is None for value in values) else values


def atomic_number(symbol: str) -> int:
    """Return the atomic number of an element's symbol; deuterium and tritium are hydrogen.

    Raises:
        KeyError: No element.
    """
    from ase.data import atomic_numbers

    number: int = ISOTOPES.get(symbol) or atomic_numbers[symbol]
    return number


def _number(species: list[dict[str, Any]]) -> int:
    if len(species) != 1 or species[0]["occu"] != 1:
        raise ValueError("a site that is shared or partly empty")
    return atomic_number(species[0]["element"])
