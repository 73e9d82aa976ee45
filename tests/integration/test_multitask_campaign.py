"""The comparison that ships, carried out on the quickstart's data: a table with seeds, and an order where labels disagree."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.conftest import ROOT, Command
from workflow.receipt import read_receipt, verify
from workflow.rundir import RunDir


@pytest.mark.slow
@pytest.mark.timeout(5400)
def test_the_comparison_tells_errors_disagreement_and_order(campaign: Command) -> None:
    make = [sys.executable, "-m", "model.data.quickstart", "quickstart-data"]
    subprocess.run(make, cwd=campaign.folder, env=campaign.environment, check=True, timeout=600)
    file = campaign.folder / "multitask.yaml"
    file.write_text((ROOT / "campaigns" / "multitask.yaml").read_text().replace('"../', '"'))
    done = campaign("run", file, timeout=5300)
    folder = RunDir(campaign.folder / "runs" / "multitask")
    receipt = read_receipt(folder.stage_receipt("compare"))
    assert receipt is not None and receipt.status == "done", receipt
    verify(folder.root, receipt.outputs)
    found = receipt.result["comparison"]
    assert {(row["branch"], row["way"]) for row in found["errors"]} == {
        (branch, way) for branch in ("gfn1", "gfn2", "emt") for way in ("apart", "one_head", "two_level")
    }
    assert all(len(row["force"]["values"]) == 3 and row["force"]["ci95"] > 0 for row in found["errors"])
    pairs = {(row["labels"], row["head"]): row for row in found["disagreement"]}
    assert pairs["gfn1", "emt"]["force_above_own"] is None, "no element in common"
    assert pairs["gfn2", "gfn1"]["num_force_components"] > 0
    metals = [row for row in found["orders"] if row["branch"] == "emt"]
    assert all(row["better"] == [] and not row["labels_disagree"] for row in metals), "nothing to disagree with"
    for text in ("How far labels disagree after referencing", "Which order of the ways compare allows", "none is claimed"):
        assert text in done.stdout
    assert "Comparison" in folder.report.read_text()
