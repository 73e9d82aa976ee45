"""Conversion for `make bench-data`: structures per CPU-second of each reader, and the peak memory of a large JSON file.

Every reader converts a miniature of its published container, as `python -m model convert` does: count, hash, read, judge,
identify, pack, write, summarise. Miniatures hold few different structures under many names, so caches of bond graphs and formulas
are as warm as in trajectories; structures differ in size, so atoms and MB per CPU-second stand beside the rates.
"""

from __future__ import annotations

import json
import random
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from bench import timing
from model import registry
from model.config import ConvertConfig
from model.data import convert
from model.data.miniature.base import Family, miniature
from model.data.miniature.structures import make
from model.data.store import Store
from model.outcome import Status
from model.parallel import Ranks

STRUCTURES, SMALL = 1_500, 24
JSON_BYTES, SMALL_JSON = 1_000_000_000, 3_000_000
_DIFFERENT = 48
_ATOMS_OF_FRAME, _FRAMES_OF_MATERIAL = 31, 11
"""Means of the published file: 1.58 million frames of 146,000 materials, 31 atoms each, 12 GB."""


def figures(*, small: bool) -> timing.Figures:
    """Return rates of all readers and the peak of a JSON file of 1 GB, and print a table."""
    count = SMALL if small else STRUCTURES
    made: dict[Family, list[Atoms]] = {}
    rows, rates = (
        [["", "structures per CPU-s", "atoms per CPU-s", "MB per CPU-s", "published MB", "store, bytes a structure"]],
        {},
    )
    for name in registry.readers():
        writer = miniature(name)
        different = made.setdefault(writer.FAMILY, make(writer.FAMILY, min(count, _DIFFERENT)))
        with tempfile.TemporaryDirectory(prefix="bench-data-") as folder:
            rate, row = _reader(name, renamed(different, count), Path(folder))
        rates[f"conversion_{name}_per_cpu_s"] = rate
        rows.append([name, *row])
    timing.say_table(f"conversion of miniatures, {count} structures, whole: count, hash, read, judge, identify, write", rows)
    with tempfile.TemporaryDirectory(prefix="bench-data-") as folder:
        size = SMALL_JSON if small else JSON_BYTES
        peak = mptrj_peak_mb(Path(folder), size)
    timing.say(f"peak memory of counting and reading an MPtrj-like JSON of {size / 1e6:,.0f} MB: {peak:.0f} MB")
    return rates | {"mptrj_1gb_peak_mb": peak}


def renamed(made: list[Atoms], count: int) -> list[Atoms]:
    """Return so many structures, the same ones again and again under new names."""
    copies = []
    for number in range(count):
        like = made[number % len(made)]
        copy = like.copy()
        copy.info = {**like.info, "id": f"{like.info['id']}~{number}"}
        copy.calc = SinglePointCalculator(copy, **like.calc.results)
        copies.append(copy)
    return copies


def _reader(name: str, structures: list[Atoms], folder: Path) -> tuple[float, list[str]]:
    reader: Any = registry.reader(name)
    (folder / "source").mkdir()
    miniature(name).write(folder / "source", structures, reader.Config())
    config = ConvertConfig(name=name, reader={"name": name}, sources=(folder / "source",), store=folder / "store", shard=500)
    began = timing.cpu_s()
    assert convert.run(config, folder, Ranks()).status is Status.DONE
    spent = timing.cpu_s() - began
    about = Store.open(folder / "store").manifest
    published = sum(source["size"] for source in about["sources"]) / 1e6
    stored = sum(file["size"] for shard in about["shards"] for file in shard["files"].values()) / about["structures"]
    rate = about["structures"] / spent
    told = (rate, about["atoms"] / spent, published / spent, published, stored)
    return rate, [f"{value:,.{digits}f}" for value, digits in zip(told, (0, 0, 1, 1, 0), strict=True)]


