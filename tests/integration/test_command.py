"""The command on a real campaign: plain lines, an interruption, status, cancel, resume, logs, report."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import pytest
from login import Command

from workflow.batch.scheduler import JobSpec, for_site
from workflow.site import load_site

FRAME = 'Lattice="9 0 0 0 9 0 0 0 9" Properties=species:S:1:pos:R:3:forces:R:3 energy=-1.{n} pbc="F F F" molecule=m{n}'
TEXT = """\
name: lines
branches: {a: {reader: extxyz, path: a.xyz, options: {identity: molecule}}}
stages:
  data: {kind: convert, nodes: 1, walltime: 00:05}
"""


@pytest.fixture
def file(campaign: Command) -> Path:
    # So many that their conversion outlasts the start of a second command on a busy machine.
    frames = [f"2\n{FRAME.format(n=n)}\nH 0 0 0 0 0 0.1\nH 0 0 0.7{n:05} 0 0 -0.1\n" for n in range(12_000)]
    (campaign.folder / "a.xyz").write_text("".join(frames))
    path = campaign.folder / "lines.yaml"
    path.write_text(TEXT)
    return path


def test_an_interruption_leaves_jobs_running_and_a_second_run_continues(campaign: Command, file: Path) -> None:
    driver = campaign.start("run", file, "--plain")
    folder, log = campaign.folder / "runs" / "lines", campaign.folder / "driver.log"
    while "data: queued as job" not in log.read_text():
        time.sleep(0.05)
    second = campaign("run", file, "--plain", check=False)
    assert second.returncode == 2
    assert "runs this campaign" in second.stderr
    driver.send_signal(signal.SIGINT)
    assert driver.wait(60) == 4
    text = log.read_text()
    for line in ("campaign lines begins", "data: asking for 1 node for 00:05:00", f"come back with: campaign run {file}"):
        assert line in text
    assert f"campaign cancel -c {file}" in text

    out = campaign("run", file, "--plain").stdout
    assert "stage data: done" in out
    assert "asking for" not in out
    assert "lines on local: done" in out
    assert f"report: {folder / 'report.html'}" in out.replace("\n", "")
    assert "Data sets (data)" in (folder / "report.html").read_text()
    assert "--- tasks (--task NAME): convert-a" in campaign("logs", "data").stdout
    assert json.loads(campaign("status", "--json").stdout)["state"] == "done"


def test_a_cancelled_campaign_is_resumed(campaign: Command, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CAMPAIGN_SITES", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, campaign.environment[name])
    batch, blocker = for_site(load_site("local")), campaign.folder / "blocker.sh"
    blocker.write_text("#!/bin/sh\nexec sleep 300\n")
    spec = JobSpec("blocker", campaign.folder, blocker, campaign.folder / "blocker.log", 2, 300)
    job_id = batch.submit(spec)  # else the few structures are converted before they can be cancelled
    assert campaign("run", file, "--once", "--plain", check=False).returncode == 4
    assert campaign("cancel", "data", "--yes").stdout == "data: cancelled\n"
    batch.cancel(job_id, "blocker")
    assert campaign("run", file, "--plain", check=False).returncode == 1
    out = campaign("resume", file, "--plain").stdout
    assert "stage data: tried again" in out
    assert "stage data: done" in out
