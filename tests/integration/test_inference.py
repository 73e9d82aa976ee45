"""`blend` and `screen` as commands: the same on one rank and on two, and an interrupted screening goes on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import training_runs as runs
from ase import Atoms
from ase.io import write
from predictors import saved

from model.config import ConvertConfig
from model.data import convert
from model.inference import weights as branch_weights
from model.inference.screened import read_steps
from model.parallel import Ranks
from model.specs import Splits

COUNT, SPLITS = 90, Splits()


def frames(seed: int, count: int, *elements: str) -> list[Atoms]:
    """Return clusters of 2 to 6 atoms with made-up labels."""
    rng = np.random.default_rng(seed)
    found = []
    for k in range(count):
        number = int(rng.integers(2, 7))
        grid = np.stack(np.meshgrid(*[np.arange(2)] * 3), -1).reshape(-1, 3)[rng.permutation(8)[:number]]
        symbols = rng.choice(elements, number)
        symbols[np.flatnonzero(symbols == "H")[2:]] = "O"  # three hydrogens as far apart would tell of another unit
        atoms = Atoms(symbols, positions=1.5 * grid + rng.normal(scale=0.1, size=(number, 3)))
        atoms.info |= {"energy": float(rng.normal()) - 3.0 * number, "name": f"{seed}/{k}"}
        found.append(atoms)
    return found


def store(folder: Path, name: str, structures: list[Atoms]) -> Path:
    write(folder / f"{name}.extxyz", structures)
    (folder / f"{name}.task").mkdir()
    reader = {"name": "extxyz", "id": "name", "identity": "name"}
    config = ConvertConfig(name=name, reader=reader, sources=(folder / f"{name}.extxyz",), store=folder / name, splits=SPLITS)
    convert.run(config, folder / f"{name}.task", Ranks())
    return folder / name


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of random weights, labelled branches, and candidates of which every tenth holds an element nobody knows."""
    folder = tmp_path_factory.mktemp("world")
    saved(folder / "checkpoint")
    store(folder, "organic", frames(1, 40, "H", "C", "O"))
    store(folder, "water", frames(2, 40, "H", "O"))
    candidates = frames(3, COUNT, "H", "O")
    for atoms in candidates[::10]:
        atoms.symbols[0] = "Si"
    store(folder, "candidates", candidates)
    return folder


def blend(world: Path, folder: Path, ranks: int, **changes: Any) -> Any:
    branches = {name: {"store": str(world / name)} for name in ("organic", "water")}
    fields = {"checkpoint": str(world / "checkpoint"), "branches": branches, "splits": SPLITS.model_dump(), "precision": "fp64"}
    return runs.run(folder, fields | {"epochs": 5, "hidden": [8], "batch": 8} | changes, ranks, command="blend")


def screen(world: Path, folder: Path, ranks: int, **changes: Any) -> Any:
    fields = {"checkpoint": str(world / "checkpoint"), "candidates": str(world / "candidates"), "precision": "fp64"}
    return runs.run(folder, fields | {"top": 7, "batch": 8, "score": "largest_force"} | changes, ranks, command="screen")


def columns(folder: Path) -> dict[str, np.ndarray]:
    shards = [list(read_steps(path)) for path in sorted((folder / "screened").glob("shard-*.bp"))]
    steps = [step for shard in shards for step in shard]
    return {name: np.concatenate([getattr(step, name) for step in steps]) for name in ("index", "energy", "forces", "flag")}


def test_blend_and_screen_are_the_same_on_one_rank_and_on_two(world: Path, tmp_path: Path) -> None:
    one, two = (blend(world, tmp_path / f"blend{n}", n) for n in (1, 2))
    assert (one.status, two.status, two.world_size) == ("done", "done", 2)
    assert one.outputs == {"blend": "blend"}
    assert one.result["metrics"] == two.result["metrics"]
    assert set(one.result["metrics"]["water"]["weights"]) == {"organic", "water", "metal"}
    files = [(tmp_path / f"blend{n}" / "blend" / branch_weights.WEIGHTS_FILE).read_bytes() for n in (1, 2)]
    assert files[0] == files[1]

    outcomes = [screen(world, tmp_path / f"s{n}", n, blend=str(tmp_path / "blend1" / "blend")) for n in (1, 2)]
    assert [each.status for each in outcomes] == ["done", "done"]
    facts = [{k: v for k, v in each.result.items() if k != "seconds"} for each in outcomes]
    assert facts[0] == facts[1]
    assert (facts[0]["count"], facts[0]["flagged"], facts[0]["score"]) == (COUNT, COUNT // 10, "largest_force")
    assert sum(facts[0]["histogram"]["counts"]) == facts[0]["ranked"] == COUNT - COUNT // 10

    alone, shared = columns(tmp_path / "s1"), columns(tmp_path / "s2")
    assert alone["index"].tolist() == list(range(COUNT))
    assert all(np.array_equal(alone[name], shared[name], equal_nan=True) for name in alone)
    assert np.flatnonzero(alone["flag"]).tolist() == list(range(0, COUNT, 10))
    assert np.isnan(alone["energy"][::10]).all()

    ranking = json.loads((tmp_path / "s1" / "top.json").read_text())
    assert [row["id"] for row in ranking["top"]] == [f"3/{row['index']}" for row in ranking["top"]]
    values = [row["largest_force"] for row in ranking["top"]]
    assert values == sorted(values)
    assert len(values) == 7


def test_an_interrupted_screening_goes_on_where_it_was(world: Path, tmp_path: Path) -> None:
    (tmp_path / "stop").touch()
    stopped = screen(world, tmp_path / "stopped", 2, stop=str(tmp_path / "stop"))
    assert stopped.status == "partial"
    assert not list((tmp_path / "stopped" / "screened").glob("shard-*"))

    plain = screen(world, tmp_path / "plain", 1)
    shutil.copytree(tmp_path / "plain", tmp_path / "half")
    markers = sorted((tmp_path / "half" / "screened").glob("shard-*.json"))
    markers[0].unlink()
    next((tmp_path / "half" / "screened" / f"{markers[1].stem}.bp").glob("data.0")).write_bytes(b"torn")
    resumed = screen(world, tmp_path / "resumed", 2, resume=str(tmp_path / "half"))
    assert resumed.result["reused_shards"] == len(markers) - 2
    assert resumed.result["top"] == plain.result["top"]
    assert resumed.result["histogram"] == plain.result["histogram"]
    expected, found = columns(tmp_path / "plain"), columns(tmp_path / "resumed")
    assert all(np.array_equal(expected[name], found[name], equal_nan=True) for name in expected)

    other = screen(world, tmp_path / "other", 1, resume=str(tmp_path / "half"), precision="fp32")
    assert other.result["reused_shards"] == 0


def test_a_blend_stops_when_asked_and_serves_its_own_model_only(world: Path, tmp_path: Path) -> None:
    (tmp_path / "stop").touch()
    stopped = blend(world, tmp_path / "stopped", 2, stop=str(tmp_path / "stop"))
    assert (stopped.status, stopped.outputs) == ("partial", {})

    blend(world, tmp_path / "blend", 1)
    other = saved(tmp_path / "other", seed=5)
    refused = screen(world, tmp_path / "screen", 1, checkpoint=str(other), blend=str(tmp_path / "blend" / "blend"))
    assert (refused.status, refused.cause) == ("failed", "bad_config")
    assert "another model" in refused.message
