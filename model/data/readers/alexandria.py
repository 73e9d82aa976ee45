"""Alexandria: relaxed crystals as bz2-compressed JSON of pymatgen's ComputedStructureEntry, 100,000 a file.

Layout: `alexandria_*_NNN.json.bz2`, `{"entries": [...]}` of pymatgen's ComputedStructureEntry: structure with
sites[].properties.forces (eV/Å), magmom and charge; data with mat_id, energy_total (eV), e_form and e_above_hull (eV/atom).
"""

from __future__ import annotations

import bz2
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from model.data.readers._crystal import crystal, site_values
from model.data.readers._forward import span_of
from model.data.readers.base import SourceInfo, attempt, find, reading, structure
from model.data.structure import Refused, Structure
from model.outcome import CampaignError
from model.specs import Strict

INFO = SourceInfo(
    title="Alexandria",
    count=4_500_000,  # `pbe` in three dimensions, rounded
    level_of_theory="PBE and PBE+U (VASP)",
    licence="CC BY 4.0",
    citation="Schmidt et al., Mater. Today Phys. 48, 101560 (2024), doi:10.1016/j.mtphys.2024.101560",
    units={"energy": "eV", "forces": "eV/Å", "length": "Å"},
    energy_kind="total",
    role="pretraining",
    mean_atoms=10.0,
    url="https://alexandria.icams.rub.de/data",
    pitfalls=(
        "`e_form` and `e_above_hull` are eV per atom; only `energy_total` belongs to the forces.",
        "The main files hold relaxed structures only, so forces are near zero; trajectories are in other files.",
        "PBE, PBEsol and SCAN lie side by side on the server: one branch is one functional.",
        "`data.stress` is left out: neither its unit nor its sign is stated with the files.",
        "Sheets and chains have 15 Å of vacuum and are periodic along it: a longer cutoff sees their images.",
    ),
)
_LEVELS = {"pbe": INFO.level_of_theory, "pbesol": "PBEsol (VASP)", "scan": "SCAN (VASP)"}
_MARKS = {"_ps_": "pbesol", "_scan_": "scan"}
FORWARD = ("",)


class Config(Strict):
    """Options of the reader."""

    functional: Literal["pbe", "pbesol", "scan"] = Field("pbe", description="Files of this functional are read, others left out.")
    target: Literal["e_form", "e_above_hull"] | None = Field(
        None, description="A quantity in eV/atom to store as `target` too; the energy stays the total."
    )


def info(config: Config) -> SourceInfo:
    """Return the facts with these options."""
    level = _LEVELS[config.functional]
    if config.target is None:
        return replace(INFO, level_of_theory=level)
    units, title = {**INFO.units, "target": "eV/atom"}, f"{INFO.title}, {config.target}"
    return replace(INFO, title=title, level_of_theory=level, target="scalar", target_unit="eV/atom", units=units)


def files(paths: Sequence[Path], config: Config) -> list[Path]:
    """Return the files of the functional; relaxation paths (`geo_opt_paths`), which are laid out otherwise, are left out.

    Raises:
        CampaignError: There are files, but none of this functional; or one was given by name and is of another.
    """
    found = find(paths, (".json.bz2",))
    main = [path for path in found if "geo_opt_paths" not in path.parts and not path.name.startswith("alex_go")]
    functionals = {path: _functional(path) for path in main}
    strangers = [path for path in map(Path, paths) if functionals.get(path, config.functional) != config.functional]
    wanted = [path for path in main if functionals[path] == config.functional]
    if strangers or not wanted:
        there = ", ".join(sorted(set(functionals.values()))) or "relaxation paths only"
        where = str(strangers[0]) if strangers else ", ".join(map(str, paths))
        raise CampaignError(
            f"no file of functional {config.functional} (found: {there})", where, "Mend the path or `functional`."
        )
    return wanted


def count(path: Path, config: Config) -> int:  # noqa: ARG001
    """Return the number of entries."""
    with reading(path):
        return sum(1 for _ in _entries(path))


def read(path: Path, config: Config, span: range | None = None) -> Iterator[Structure | Refused]:
    """Yield the entries of a span, one in memory at a time."""
    with reading(path):
        for entry in span_of(path, "alexandria", span, lambda: _entries(path)):
            name = str((entry.get("data") or {}).get("mat_id") or entry.get("entry_id"))
            yield attempt(name, _structure, entry, config)


def _functional(path: Path) -> str:
    """Return the functional that a file's name or one of its folders states: `alexandria_ps_000`, `alexandria_scan_000`."""
    by_name = next((functional for mark, functional in _MARKS.items() if mark in path.name), None)
    return by_name or next((part for part in reversed(path.parts[:-1]) if part in _LEVELS), "pbe")


def _entries(path: Path) -> Iterator[dict[str, Any]]:
    import ijson

    found = False
    with bz2.open(path, "rb") as file:
        for entry in ijson.items(file, "entries.item", use_float=True):
            found = True
            yield entry
    if not found:
        raise ValueError("no `entries`")


def _structure(name: str, entry: dict[str, Any], config: Config) -> Structure:
    numbers, positions, box = crystal(entry["structure"])
    data = entry["data"]
    labels = {
        "energy": data["energy_total"],
        "forces": site_values(entry["structure"], "forces"),
        "target": None if config.target is None else data[config.target],
    }
    return structure(numbers, positions, labels, box=box, names=(name, None))
