"""Files on their way to the nodes of a real Slurm: by broadcast, each node's own copy checked, parts of files found."""

from __future__ import annotations

import getpass
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from slurm.cluster import Cluster
from slurm.world import ended, home_of, job

from workflow.batch import scheduler
from workflow.site import load_site

pytestmark = [pytest.mark.xdist_group("slurm"), pytest.mark.timeout(240)]
ROOT = Path(__file__).parents[2]
LARGE, SMALL = os.urandom(3_000_000), os.urandom(1000)


def staged(slurm: Cluster, folder: Path, monkeypatch: pytest.MonkeyPatch, path: str = "") -> tuple[dict[str, Any], list[Path]]:
    """Run a job on three nodes that brings two files to them; give what it told, and the files' folder on each node."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home_of(folder, node={"broadcast_mb": 1.0})))
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{ROOT / 'tests'}")
    site, campaign = load_site("frontier"), folder / "campaign"
    campaign.mkdir()
    (campaign / "large.bin").write_bytes(LARGE)
    (campaign / "small.bin").write_bytes(SMALL)
    text = f"export PATH={path}$PATH\nexec {sys.executable} -m slurm.stage_in {campaign}"
    batch, spec = scheduler.for_site(site), job(site, folder / "job", text, nodes=3, queue="bin4")
    done = ended(batch, batch.submit(spec), 120)
    assert done.exit == 0, spec.log.read_text()
    told = json.loads((campaign / "told.json").read_text())
    here = Path(told["folder"]).relative_to(f"/mnt/bb/{getpass.getuser()}") if "folder" in told else Path()
    return told, [slurm.node_local(node) / here for node in told["names"]]


def require_right_everywhere(folders: list[Path]) -> None:
    assert len(folders) == 3
    for folder in folders:
        assert (folder / "large.bin").read_bytes() == LARGE
        assert (folder / "small.bin").read_bytes() == SMALL
    assert len({(folder / "large.bin").stat().st_ino for folder in folders}) == 3, "a file of its own on each node"


def test_large_files_are_broadcast_and_checked_on_every_node(
    slurm: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told, folders = staged(slurm, tmp_path, monkeypatch)
    require_right_everywhere(folders)
    assert (told["broadcast_files"], told["skipped_files"], told["done_files"]) == (1, 3, 6), told


def test_parts_that_a_broken_broadcast_leaves_are_found_and_replaced(
    slurm: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = shutil.which("sbcast", path=slurm.environment["PATH"])
    (tmp_path / "bin").mkdir()
    shim = tmp_path / "bin" / "sbcast"
    shim.write_text(f'#!/bin/sh\nhead -c 1000000 "$3" > "$3.half"\n{program} --force "$3.half" "$4"\nexit 1\n')
    shim.chmod(0o700)
    told, folders = staged(slurm, tmp_path, monkeypatch, f"{tmp_path / 'bin'}:")
    require_right_everywhere(folders)
    assert (told["broadcast_files"], told["skipped_files"]) == (0, 0), told
    assert (tmp_path / "campaign" / "large.bin.half").exists(), "the broken broadcast took place"


def test_a_node_without_room_is_named(slurm: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inside = slurm.inside("n2")
    space = ["nsenter", "--mount", "--pid", f"--target={inside}"]
    subprocess.run([*space, "mount", "-t", "tmpfs", "-o", "size=1m", "none", "/mnt/bb"], check=True, timeout=20)
    try:
        told, _ = staged(slurm, tmp_path, monkeypatch)
    finally:
        subprocess.run([*space, "umount", "--lazy", "/mnt/bb"], check=True, timeout=20)
    assert "n2" in told["names"]
    assert "n2" in told["fault"] and "No space left" in told["fault"], told
    assert told["cause"] == "storage"
