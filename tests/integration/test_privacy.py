"""A whole small campaign under a careless umask, with a secret in the environment: what others may read, reach or find."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml
from login import Command

pytestmark = pytest.mark.timeout(600)
SECRET, LOOPBACK = "sentinel-c4f1b0d2", "0100007F"
FRAME = 'Lattice="9 0 0 0 9 0 0 0 9" Properties=species:S:1:pos:R:3:forces:R:3 energy=-1.{n} pbc="F F F" molecule=m{n}'
STAGES = {
    "data": {"kind": "convert", "nodes": 1, "walltime": "00:05"},
    "train": {
        "kind": "train",
        "needs": ["data"],
        "nodes": 2,
        "walltime": "00:10",
        "backbone": {"name": "painn", "hidden": 8, "layers": 1, "radial": 4},
        "model": {"cutoff": 4.0, "head_hidden": 8},
        "epochs": 2,
        "training": {"batch": 8},
    },
}


@dataclass
class Run:
    """What became of the campaign.

    Attributes:
        folder: Its folder.
        listening: Addresses at which its processes listened, by the program of the process.
    """

    folder: Path
    listening: dict[str, set[str]] = field(default_factory=dict)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Run the campaign, and look at every process of it as long as it runs."""
    home = tmp_path_factory.mktemp("privacy")
    made = Command(home, _environment(home))
    frames = [f"2\n{FRAME.format(n=n)}\nH 0 0 0 0 0 0.1\nH 0 0 0.7{n} 0 0 -0.1\n" for n in range(40)]
    (home / "a.xyz").write_text("".join(frames))
    branches = {"a": {"reader": "extxyz", "path": "a.xyz", "options": {"identity": "molecule"}}}
    splits = {"seed": 1, "validation": 0.2, "test": 0.2}
    (home / "private.yaml").write_text(
        yaml.safe_dump({"name": "private", "branches": branches, "splits": splits, "stages": STAGES})
    )
    run = Run(home / "runs" / "private")
    command = [sys.executable, "-m", "workflow", "run", "private.yaml", "--plain"]
    with open(home / "driver.log", "w") as log:
        driver = subprocess.Popen(command, cwd=home, env=made.environment, stdout=log, stderr=log, umask=0)
        while driver.poll() is None:
            _look(run)
            time.sleep(0.02)
    assert driver.returncode == 0, (home / "driver.log").read_text()
    made("report", "private.yaml", "--ro-crate", "--into", home / "crate")
    yield run


def _environment(home: Path) -> dict[str, str]:
    sites = home / "sites"
    sites.mkdir()
    fields = yaml.safe_load((Path(__file__).parents[2] / "sites" / "local.yaml").read_text())
    fields["scheduler"] |= {"options": {"spool": str(home / "spool")}, "poll_s": 0.2}
    fields["node"] |= {"local": str(home / "node-local" / "{job}" / "{node}")}
    (sites / "local.yaml").write_text(yaml.safe_dump(fields))
    own = {"CAMPAIGN_SITES": str(sites), "XDG_CONFIG_HOME": str(home / "config"), "OMP_NUM_THREADS": "1"}
    return {**os.environ, **own, "PYTHONPATH": str(Path(__file__).parents[2]), "MY_API_TOKEN": SECRET}


def _look(run: Run) -> None:
    """Note at which addresses the processes of this campaign listen; they are known by the secret they inherit."""
    sockets = _listening()
    for process in Path("/proc").iterdir():
        try:
            if process.name.isdigit() and SECRET.encode() in (process / "environ").read_bytes():
                addresses = run.listening.setdefault(_program((process / "cmdline").read_text().split("\0")), set())
                addresses.update(sockets[each] for each in _open_sockets(process) if each in sockets)
        except OSError:
            continue  # it ended meanwhile


def _program(words: list[str]) -> str:
    """Return the module, script or program that a process runs; a guard's words name also what it guards."""
    name, *others = words
    if not Path(name).name.startswith("python"):
        return Path(name).name
    if others[0] == "-m":
        return others[others[1:].index("-m") + 2] if others[1] == "mpi4py" else others[1]
    return Path(next((word for word in others if not word.startswith("-")), name)).name


def _listening() -> dict[str, str]:
    """Return the address and port, as /proc writes them, of every socket of this machine that listens, by inode."""
    rows = [line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]]
    return {row[9]: row[1] for row in rows if row[3] == "0A"}


def _open_sockets(process: Path) -> list[str]:
    links = [each.readlink().name for each in (process / "fd").iterdir()]
    return [link[8:-1] for link in links if link.startswith("socket:[")]


def _others_may(path: Path) -> str:
    return stat.filemode(path.lstat().st_mode)[4:]


def test_nobody_else_may_read_or_write_anything_of_it(done: Run) -> None:
    assert stat.S_IMODE(done.folder.stat().st_mode) == 0o700
    # A report is made to be handed on: it obeys the umask, and here its folder hides it.
    inside = [path for path in done.folder.rglob("*") if not path.is_symlink() and path != done.folder / "report.html"]
    assert len(inside) > 40
    assert {str(path): _others_may(path) for path in inside if _others_may(path) != "------"} == {}
    assert {stat.S_IMODE(path.stat().st_mode) for path in (done.folder / "journal").iterdir()} == {0o600}


def test_a_secret_of_the_environment_stands_in_no_file(done: Run) -> None:
    home = done.folder.parents[1]
    files = [path for path in home.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} >= {".jsonl", ".json", ".sh", ".html", ".log"} and len(files) > 60
    assert [str(path) for path in files if SECRET.encode() in path.read_bytes()] == []
    assert (home / "crate" / "ro-crate-metadata.json").is_file()


def test_no_process_of_ours_listens_and_the_ranks_do_on_the_loopback_only(done: Run) -> None:
    own = ("workflow", "workflow.allocation.agent", "workflow.batch.supervisor", "guard.py")
    assert {name: done.listening[name] for name in own} == {name: set() for name in own}
    launchers = done.listening["mpiexec"] | done.listening["hydra_pmi_proxy"]  # listens for its ranks, which inherit the socket
    assert {each.split(":")[0] for each in done.listening["model"] - launchers} == {LOOPBACK}
    assert {name for name, found in done.listening.items() if found - launchers} <= {"model"}
