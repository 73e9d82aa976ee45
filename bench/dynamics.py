"""`make bench-md`: how well energy is kept over 10 ps of dynamics with each backbone, trained on the quickstart's data.

Each backbone is trained for a short time on molecules (GFN1-xTB) and alloys (EMT). With its best checkpoint as an ASE calculator
a molecule is relaxed, and a crystal with its cell; from there both go on at constant energy, 300 K, velocity Verlet. Drift is the
slope of the total energy's least-squares line over the run times its length, in meV an atom.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from ase import Atoms, units
from ase.build import bulk
from ase.filters import FrechetCellFilter
from ase.md.velocitydistribution import Stationary, ZeroRotation, thermalize_momenta
from ase.md.verlet import VelocityVerlet
from ase.optimize import FIRE
from numpy.typing import NDArray

from bench import timing
from model.allocator import keep_freed_memory
from model.config import ConvertConfig, TrainConfig
from model.data import convert
from model.data.quickstart.files import FILES, make, write
from model.data.quickstart.molecules import geometry
from model.inference.calculator import ModelCalculator
from model.outcome import Status
from model.parallel import Ranks
from model.registry import backbones
from model.training import trainer

OPTIONS = {"egnn": 32, "schnet": 32, "dimenet": 24, "mace": 8, "painn": 32, "pnaeq": 24}
"""Hidden features of each backbone, so small that 10 ps take minutes."""
BRANCHES = {"gfn1": 0, "emt": 2}
"""Branches by name, and which of the quickstart's files they are made of."""
KELVIN, PICOSECONDS = 300.0, 10.0
_AT_REST = 0.02
"""eV/Å."""
LARGEST_DRIFT = 1.0
"""meV an atom over the whole run."""


@dataclass(frozen=True)
class Run:
    """One run at constant energy.

    Attributes:
        time: fs of each sample, (n,).
        energy: Kinetic and potential energy, meV an atom, from the first sample on, (n,).
        kelvin: Mean temperature.
    """

    time: NDArray[np.float64]
    energy: NDArray[np.float64]
    kelvin: float

    @property
    def drift(self) -> float:
        """Return the drift over the run, meV an atom."""
        return abs(float(np.polyfit(self.time, self.energy, 1)[0]) * float(np.ptp(self.time)))

    @property
    def spread(self) -> float:
        """Return the standard deviation about the line, meV an atom: the oscillation that velocity Verlet always has."""
        return float(np.std(self.energy - np.polyval(np.polyfit(self.time, self.energy, 1), self.time)))


def main() -> None:
    """Train, run, report."""
    parser = argparse.ArgumentParser(description="Energy kept in dynamics with each backbone.")
    parser.add_argument("--small", action="store_true", help="a run of seconds that shows only that the bench works")
    parser.add_argument("--backbone", action="append", choices=sorted(backbones()), help="only this one; may be repeated")
    arguments = parser.parse_args()
    keep_freed_memory()
    torch.set_num_threads(1)
    timing.say_machine()
    picoseconds = 0.02 if arguments.small else PICOSECONDS
    names = arguments.backbone or (["painn"] if arguments.small else sorted(backbones()))
    figures: timing.Figures = {"picoseconds": picoseconds}
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        stores = make_stores(Path(folder), small=arguments.small)
        for name in names:
            checkpoint = train(name, stores, Path(folder) / name, epochs=1 if arguments.small else 6)
            for what, run in dynamics(checkpoint, picoseconds):
                figures |= {f"{name}_{what}_mev_per_atom": run.drift, f"{name}_{what}_kelvin": run.kelvin}
                timing.say(f"{name:8} {what:8} drift {run.drift:8.4f} meV/atom, spread {run.spread:.4f}, {run.kelvin:.0f} K")
    timing.finish(figures, small=arguments.small)


