"""QCML: TFRecord shards of the TensorFlow data set `qcml/dft_force_field`, in Hartree, read without TensorFlow.

Layout: TFRecord shards of tf.train.Example: key_hash (bytes), is_outlier, charge, multiplicity (int64), atomic_numbers
(int64, n), positions and pbe0_forces (float32, 3n, flat; Hartree/bohr), pbe0_energy and pbe0_formation_energy (float32,
Hartree).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from model.data.readers import _tfrecord
from model.data.readers.base import BOHR_ANGSTROM, HARTREE_EV, SourceInfo, attempt, find, per_file, reading, structure
from model.data.structure import Refused, Structure
from model.outcome import CampaignError
from model.specs import Strict

INFO = SourceInfo(
    title="QCML, DFT",
    count=33_496_171,
    level_of_theory="PBE0 (FHI-aims)",
    licence="CC BY-NC 4.0",
    citation="Ganscha et al., Sci. Data 12, 406 (2025), doi:10.1038/s41597-025-04720-7",
    units={"energy": "Hartree", "forces": "Hartree/bohr", "length": "bohr or Å, found by a test"},
    energy_kind="formation",
    role="pretraining",
    mean_atoms=11.0,
    url="gs://qcml-datasets/tfds/qcml/dft_force_field/1.0.0",
    pitfalls=(
        "The unit of length is not stated where the data lie: each shard's is told from its bond lengths, or given by option.",
        "Energies are float32 in the file: totals of heavy atoms lose meV, so formation energies are taken by default.",
        "Records marked is_outlier are left out by default.",
        "Ions and open shells are among them; `multiplicity` is 2S+1.",
        "PBE0 without dispersion: the D4 correction is a data set of its own and is not added.",
        "The count is that of a public training script; it includes outliers.",
    ),
    version=2,
)
_ENERGIES = {"formation": "pbe0_formation_energy", "total": "pbe0_energy"}
_UNITS = {"bohr": BOHR_ANGSTROM, "angstrom": 1.0}
_TESTED = 256
_LONGEST_ANGSTROM, _SHORTEST_BOHR = 1.35, 1.55
"""Median distance to the nearest atom over the sum of covalent radii: about 1.0 in Å, 1.9 in bohr read as Å."""


class Config(Strict):
    """Options of the reader."""

    energy: Literal["formation", "total"] = Field("formation", description="pbe0_formation_energy, or pbe0_energy.")
    outliers: Literal["drop", "keep"] = Field("drop", description="Whether records marked is_outlier are left out.")
    length_unit: Literal["auto", "bohr", "angstrom"] = Field(
        "auto", description="Unit of positions; auto: by the bond lengths of a shard's first records."
    )


def info(config: Config) -> SourceInfo:
    """Return the facts with these options; totals have all electrons in them."""
    return replace(INFO, energy_kind=config.energy, is_absolute=config.energy == "total")


def files(paths: Sequence[Path], config: Config) -> list[Path]:  # noqa: ARG001 every reader's interface
    """Return the shards."""
    return find(paths, (".tfrecord", ".tfrecord-*-of-*"))


def count(path: Path, config: Config) -> int:
    """Return the number of records taken; every record is looked at once, for its mark."""
    with reading(path):
        return len(_places(path, config.outliers))


def read(path: Path, config: Config, span: range | None = None) -> Iterator[Structure | Refused]:
    """Yield the records of a span."""
    with reading(path):
        places = _places(path, config.outliers)
        wanted = places if span is None else places[span.start : span.stop]
        scale = _length_scale(path, config)
        for place, record in _tfrecord.records(path, iter(wanted.tolist())):
            features = _tfrecord.features(record)
            key = features.get("key_hash", [])
            name = key[0].decode("utf-8", "backslashreplace") if len(key) else f"{path.name}/{place}"
            yield attempt(name, _structure, features, scale, config)


@per_file()
def _places(path: Path, outliers: str) -> NDArray[np.int64]:
    """Return the byte offsets of the records taken, (num_records,).

    Raises:
        ValueError: The file is empty.
    """
    if not path.stat().st_size:
        raise ValueError("the file is empty")
    records = _tfrecord.records(path)
    taken = (place for place, record in records if outliers == "keep" or not _tfrecord.integer(record, "is_outlier"))
    return np.fromiter(taken, np.int64)


def _length_scale(path: Path, config: Config) -> float:
    unit = _length_unit(path) if config.length_unit == "auto" else config.length_unit
    return _UNITS[unit]


@per_file()
def _length_unit(path: Path) -> str:
    """Tell bohr from Å by the median distance of an atom to its nearest neighbour.

    Raises:
        CampaignError: It fits neither.
    """
    tested = [_stretches(_tfrecord.features(record)) for _, record in itertools.islice(_tfrecord.records(path), _TESTED)]
    known = np.concatenate([np.full(1, np.nan), *tested])
    median = float(np.nanmedian(known)) if np.isfinite(known).any() else float("nan")
    if median < _LONGEST_ANGSTROM:
        return "angstrom"
    if median > _SHORTEST_BOHR:
        return "bohr"
    what = f"cannot tell the unit of length (nearest atoms are {median:.2f} covalent bonds apart, taken as Å)"
    raise CampaignError(what, str(path), "Set the option `length_unit` to bohr or angstrom.")


def _stretches(features: dict[str, Any]) -> NDArray[np.float64]:
    """Return each atom's distance to the nearest other over the sum of their covalent radii, (num_atoms,); empty for one.

    A record of another shape, or with places that are none, tells nothing: it is judged when it is read.
    """
    from ase.data import covalent_radii

    numbers, flat = np.asarray(features.get("atomic_numbers", []), int), np.asarray(features.get("positions", []), np.float64)
    if len(numbers) < 2 or len(flat) != 3 * len(numbers) or not np.isin(numbers, range(1, len(covalent_radii))).all():
        return np.empty(0)
    radii, positions = covalent_radii[numbers], flat.reshape(-1, 3)
    apart = np.linalg.norm(positions[:, None] - positions[None], axis=-1)
    np.fill_diagonal(apart, np.inf)
    return (apart / (radii[:, None] + radii[None])).min(axis=1)


def _structure(name: str, features: dict[str, Any], scale: float, config: Config) -> Structure:
    labels = {
        "energy": np.float64(features[_ENERGIES[config.energy]][0]) * HARTREE_EV,
        "forces": _vectors(features, "pbe0_forces") * (HARTREE_EV / BOHR_ANGSTROM),
        "charge": features["charge"][0],
        "spin": features["multiplicity"][0],
    }
    positions = _vectors(features, "positions") * scale
    return structure(features["atomic_numbers"], positions, labels, names=(name, None))


def _vectors(features: dict[str, Any], name: str) -> NDArray[np.float64]:
    return np.asarray(features[name], np.float64).reshape(-1, 3)
