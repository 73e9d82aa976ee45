"""A campaign of every kind over records of published data sets, in the containers they are published in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from tests.conftest import Command
from workflow.receipt import read_receipt, verify
from workflow.rundir import RunDir

# One step sees a few structures of each level of theory: big energies, ions and open shells, three units.
TRAINING = {
    "batch": 8,
    "precision": "fp64",
    "optimizer": {"learning_rate": 0.002, "warmup_steps": 2},
    "loss": {"energy": 1.0, "forces": 5.0},
}
SMALL = {"hidden": 16, "layers": 2}


def real_campaign(samples: Path, *, training: dict[str, Any]) -> dict[str, Any]:
    """Return the campaign file, as plain values."""
    return {
        "name": "records",
        "splits": {"seed": 35, "validation": 0.2, "test": 0.2},  # leaves no split of any branch or task empty
        "branches": {
            "ani1x": {"reader": "ani1x", "path": str(samples / "ani1x" / "ani1_n5.hdf5")},
            "nabla": {"reader": "nabla2dft", "path": str(samples / "nabla2dft" / "test_database.db"), "limit": 40},
            "omol": {"reader": "omol25", "path": str(samples / "omol25" / "ani2x_samples.aselmdb")},
        },
        "sources": {
            "ions": {"reader": "omol25", "path": str(samples / "omol25" / "small-test.aselmdb")},
            "drugs": {"reader": "nabla2dft", "path": str(samples / "nabla2dft" / "test_database.db")},
            "crystals": {"reader": "ase_db", "path": str(samples / "mptrj" / "10_thin_mp_traj_systems.db")},
        },
        "stages": {
            "data": {"kind": "convert", "nodes": 2, "walltime": "00:05:00"},
            "search": {
                "kind": "hpo",
                "needs": ["data"],
                "nodes": 2,
                "walltime": "00:10:00",
                "backbone": "painn",
                "evaluations": 2,
                "trial": {"nodes": 1, "epochs": 1},
                "space": {"hidden": {"choices": [8, 16]}, "layers": 2, "learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}},
                "training": training,
            },
            "best": {"kind": "promote", "needs": ["search"], "top": 1},
            "train": {
                "kind": "train",
                "each": "best",
                "nodes": 2,
                "walltime": "00:10:00",
                "epochs": 2,
                "training": {**training, "layout": "branch"},
            },
            "lead": {"kind": "promote", "needs": ["train"], "top": 1},
            "tuned": {
                "kind": "finetune",
                "needs": ["lead"],
                "nodes": 2,
                "walltime": "00:10:00",
                "task": "ions",
                "epochs": 1,
                "training": training,
            },
            "weights": {"kind": "blend", "needs": ["lead"], "nodes": 1, "walltime": "00:10:00"},
            "screen": {
                "kind": "screen",
                "needs": ["lead", "weights"],
                "nodes": 2,
                "walltime": "00:10:00",
                "candidates": "drugs",
                "top": 3,
            },
        },
    }


def test_every_kind_of_stage_over_published_containers(campaign: Command, samples: Path) -> None:
    file = campaign.folder / "records.yaml"
    file.write_text(yaml.safe_dump(real_campaign(samples, training=TRAINING), sort_keys=False))
    campaign("check", file)
    campaign("run", file, timeout=900)
    folder = RunDir(campaign.folder / "runs" / "records")

    receipts = {
        key: read_receipt(folder.stage_receipt(key))
        for key in ("data", "search", "best", "train/1", "lead", "tuned", "weights", "screen")
    }
    for key, receipt in receipts.items():
        assert receipt is not None, key
        assert receipt.status == "done", (key, receipt.message)
        verify(folder.root, receipt.outputs)

    branches = receipts["data"].result["branches"]
    assert {name: facts["structures"] for name, facts in branches.items()} == {
        "ani1x": 8,
        "nabla": 40,
        "omol": 60,
        "ions": 10,
        "drugs": 100,
        "crystals": 11,
    }
    assert receipts["train/1"].result["metrics"].keys() == {"ani1x", "nabla", "omol"}
    assert {row["strategy"] for row in receipts["tuned"].result["table"]} == {"scratch", "frozen", "unfrozen"}
    screened = receipts["screen"].result
    assert screened["count"] == 100
    assert screened["score"] == "residual_per_atom"
    assert len(screened["top"]) <= 3

    status = json.loads(campaign("status", file, "--json").stdout)
    assert json.dumps(status)
    campaign("report", file)
    assert "<svg" in folder.report.read_text()
