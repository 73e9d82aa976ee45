"""How many structures a campaign's data sets hold as published, and how many bytes their stores take."""

from __future__ import annotations

from typing import Any

from model.registry import reader
from workflow.campaign import BranchSource, Campaign
from workflow.errors import CampaignError

BYTES_PER_ATOM = 1 + 3 * 8 + 3 * 8
"""Number, position and force in float64; docs/store.md."""
BYTES_PER_STRUCTURE = 160
"""Cell, periodicity, energy, charge, spin, offsets, and a typical id and identity."""


def structures(source: BranchSource) -> int | None:
    """Return how many structures a source has as published, or as limited; None where nobody can say."""
    info = _info(source)
    counts = [each for each in (info.count if info else None, source.limit) if each is not None]
    return min(counts) if counts else None


def unique_structures(sources: dict[str, BranchSource]) -> tuple[int, list[str]]:
    """Return how many different structures some sources have together, and the names of those that cannot be counted.

    Parts of one published set, such as the three of OMol25, are counted as the set: once.
    """
    largest: dict[tuple[str, str], int] = {}
    unknown = []
    for name, source in sources.items():
        count = structures(source)
        if count is None:
            unknown.append(name)
        else:
            key = (source.reader, str(source.path))
            largest[key] = max(count, largest.get(key, 0))
    return sum(largest.values()), unknown


def store_bytes(campaign: Campaign, names: tuple[str, ...]) -> int | None:
    """Return roughly how many bytes the stores of these sources take together; None where one cannot be estimated.

    Parts of one published set share its structures.
    """
    known = {**campaign.header.sources, **campaign.header.branches}
    chosen = {name: known[name] for name in names if name in known}
    atoms = [info.mean_atoms if (info := _info(each)) else None for each in chosen.values()]
    if not chosen or None in atoms or any(structures(each) is None for each in chosen.values()):
        return None
    sizes: dict[tuple[str, str], int] = {}
    for source, mean in zip(chosen.values(), atoms, strict=True):
        count = structures(source) or 0
        sizes[source.reader, str(source.path)] = int(count * (BYTES_PER_STRUCTURE + BYTES_PER_ATOM * float(mean or 0)))
    return sum(sizes.values())


def _info(source: BranchSource) -> Any:
    """Return what a reader knows of its source as published, or None where there is no such reader."""
    try:
        return reader(source.reader).INFO
    except CampaignError:
        return None
