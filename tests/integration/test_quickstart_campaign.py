"""The main job: the quickstart, from empty data to a ranking, learns what it must, and an untrained model has not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from model.config import EvaluateConfig, dump
from model.outcome import read_outcome
from tests.conftest import ROOT, Command
from workflow.receipt import Receipt, read_receipt, verify
from workflow.rundir import RunDir

STAGES = ("data", "painn", "egnn", "best", "train/1", "lead", "finetune", "blend", "screen")


def learned(metrics: dict[str, Any]) -> bool:
    """Say whether every branch is at most half as wrong as what knows nothing."""
    return all(
        errors["energy_mae_mev_per_atom"] <= errors["energy_baseline_mev_per_atom"] / 2
        and errors["force_mae_mev_per_angstrom"] <= errors["force_baseline_mev_per_angstrom"] / 2
        for errors in metrics.values()
    )


def untrained(receipt: Receipt, folder: RunDir, splits: dict[str, Any], work: Path) -> dict[str, Any]:
    """Return the test errors of the same architecture with random weights, by the same command."""
    data = read_receipt(folder.stage_receipt("data"))
    assert data is not None
    branches = {name: {"store": folder.root / data.result["branches"][name]["store"]} for name in receipt.result["metrics"]}
    fields = {"checkpoint": folder.root / receipt.result["checkpoint"], "branches": branches, "splits": splits, "untrained": True}
    work.mkdir()
    dump(EvaluateConfig.model_validate(fields), work / "config.yaml")
    subprocess.run([sys.executable, "-m", "model", "evaluate", "config.yaml"], cwd=work, check=True, timeout=300)
    outcome = read_outcome(work)
    assert outcome is not None
    return outcome.result["metrics"]


@pytest.mark.xdist_group("quickstart")
@pytest.mark.timeout(1500)
def test_the_quickstart_from_empty_data_to_a_ranking(campaign: Command) -> None:
    make = [sys.executable, "-m", "model.data.quickstart", "quickstart-data"]
    subprocess.run(make, cwd=campaign.folder, env=campaign.environment, check=True, timeout=600)
    file = campaign.folder / "quickstart.yaml"
    text = (ROOT / "campaigns" / "quickstart.yaml").read_text().replace('"../', '"')
    file.write_text(text)
    done = campaign("run", file, timeout=1400)
    folder = RunDir(campaign.folder / "runs" / "quickstart")

    receipts = {key: read_receipt(folder.stage_receipt(key)) for key in STAGES}
    for key, receipt in receipts.items():
        assert receipt is not None, key
        assert receipt.status == "done", (key, receipt.message)
        verify(folder.root, receipt.outputs)

    trials = [trial for key in ("painn", "egnn") for trial in receipts[key].result["trials"]]
    assert len(trials) >= 6
    assert {"oom", "diverged"} <= {trial["cause"] for trial in trials if trial["status"] == "failed"}
    assert [t for t in trials if t["status"] == "done" and t["interrupted"] and len(t["tasks"]) > 1], (
        "one is interrupted and resumed"
    )
    assert receipts["train/1"].link >= 2, "a chain of jobs"

    test = receipts["train/1"].result["test"]["metrics"]
    assert test.keys() == {"gfn1", "gfn2", "emt"}
    assert learned(test), test
    splits = yaml.safe_load(text)["splits"]
    assert not learned(untrained(receipts["train/1"], folder, splits, campaign.folder / "untrained"))

    assert receipts["screen"].result["flagged"] == 4
    assert len(receipts["screen"].result["top"]) == 20
    assert "Errors of train/1 on test" in done.stdout
    assert str(folder.report) in done.stdout

    report = folder.report.read_text()
    drawn = ("Predictions beside labels: train/1 on the test split", "Predictions beside labels: finetune on task")
    for piece in (*drawn, "Best 25 candidates of screen", "Objective against cost", "minutes since the search began", "copies"):
        assert piece in report, piece
    campaign("report", file, "--ro-crate")
    manifests = sorted((folder.root / "ro-crate" / "manifests").glob("*.sha256"))
    assert len(manifests) == 7
    for manifest in manifests:
        subprocess.run(["sha256sum", "--quiet", "--check", manifest], cwd=folder.root, check=True, timeout=60)
