"""The main job on a real Slurm: the quickstart as it stands, submitted to Frontier instead of this machine."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from login import ROOT, Login

from model.outcome import Cause, read_outcome
from workflow.receipt import read_receipt, verify
from workflow.rundir import RunDir

pytestmark = [pytest.mark.xdist_group("slurm"), pytest.mark.slow, pytest.mark.timeout(3900)]
STAGES = ("data", "painn", "egnn", "best", "train/1", "lead", "finetune", "blend", "screen")


@pytest.mark.parametrize("frontier", [{"node": {"devices": 1, "cores": 1}}], indirect=True)
def test_the_quickstart_from_empty_data_to_a_ranking_on_slurm(frontier: Login, tmp_path: Path) -> None:
    make = [sys.executable, "-m", "model.data.quickstart", "quickstart-data"]
    subprocess.run(make, cwd=tmp_path, env=frontier.environment, check=True, timeout=900)
    file = tmp_path / "quickstart.yaml"
    text = (ROOT / "campaigns" / "quickstart.yaml").read_text().replace('"../', '"')
    for seconds, minutes in {"00:00:45": "00:04:00", "00:01:10": "00:06:00", "00:02:00": "00:06:00"}.items():  # whole minutes
        assert seconds in text
        text = text.replace(seconds, minutes)
    file.write_text(text)
    frontier("run", file, "--site", "frontier", "--plain", timeout=3000)

    folder = RunDir(tmp_path / "runs" / "quickstart")
    receipts = {key: read_receipt(folder.stage_receipt(key)) for key in STAGES}
    for key, receipt in receipts.items():
        assert receipt is not None, key
        assert receipt.status == "done", (key, receipt.message)
        verify(folder.root, receipt.outputs)
    search, training = receipts["painn"], receipts["train/1"]
    assert search is not None and training is not None
    assert {Cause.OOM, Cause.DIVERGED} <= {trial["cause"] for trial in search.result["trials"] if trial["status"] == "failed"}
    outcome = read_outcome(folder.attempt("train/1", training.link, training.attempt).tasks / "train")
    assert outcome is not None
    assert (outcome.world_size, len(set(outcome.hosts))) == (2, 2)
