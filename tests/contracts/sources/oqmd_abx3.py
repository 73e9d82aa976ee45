"""OQMD ABX3: the csv file by the csv module, and pages of the REST service as it prints them."""

from __future__ import annotations

import csv
import json
from pathlib import Path

FILE = "oqmd_data.csv"
COMPANIONS = ("oqmd_structures.json",)
OPTIONS: dict[str, object] = {}
CELL = [[4, 0, 0], [0, 4, 0], [0, 1, 5]]
SITES = {
    1216382: ["Ba @ 0 0 0", "Ti @ 0.5 0.5 0.5", "O @ 0.5 0.5 0", "O @ 0.5 0 0.5", "O @ 0 0.5 0.5"],
    4756: ["K @ 0 0 0", "Mg @ 0.5 0.5 0.5", "F @ 0.5 0.5 0", "F @ 0.5 0 0.5", "F @ 0 0.5 0.5"],
}
ROWS = ((4756, "KMgF3", -3.25), (1216382, "BaTiO3", -3.5))


def write(path: Path, energy_scale: float = 1.0) -> None:
    with path.open("w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["entry_id", "formula", "Ef", "Eg", "crystal_system"])
        for entry, formula, formation in ROWS:
            table.writerow([entry, formula, formation * energy_scale, 0.0, "cubic"])
    pages = [page([entry], "http://oqmd.org/oqmdapi/formationenergy?offset=100") for entry in SITES]
    (path.parent / "oqmd_structures.json").write_text(json.dumps(pages))


def page(entries: list[int], following: str) -> dict[str, object]:
    data = [{"entry_id": entry, "sites": SITES[entry], "unit_cell": CELL} for entry in entries]
    return {"links": {"next": following}, "resource": {}, "data": data, "meta": {"data_returned": len(data)}}


# Sites are fractional: 0.5 · (4,0,0) + 0.5 · (0,4,0) + 0.5 · (0,1,5) = (2, 2.5, 2.5), and so on. `Ef` stays eV per atom.
EXPECTED = [
    {
        "id": name,
        "identity": identity,
        "numbers": numbers,
        "positions": [[0, 0, 0], [2, 2.5, 2.5], [2, 2, 0], [2, 0.5, 2.5], [0, 2.5, 2.5]],
        "cell": CELL,
        "pbc": [True] * 3,
        "energy": None,
        "target": target,
    }
    for name, identity, numbers, target in (
        ("4756", "crystal:F3K1Mg1", [19, 12, 9, 9, 9], -3.25),
        ("1216382", "crystal:Ba1O3Ti1", [56, 22, 8, 8, 8], -3.5),
    )
]
