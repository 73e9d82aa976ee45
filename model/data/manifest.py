"""What a store says about itself: the summary of a shard, its attributes, and the manifest over all of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import chemical_symbols

from model.data import references, splits
from model.data.block import Block
from model.data.readers.base import SourceInfo
from model.data.shard import Attributes, content_hash, file_hash
from model.data.spread import spreads
from model.data.store import FORMAT, REFERENCES, REJECTS, Store
from model.specs import Splits

UNITS = {"energy": "eV", "forces": "eV/Å", "length": "Å", "stress": "eV/Å³"}
_KEPT = ("folder", "structures", "atoms", "files", "content_sha256")

Summary = dict[str, Any]


def summarise(block: Block, by: Splits) -> Summary:
    """Return counts, hashes and the moments of the training split of one shard: all that joining shards needs."""
    elements, atoms = np.unique(block.numbers, return_counts=True)
    first = block.offsets[:-1]
    return {
        "structures": len(block),
        "atoms": len(block.numbers),
        "largest": int(block.num_atoms.max(initial=0)),
        "elements": {str(z): int(n) for z, n in zip(elements, atoms, strict=True)},
        "labels": {
            "energy": int(np.isfinite(block.energy).sum()),
            "forces": int(np.isfinite(block.forces[first, 0]).sum()),
            "stress": int(np.isfinite(block.stress[:, 0, 0]).sum()),
            "target": int(np.isfinite(block.target).sum()),
        },
        "splits": splits.counts(block.identity, by),
        "moments": references.training_moments(block, by).to_json(),
        "content_sha256": content_hash(block),
    }


def units(info: SourceInfo) -> dict[str, str]:
    """Return the units of a store's quantities."""
    return UNITS | ({"target": info.target_unit} if info.target_unit else {})


def attributes(names: tuple[str, str], info: SourceInfo, origin: dict[str, Any], summary: Summary) -> Attributes:
    """Return the provenance that a shard carries as ADIOS2 attributes.

    Args:
        names: Of the branch and of its reader.
        info: Facts about the source.
        origin: Records of the source file that the shard was made of.
        summary: Of the shard.
    """
    return {
        "format": FORMAT,
        "branch": names[0],
        "reader": names[1],
        "reader_version": info.version,
        "source": info.title,
        "level_of_theory": info.level_of_theory,
        "licence": info.licence,
        "citation": info.citation,
        "energy_kind": info.energy_kind,
        "target": info.target or "energy",
        "structures": summary["structures"],
        "atoms": summary["atoms"],
        "elements": [int(z) for z in summary["elements"]],
        "element_atoms": list(summary["elements"].values()),
        **{f"labelled_{name}": count for name, count in summary["labels"].items()},
        **{f"origin_{name}": value for name, value in origin.items()},
        **{f"unit_{name}": unit for name, unit in units(info).items()},
    }


def manifest(
    store: Path, plan: dict[str, Any], info: SourceInfo, sources: list[dict[str, Any]], summaries: Sequence[Summary]
) -> dict[str, Any]:
    """Return the manifest of a store whose references and rejects stand; the same for the same sources and options.

    Args:
        store: Folder.
        plan: What was pinned: name, reader, shard, storage, splits.
        info: Facts about the source.
        sources: Name, size, SHA-256 and records of each source file.
        summaries: Of all spans, in order; those without a structure have no shard.
    """
    files = [name for name in (REJECTS, REFERENCES) if (store / name).exists()]
    return {
        "format": FORMAT,
        **plan,
        "source": asdict(info),
        "sources": sources,
        "units": units(info),
        "structures": sum(s["structures"] for s in summaries),
        "atoms": sum(s["atoms"] for s in summaries),
        "elements_without_reference": _unreferenced(summaries, references.read(store / REFERENCES)),
        "largest": max((s["largest"] for s in summaries), default=0),
        "rejected": sum(len(s["rejects"]) for s in summaries),
        "elements": _total(s["elements"] for s in summaries),
        "labels": _total(s["labels"] for s in summaries),
        "split_counts": _total(s["splits"] for s in summaries),
        "shards": [{key: s[key] for key in _KEPT} for s in summaries if s["structures"]],
        "files": {n: {"size": (store / n).stat().st_size, "sha256": file_hash(store / n)} for n in files},
    }


def _unreferenced(summaries: Sequence[Summary], fitted: references.References | None) -> list[int]:
    """Return atomic numbers that occur, but in no structure of the training split with an energy; none without energies."""
    found = {int(z) for summary in summaries for z in summary["elements"]}
    return [] if fitted is None else sorted(found - fitted.elements)


def result(store: Store) -> dict[str, Any]:
    """Return the facts of a finished store for the command's outcome, elements by symbol."""
    about, fitted = store.manifest, store.references
    nameless = [chemical_symbols[z] for z in about["elements_without_reference"]]
    return {
        "structures": about["structures"],
        "atoms": about["atoms"],
        "largest": about["largest"],
        "rejected": about["rejected"],
        "elements": {chemical_symbols[int(z)]: n for z, n in about["elements"].items()},
        "splits": about["split_counts"],
        "labels": about["labels"],
        "references": None if fitted is None else _by_symbol(fitted.to_json()),
        "elements_without_reference": nameless,
        "spreads": spreads(store, fitted),
    }


def _by_symbol(fitted: dict[str, Any]) -> dict[str, Any]:
    return fitted | {"energies_ev": {chemical_symbols[int(z)]: e for z, e in fitted["energies_ev"].items()}}


def _total(parts: Iterable[dict[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for part in parts:
        total.update(part)
    return dict(total)
