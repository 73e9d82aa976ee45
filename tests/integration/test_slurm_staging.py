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
import yaml
from login import Login, home_of
from slurm.cluster import Cluster
from slurm.world import OVERLAY, ended, job

from workflow import environment
from workflow.batch import scheduler
from workflow.environment import closure
from workflow.site import load_site

pytestmark = [pytest.mark.xdist_group("slurm"), pytest.mark.timeout(240)]
ROOT = Path(__file__).parents[2]
LARGE, SMALL = os.urandom(3_000_000), os.urandom(1000)


def staged(
    slurm: Cluster, folder: Path, monkeypatch: pytest.MonkeyPatch, path: str = "", archive: str = ""
) -> tuple[dict[str, Any], list[Path]]:
    """Run a job on three nodes that brings two files, or an archive, to them; give what it told, and the folder on each node."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home_of(OVERLAY, folder, node={"broadcast_mb": 1.0})))
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{ROOT / 'tests'}")
    site, campaign = load_site("frontier"), folder / "campaign"
    campaign.mkdir()
    (campaign / "large.bin").write_bytes(LARGE)
    (campaign / "small.bin").write_bytes(SMALL)
    text = f"export PATH={path}$PATH\nexec {sys.executable} -m slurm.stage_in {campaign} {archive}"
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


def broken_sbcast(slurm: Cluster, folder: Path) -> str:
    """Put a broadcast on PATH that leaves a third of a file on each node and says that it failed."""
    program = shutil.which("sbcast", path=slurm.environment["PATH"])
    (folder / "bin").mkdir()
    shim = folder / "bin" / "sbcast"
    size = '$(($(wc -c < "$3") / 3))'
    shim.write_text(f'#!/bin/sh\nhead -c {size} "$3" > "$3.half"\n{program} --force "$3.half" "$4"\nexit 1\n')
    shim.chmod(0o700)
    return f"{folder / 'bin'}:"


def test_parts_that_a_broken_broadcast_leaves_are_found_and_replaced(
    slurm: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told, folders = staged(slurm, tmp_path, monkeypatch, broken_sbcast(slurm, tmp_path))
    require_right_everywhere(folders)
    assert (told["broadcast_files"], told["skipped_files"]) == (0, 0), told
    assert (tmp_path / "campaign" / "large.bin.half").exists(), "the broken broadcast took place"


@pytest.mark.parametrize("is_broken", [False, True])
def test_an_environment_is_broadcast_checked_and_unpacked_on_every_node(
    slurm: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_broken: bool
) -> None:
    monkeypatch.setattr(environment, "closure", lambda _: closure("pydantic"))  # the whole takes half a minute
    archive = environment.build(tmp_path / "out", None)
    assert archive.size > 1_000_000, "large enough for a broadcast"
    path = broken_sbcast(slurm, tmp_path) if is_broken else ""
    told, folders = staged(slurm, tmp_path, monkeypatch, path, archive.path)
    assert told["broadcast_files"] == (not is_broken), told
    assert Path(f"{archive.path}.half").exists() == is_broken
    marks = [folder / "env" / ".sha256" for folder in folders]
    assert [mark.read_text() for mark in marks] == [archive.sha256] * 3
    assert len({mark.stat().st_ino for mark in marks}) == 3, "unpacked on each node"
    for folder in folders:
        assert (folder / "env" / "pydantic" / "__init__.py").is_file()
        assert not list(folder.glob("*env*.tar")), "neither the archive nor a part of it is left"


@pytest.mark.slow
@pytest.mark.parametrize("frontier", [{"node": {"local_gb": 1e-6}}], indirect=True)
def test_what_has_no_room_on_the_nodes_is_read_where_it_lies(frontier: Login) -> None:
    train = {"kind": "train", "needs": ["data"], "nodes": 1, "walltime": "00:10:00", "epochs": 1, "backbone": "egnn"}
    frontier("run", frontier.write({"train": train}), "--plain", timeout=220)
    folder = frontier.rundir
    for task in ("train", "test"):
        config = yaml.safe_load((folder.attempt("train", 1, 1).tasks / task / "config.yaml").read_text())
        stores = [Path(branch["store"]) for branch in config["branches"].values()]
        assert len(stores) == 2
        assert all(store.is_relative_to(folder.root) and store.exists() for store in stores), stores
    assert not folder.attempt("train", 1, 1).run.joinpath("staging").exists()


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