def make_stores(folder: Path, *, small: bool) -> dict[str, Path]:
    """Make the quickstart's molecules and alloys, or a few of them, and convert them."""
    stores = {}
    for branch, number in BRANCHES.items():
        file = FILES[number]
        structures = make(file, (0, number), lambda work, shares: map(work, list(shares)[: 30 if small else None]))
        write(folder / file.name, structures, file)
        reader = {"name": file.reader, **file.options}
        config = ConvertConfig(name=branch, reader=reader, sources=(folder / file.name,), store=folder / f"{branch}.store")
        (folder / f"{branch}.task").mkdir()
        convert.run(config, folder / f"{branch}.task", Ranks())
        stores[branch] = config.store
    return stores


def train(backbone: str, stores: dict[str, Path], folder: Path, *, epochs: int) -> Path:
    """Train a small model of a backbone; return its best checkpoint."""
    folder.mkdir()
    config = TrainConfig.model_validate(
        {
            "model": {"backbone": {"name": backbone, "layers": 2, "hidden": OPTIONS[backbone]}, "cutoff": 5.0},
            "branches": {name: {"store": store} for name, store in stores.items()},
            "batch": 16,
            "epochs": epochs,
            "loss": {"energy": 20.0},
            "optimizer": {"learning_rate": 3e-3, "ema": 0.99},
        }
    )
    began = timing.cpu_s()
    outcome = trainer.run(config, folder, Ranks())
    if outcome.status is not Status.DONE:
        raise RuntimeError(f"{backbone} was not trained: {outcome.message}")
    errors = {name: metrics["force_mae_mev_per_angstrom"] for name, metrics in outcome.result["metrics"].items()}
    told = ", ".join(f"{name} {error:.0f} meV/Å" for name, error in errors.items() if error is not None)
    timing.say(f"{backbone:8} trained in {timing.cpu_s() - began:.0f} CPU s; force MAE on validation: {told}")
    return folder / outcome.outputs["best"]


def dynamics(checkpoint: Path, picoseconds: float) -> Iterator[tuple[str, Run]]:
    """Yield the runs of a molecule and of a crystal, by name."""
    methanol = Atoms(geometry("CH3OH"))
    methanol.calc = ModelCalculator(checkpoint, "gfn1")
    _relax(methanol)
    yield "molecule", constant_energy(methanol, picoseconds, 0.5)
    crystal = bulk("Cu", "fcc", a=3.7, cubic=True)
    crystal.symbols[:2] = "Au"
    crystal.calc = ModelCalculator(checkpoint, "emt")
    _relax(FrechetCellFilter(crystal))
    yield "crystal", constant_energy(crystal, picoseconds, 1.0)


def _relax(atoms: Atoms | FrechetCellFilter) -> None:
    """Bring atoms to a minimum, a crystal with its cell.

    Raises:
        RuntimeError: Forces are not gone after many steps.
    """
    if not FIRE(atoms, logfile=None).run(fmax=_AT_REST, steps=1000):
        raise RuntimeError(f"not relaxed: forces are above {_AT_REST} eV/Å after 1,000 steps")


def constant_energy(atoms: Atoms, picoseconds: float, step: float) -> Run:
    """Run at constant energy from random velocities; half of their energy goes into the bonds.

    Args:
        atoms: At rest at a minimum, with a calculator.
        picoseconds: Length.
        step: fs.
    """
    thermalize_momenta(atoms, 2 * KELVIN, rng=np.random.default_rng(0))
    Stationary(atoms)
    if not atoms.pbc.any():
        ZeroRotation(atoms)
    samples: list[tuple[float, float, float]] = []
    verlet = VelocityVerlet(atoms, timestep=step * units.fs)
    verlet.attach(
        lambda: samples.append((verlet.get_time() / units.fs, atoms.get_total_energy(), atoms.get_temperature())), interval=5
    )
    verlet.run(round(1000 * picoseconds / step))
    return _run(samples, len(atoms))


def _run(samples: Sequence[tuple[float, float, float]], num_atoms: int) -> Run:
    time, energy, kelvin = np.array(samples).T
    return Run(time, 1000 * (energy - energy[0]) / num_atoms, float(kelvin.mean()))


if __name__ == "__main__":
    main()
