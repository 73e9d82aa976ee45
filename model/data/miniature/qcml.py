"""QCML's container: a TFRecord shard of tf.train.Example messages, float32, bohr, Hartree and Hartree/bohr."""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from model.data.miniature.base import energy, forces
from model.data.readers._tfrecord import checksum, message_type
from model.data.readers.base import BOHR_ANGSTROM, HARTREE_EV
from model.data.readers.qcml import Config

FAMILY = "ions"


def write(folder: Path, structures: list[Atoms], config: Config) -> list[Path]:  # noqa: ARG001 every miniature's interface
    """Write one shard; total and formation energy are the same here, and nothing is an outlier."""
    path = folder / "qcml-full.tfrecord-00000-of-00001"
    path.write_bytes(b"".join(_framed(_message(atoms)) for atoms in structures))
    return [path]


def _framed(record: bytes) -> bytes:
    length = struct.pack("<Q", len(record))
    return length + struct.pack("<I", checksum(length)) + record + struct.pack("<I", checksum(record))


def _message(atoms: Atoms) -> bytes:
    example = message_type()()
    feature = example.features.feature
    hartree = energy(atoms) / HARTREE_EV
    floats: dict[str, Any] = {
        "positions": atoms.positions.ravel() / BOHR_ANGSTROM,
        "pbe0_energy": [hartree],
        "pbe0_formation_energy": [hartree],
        "pbe0_forces": forces(atoms).ravel() / (HARTREE_EV / BOHR_ANGSTROM),
    }
    integers = {"charge": [atoms.info["charge"]], "multiplicity": [atoms.info["spin"]], "is_outlier": [0]}
    for name, values in floats.items():
        feature[name].float_list.value.extend(np.asarray(values, np.float32).tolist())
    for name, values in {**integers, "atomic_numbers": atoms.numbers.tolist()}.items():
        feature[name].int64_list.value.extend(values)
    feature["key_hash"].bytes_list.value.append(hashlib.sha256(atoms.positions.tobytes()).hexdigest()[:16].encode())
    encoded: bytes = example.SerializeToString(deterministic=True)
    return encoded