def mptrj_peak_mb(folder: Path, size: int) -> float:
    """Return the peak memory in MB of a process that counts and reads a made file of MPtrj's form, interpreter and all."""
    path = folder / "MPtrj_2022.9_full.json"
    write_mptrj(path, size)
    done = subprocess.run([sys.executable, "-m", "bench.conversion", str(path)], capture_output=True, text=True, check=True)
    facts = json.loads(done.stdout)
    assert facts["frames"] > 0 and facts["frames"] == facts["counted"], facts
    timing.say(f"  {facts['frames']:,} frames in {facts['cpu_s']:.0f} CPU-s, counted and read")
    return float(facts["peak_mb"])


def write_mptrj(path: Path, size: int) -> None:
    """Write a file of MPtrj's form of at least so many bytes: every key of the release, numbers drawn at random."""
    with path.open("w") as file:
        file.write("{")
        for number, material in enumerate(_materials(random.Random(0))):  # noqa: S311 numbers, no secrets
            file.write(f'{", " if number else ""}"mp-{number}": {material}')
            if file.tell() >= size:
                break
        file.write("}")


def _materials(rng: random.Random) -> Iterator[str]:
    """Yield the frames of materials as JSON text; their numbers of atoms and frames scatter about the published means."""
    number = 0
    while True:
        atoms = max(1, round(rng.expovariate(1 / _ATOMS_OF_FRAME)))
        frames = max(1, round(rng.expovariate(1 / _FRAMES_OF_MATERIAL)))
        yield json.dumps({f"mp-{number}-0-{step}": _frame(rng, atoms, number) for step in range(frames)})
        number += 1


def _frame(rng: random.Random, atoms: int, number: int) -> dict[str, Any]:
    edge = (20.0 * atoms) ** (1 / 3)
    places = [[rng.random() for _ in range(3)] for _ in range(atoms)]
    sites = [
        {
            "species": [{"element": "O" if k % 3 else "Fe", "occu": 1}],
            "abc": abc,
            "xyz": [edge * x for x in abc],
            "label": "O" if k % 3 else "Fe",
            "properties": {"magmom": rng.random()},
        }
        for k, abc in enumerate(places)
    ]
    matrix = [[edge, 0, 0], [0, edge, 0], [0, 0, edge]]
    lattice = {"matrix": matrix, "a": edge, "b": edge, "c": edge, "alpha": 90, "beta": 90, "gamma": 90, "volume": edge**3}
    raw = -7.0 * atoms
    return {
        "structure": {
            "@module": "pymatgen.core.structure",
            "@class": "Structure",
            "charge": 0,
            "lattice": lattice,
            "sites": sites,
        },
        "uncorrected_total_energy": raw,
        "corrected_total_energy": raw - 0.5,
        "energy_per_atom": (raw - 0.5) / atoms,
        "ef_per_atom": -2.0,
        "e_per_atom_relaxed": -7.1,
        "ef_per_atom_relaxed": -2.1,
        "force": [[rng.gauss(0, 0.3) for _ in range(3)] for _ in range(atoms)],
        "stress": [[rng.gauss(0, 10) for _ in range(3)] for _ in range(3)],
        "magmom": [rng.random() for _ in range(atoms)],
        "bandgap": 1.5,
        "mp_id": f"mp-{number}",
    }


def main() -> None:
    """Count and read the file that the command line names, in this process of its own; tell its peak as JSON."""
    reader: Any = registry.reader("mptrj")
    path, config, frames = Path(sys.argv[1]), reader.Config(), 0
    counted = reader.count(path, config)
    for frames, _ in enumerate(reader.read(path, config), start=1):  # noqa: B007 told below
        pass
    facts = {"frames": frames, "counted": counted, "peak_mb": _peak_mb(), "cpu_s": timing.cpu_s()}
    sys.stdout.write(json.dumps(facts) + "\n")


def _peak_mb() -> float:
    """Return this process's own peak; `ru_maxrss` begins with that of the process which started it."""
    status = Path("/proc/self/status")
    if not status.is_file():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    main()
