"""Wiggle150: plain XYZ frames, label and energy in the comment line; the reference of a molecule ends in `_00`."""

from __future__ import annotations

from pathlib import Path

FILE = "ct5c00015_si_003.xyz"
OPTIONS: dict[str, object] = {}
WATER = "O 0.00000 0.00000 0.00000\nH 0.75000 0.50000 0.00000\nH -0.75000 0.50000 0.00000\n"
PEROXIDE = "O 0.00000 0.00000 0.00000\nO 1.45000 0.00000 0.00000\nH -0.25000 0.90000 0.00000\nH 1.70000 0.00000 0.90000\n"
FRAMES = [
    ("ado_00", -48000.0, WATER),
    ("ado_01", -47900.0, WATER),
    ("bpn_01", -94950.0, PEROXIDE),
    ("bpn_00", -95000.0, PEROXIDE),
]


def write(path: Path, energy_scale: float = 1.0) -> None:
    path.write_text(
        "".join(f"{body.count(chr(10))}\n{label} {energy * energy_scale!r}\n{body}" for label, energy, body in FRAMES)
    )


# Relative to the molecule's reference: 0, 100, 50 and 0 kcal/mol; 1 kcal/mol = 0.0433641039 eV.
KCAL = 4184 / (6.02214076e23 * 1.602176634e-19)
EXPECTED = [
    {
        "id": label,
        "numbers": [8, 1, 1] if body is WATER else [8, 8, 1, 1],
        "positions": [[float(x) for x in line.split()[1:]] for line in body.splitlines()],
        "energy": relative * KCAL,
        "identity": f"conformer:{label}",
    }
    for (label, _, body), relative in zip(FRAMES, (0, 100, 50, 0), strict=True)
]
