"""QCML: TFRecord framing and tf.train.Example messages, written byte by byte from their definitions."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

FILE = "qcml-full.tfrecord-00000-of-00002"
OPTIONS: dict[str, object] = {}
# key, outlier, charge, multiplicity, numbers, positions in bohr, formation energy in Hartree
RECORDS = [
    ("hf", 0, 0, 1, [1, 9], [[0, 0, 0], [0, 0, 1.75]], -0.21875),
    ("wild", 1, 0, 1, [1, 1], [[0, 0, 0], [0, 0, 9.5]], 3.5),
    ("hydroxide", 0, -1, 1, [8, 1], [[0, 0, 0], [0, 1.8125, 0]], -0.1875),
    ("oxygen", 0, 0, 3, [8, 8], [[0, 0, 0], [2.25, 0, 0]], -0.203125),
]


def write(path: Path, energy_scale: float = 1.0) -> None:
    path.write_bytes(b"".join(framed(message(record, energy_scale)) for record in RECORDS))


def framed(data: bytes) -> bytes:
    length = struct.pack("<Q", len(data))
    return length + struct.pack("<I", masked(length)) + data + struct.pack("<I", masked(data))


def masked(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)  # Castagnoli's polynomial, reversed
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def message(record: tuple[Any, ...], scale: float) -> bytes:
    key, outlier, charge, multiplicity, numbers, positions, energy = record
    forces = [0, 0, 0.0625 * scale, 0, 0, -0.0625 * scale]
    features = {
        "key_hash": field(1, field(1, key.encode())),
        "is_outlier": integers([outlier]),
        "charge": integers([charge]),
        "multiplicity": integers([multiplicity]),
        "atomic_numbers": integers(numbers),
        "positions": floats([x for row in positions for x in row]),
        "pbe0_formation_energy": floats([energy * scale]),
        "pbe0_energy": floats([(energy - 100.0) * scale]),
        "pbe0_forces": floats(forces),
    }
    entries = (field(1, field(1, name.encode()) + field(2, feature)) for name, feature in features.items())
    return field(1, b"".join(entries))


def floats(values: list[float]) -> bytes:
    return field(2, field(1, struct.pack(f"<{len(values)}f", *values)))


def integers(values: list[int]) -> bytes:
    return field(3, field(1, b"".join(varint(value % 2**64) for value in values)))


def field(number: int, data: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(data)) + data


def varint(value: int) -> bytes:
    low, high = value & 0x7F, value >> 7
    return bytes([low | 0x80]) + varint(high) if high else bytes([low])


# 1 bohr = 0.529177210903 Å, 1 Hartree = 27.211386245988 eV, so 1 Hartree/bohr = 51.422067476 eV/Å and 0.0625 of it is
# 3.21387921726; -0.21875 Hartree = -5.952490741309875 eV, -0.1875 = -5.10213492112275, -0.203125 = -5.5273128312163125.
# 1.75 bohr = 0.92606011908025 Å, 1.8125 = 0.9591336947616875, 2.25 = 1.19064872453175. The outlier is left out.
F = 0.0625 * 27.211386245988 / 0.529177210903
EXPECTED = [
    {
        "id": name,
        "numbers": numbers,
        "positions": positions,
        "energy": energy,
        "forces": [[0, 0, F], [0, 0, -F]],
        "charge": charge,
        "spin": spin,
        "identity": "molecule:",
    }
    for name, numbers, positions, energy, charge, spin in (
        ("hf", [1, 9], [[0, 0, 0], [0, 0, 0.92606011908025]], -5.952490741309875, 0, 1),
        ("hydroxide", [8, 1], [[0, 0, 0], [0, 0.9591336947616875, 0]], -5.10213492112275, -1, 1),
        ("oxygen", [8, 8], [[0, 0, 0], [1.19064872453175, 0, 0]], -5.5273128312163125, 0, 3),
    )
]
