"""How many structures a campaign's data sets hold as published, and how many bytes their stores take."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from model.registry import reader
from workflow.campaign import BranchSource, Campaign
from workflow.errors import CampaignError

BYTES_PER_ATOM = 1 + 3 * 8 + 3 * 8
"""Number, position and force in float64; docs/store.md."""
BYTES_PER_STRUCTURE = 160
"""Cell, periodicity, energy, charge, spin, offsets, and a typical id and identity."""
_LEAST_BYTES = 8
"""No container holds a structure in less, however it is compressed."""


def structures(campaign: Campaign, name: str) -> int | None:
    """Return how many structures a branch or source has as published, or as limited; None where nobody can say.

    Files that lie here and are far too small for the published set hold something else: nobody can say how much.
    """
    source = {**campaign.header.sources, **campaign.header.branches}[name]
    published = info.count if (info := _info(source)) else None
    if published is not None and _hold_less(campaign, name, published * _LEAST_BYTES):
        published = None
    counts = [each for each in (published, source.limit) if each is not None]
    return min(counts) if counts else None


def unique_structures(campaign: Campaign) -> tuple[int, list[str]]:
    """Return how many different structures the branches have together, and the names of those that cannot be counted.

    Parts of one published set, such as the three of OMol25, are counted as the set: once.
    """
    largest: dict[tuple[str, str], int] = {}
    unknown = []
    for name, source in campaign.header.branches.items():
        count = structures(campaign, name)
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
    counts = [structures(campaign, name) for name in chosen]
    if not chosen or None in atoms or None in counts:
        return None
    sizes: dict[tuple[str, str], int] = {}
    for source, mean, count in zip(chosen.values(), atoms, counts, strict=True):
        size = int((count or 0) * (BYTES_PER_STRUCTURE + BYTES_PER_ATOM * float(mean or 0)))
        sizes[source.reader, str(source.path)] = size
    return sum(sizes.values())


def _hold_less(campaign: Campaign, name: str, least: float) -> bool:
    """Say whether the files of a branch or source are on this machine and together smaller than `least` bytes."""
    try:
        paths = [path for path in campaign.files(name) if path.exists()]
        if not paths:
            return False
        total = 0
        for size in (size for path in paths for size in _sizes(path)):
            total += size
            if total >= least:
                return False
    except (OSError, CampaignError):  # it cannot be looked at, or its place is not known
        return False
    return True


def _sizes(path: Path) -> Iterator[int]:
    """Yield the bytes of a file, or of each file below a folder."""
    if path.is_file():
        yield path.stat().st_size
        return
    for folder, _, names in os.walk(path):
        yield from ((Path(folder) / name).stat().st_size for name in names)


def _info(source: BranchSource) -> Any:
    """Return what a reader knows of its source as published, or None where there is no such reader."""
    try:
        return reader(source.reader).INFO
    except CampaignError:
        return None
