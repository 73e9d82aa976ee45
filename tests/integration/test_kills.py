"""Kill -9 in the middle of a training: what comes out equals the uninterrupted run's bit for bit, and little is done twice."""

from __future__ import annotations

import json
import random
import signal
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from login import wait

from tests.conftest import Command
from tests.integration.test_real_records import TRAINING, real_campaign
from workflow.receipt import Receipt, read_receipt
from workflow.rundir import AttemptDir, RunDir

EPOCHS = 4
MOMENTS = ("first", "write", "late")
CLOCKS = {"elapsed_s", "seconds_to_best", "t", "structures_per_s", "seconds"}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Keep the uninterrupted run's end, filled in by the first test that needs it."""
    return {}


def write_file(campaign: Command, samples: Path) -> Path:
    fields = real_campaign(samples, training=TRAINING)
    fields["sources"] = {}
    fields["stages"] = {
        "data": fields["stages"]["data"],
        "train": {
            "kind": "train",
            "needs": ["data"],
            "nodes": 2,
            "walltime": "00:10:00",
            "epochs": EPOCHS,
            "backbone": {"name": "painn", "hidden": 32, "layers": 2},
            "training": {**TRAINING, "layout": "branch"},
        },
    }
    file = campaign.folder / "records.yaml"
    file.write_text(yaml.safe_dump(fields, sort_keys=False))
    return file


def folder_of(campaign: Command) -> RunDir:
    return RunDir(campaign.folder / "runs" / "records")


def steps(folder: RunDir) -> list[tuple[int, int]]:
    """Return (process, step) of every executed step, over all attempts."""
    lines = [line.split() for log in sorted(folder.stage("train").rglob("steps.log")) for line in log.read_text().splitlines()]
    return [(int(pid), int(step)) for pid, step in lines]


def end_of(folder: RunDir) -> tuple[Receipt, dict[str, Any]]:
    """Return the training's receipt and its last checkpoint without clocks: digests of tensors, position, history."""
    receipt = read_receipt(folder.stage_receipt("train"))
    assert receipt is not None
    assert receipt.status == "done", receipt.message
    last = folder.root / Path(receipt.result["checkpoint"]).parent / "last" / "meta.json"
    meta = json.loads(last.read_text())
    for key in ("resume", "owner", "stop", "branches"):
        meta["config"].pop(key, None)
    return receipt, without_clocks(meta)


def without_clocks(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_clocks(each) for key, each in value.items() if key not in CLOCKS}
    return [without_clocks(each) for each in value] if isinstance(value, list) else value


def uninterrupted(campaign: Command, samples: Path, plain: dict[str, Any]) -> dict[str, Any]:
    if not plain:
        campaign("run", write_file(campaign, samples), timeout=600)
        folder = folder_of(campaign)
        plain["end"] = end_of(folder)[1]
        plain["steps"] = len(steps(folder))
        (campaign.folder / "runs").rename(campaign.folder / "runs-plain")
    return plain


def come_to(name: str, folder: RunDir, total: int) -> None:
    """Wait until it is time to kill: at a seeded step of the first or of a late epoch, or while a checkpoint is being written."""
    if name == "write":
        being_written = "*/*/run/tasks/*/checkpoints/*/.*"  # for milliseconds
        wait(lambda: any(folder.stage("train").glob(being_written)), 300, every=0.002)
    else:
        start = 0 if name == "first" else total // 2
        step = start + random.Random(name).randint(2, total // EPOCHS - 1)
        wait(lambda: len(steps(folder)) >= step, 300, every=0.02)


def agent_of(attempt: AttemptDir) -> psutil.Process:
    return psutil.Process(json.loads(attempt.start.read_text())["pid"])


def inventory(root: Path) -> dict[str, tuple[int, int]]:
    return {str(p): (p.stat().st_size, p.stat().st_mtime_ns) for p in root.rglob("*") if p.is_file()}


@pytest.mark.xdist_group("kills")
@pytest.mark.parametrize("when", MOMENTS)
def test_a_killed_driver_loses_nothing(when: str, campaign: Command, samples: Path, plain: dict[str, Any]) -> None:
    expected = uninterrupted(campaign, samples, plain)
    file, folder = write_file(campaign, samples), folder_of(campaign)
    driver = campaign.start("run", file)
    come_to(when, folder, expected["steps"])
    driver.kill()
    driver.wait()
    campaign("run", file, timeout=600)
    receipt, end = end_of(folder)
    assert end == expected["end"]
    assert receipt.attempt == 1, "the running job is adopted"
    print(f"driver killed, {when}: {len(steps(folder))} steps executed, {expected['steps']} uninterrupted")
    assert len(steps(folder)) == expected["steps"]


@pytest.mark.xdist_group("kills")
@pytest.mark.parametrize("when", MOMENTS)
def test_a_killed_agent_costs_one_checkpoint_interval_at_most(
    when: str, campaign: Command, samples: Path, plain: dict[str, Any]
) -> None:
    expected = uninterrupted(campaign, samples, plain)
    file, folder = write_file(campaign, samples), folder_of(campaign)
    driver = campaign.start("run", file)
    come_to(when, folder, expected["steps"])
    agent_of(folder.attempt("train", 1, 1)).kill()
    assert driver.wait(600) == 0
    receipt, end = end_of(folder)
    assert end == expected["end"]
    assert receipt.attempt == 2
    extra = len(steps(folder)) - expected["steps"]
    print(f"agent killed, {when}: {len(steps(folder))} steps executed, {expected['steps']} uninterrupted")
    assert 0 <= extra <= expected["steps"] // EPOCHS, "checkpoints stand at the ends of epochs"


@pytest.mark.xdist_group("kills")
def test_a_rank_that_ignores_term_writes_nothing_after_the_takeover(
    campaign: Command, samples: Path, plain: dict[str, Any]
) -> None:
    expected = uninterrupted(campaign, samples, plain)
    file, folder = write_file(campaign, samples), folder_of(campaign)
    driver = campaign.start("run", file)
    come_to("first", folder, expected["steps"])
    old = folder.attempt("train", 1, 1)
    agent = agent_of(old)
    ranks = [p for p in agent.children(recursive=True) if "model" in p.cmdline() and "train" in p.cmdline()]
    assert ranks
    ranks[-1].send_signal(signal.SIGSTOP)  # deaf to TERM, as a rank that hangs in a driver call is
    agent.kill()
    wait(folder.attempt("train", 1, 2).start.exists, 300, every=0.02)
    before = inventory(old.root)
    for rank in ranks:
        if rank.is_running():
            rank.send_signal(signal.SIGCONT)
    assert driver.wait(600) == 0
    assert inventory(old.root) == before
    assert end_of(folder)[1] == expected["end"]
