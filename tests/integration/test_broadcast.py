"""Large files sent to all nodes over MPI, by real ranks: right everywhere, or each node helps itself; never a hang."""

from __future__ import annotations

import hashlib
import logging
import os
import signal
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from model.outcome import Cause, read_json
from workflow.allocation import staging as staging_module
from workflow.allocation.broadcast import CHUNK, SENT, SentFile
from workflow.allocation.deadline import Deadline
from workflow.allocation.guard import descendants
from workflow.allocation.launch import LAUNCHERS, Launcher, Setting
from workflow.allocation.staging import StageInError, Staging
from workflow.receipt import Output, vouch
from workflow.site import load_site

pytestmark = pytest.mark.timeout(240)
Pipe = Callable[[Path, bytes], None]
NODES = ("n1", "n2", "n3")
LARGE, SMALL = os.urandom(2 * CHUNK + 12345), os.urandom(1000)
NO_MPI = """#!/bin/sh
# A launcher that starts processes which know nothing of one another, as one of another MPI than mpi4py's does.
hosts=$1; shift
for node in $(cat "$hosts"); do LOCAL_NODE=$node "$@" & pids="$pids $!"; done
for pid in $pids; do wait "$pid" || failed=1; done
exit ${failed:-0}
"""


@dataclass
class World:
    """A campaign with two outputs, and its nodes' folders."""

    folder: Path
    launcher: Launcher = LAUNCHERS["mpiexec"]

    def __post_init__(self) -> None:
        self.campaign, self.local = self.folder / "campaign", self.folder / "local"
        (self.campaign / "data").mkdir(parents=True)
        self.large, self.small = self.campaign / "data" / "large.bin", self.campaign / "data" / "small.bin"
        self.large.write_bytes(LARGE)
        self.small.write_bytes(SMALL)
        self.outputs = vouch(self.campaign, "x", self.campaign / "data")
        self.deadline = Deadline(time.time() + 200, 10, 5)
        self.environment = dict(os.environ)

    def staging(self) -> Staging:
        node = load_site("local").node.model_copy(update={"broadcast_mb": 1.0})
        setting = Setting(self.launcher, (), node, self.environment)
        return Staging(setting, self.campaign, str(self.local / "{node}"), self.campaign / "staging", self.deadline)

    def copy(self, node: str, name: str = "large.bin") -> Path:
        return self.local / node / "data" / name

    def require_right(self, *nodes: str) -> None:
        for node in nodes:
            assert self.copy(node).read_bytes() == LARGE
        assert len({self.copy(node).stat().st_ino for node in nodes}) == len(nodes), "a file of its own on each node"

    def faults(self) -> dict[str, str]:
        """Return what the ranks told, by node."""
        paths = self.campaign.glob("staging/broadcast-*/fault.*.json")
        return {path.name[6:-5]: read_json(path)["fault"] for path in paths}


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def _until(condition: Callable[[], object]) -> None:
    give_up = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < give_up, "it did not come about"
        time.sleep(0.02)


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    """Give what makes a pipe of a source and writes data to it, but no end: who reads it waits for more."""
    ends: list[int] = []

    def make(source: Path, data: bytes) -> None:
        source.unlink()
        os.mkfifo(source)
        ends.append(os.open(source, os.O_RDWR))
        threading.Thread(target=write, args=(ends[-1], memoryview(data)), daemon=True).start()

    def write(end: int, left: memoryview) -> None:
        while left:
            left = left[os.write(end, left) :]

    yield make
    for end in ends:
        os.close(end)


def test_all_nodes_get_large_files_and_copy_small_ones(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    staging = world.staging()
    assert staging.stage(NODES, world.outputs) == world.local / "{node}"
    world.require_right(*NODES)
    assert {world.copy(node, "small.bin").read_bytes() for node in NODES} == {SMALL}
    told = staging.progress()
    assert (told["broadcast_files"], told["done_files"], told["skipped_files"]) == (1, 6, 3), told
    assert world.faults() == {}
    before = [world.copy(node).stat().st_ino for node in NODES]
    world.large.unlink()
    staging.stage(NODES, world.outputs)  # what stands there and is right is not even read
    assert [world.copy(node).stat().st_ino for node in NODES] == before
    told = staging.progress()
    assert told["skipped_files"] == 6
    monkeypatch.setattr(staging_module, "_reading", lambda path: pytest.fail(f"{path} is read after the end"))
    assert staging.progress() == told


def test_the_file_is_read_once_for_all_nodes(world: World) -> None:
    world.large.unlink()
    os.mkfifo(world.large)  # it can be read once only
    writer = threading.Thread(target=lambda: world.large.write_bytes(LARGE), daemon=True)
    writer.start()
    world.staging().stage(NODES, world.outputs)
    writer.join(20)
    world.require_right(*NODES)


def test_a_node_that_cannot_write_what_comes_copies_for_itself(world: World, caplog: pytest.LogCaptureFixture) -> None:
    part = world.copy("n2").with_name(".large.bin.part")
    part.parent.mkdir(parents=True)
    part.symlink_to("/dev/full")
    staging = world.staging()
    with caplog.at_level(logging.WARNING):
        staging.stage(NODES, world.outputs)
    world.require_right(*NODES)
    told = staging.progress()
    assert (told["broadcast_files"], told["skipped_files"]) == (0, 2), "two nodes had it by the broadcast"
    assert list(world.faults()) == ["n2"] and "No space left" in world.faults()["n2"]
    assert "n2: [Errno 28] No space left" in caplog.text and "1 of 1 broadcasts failed" in caplog.text


def test_a_node_that_can_have_no_files_is_named_and_the_others_have_theirs(world: World) -> None:
    world.local.mkdir()
    (world.local / "n2").write_text("in the way")
    with pytest.raises(StageInError, match=r"n2: .*File exists: '.*local/n2'") as caught:
        world.staging().stage(NODES, world.outputs)
    assert caught.value.cause is Cause.STORAGE
    world.require_right("n1", "n3")


def test_the_first_node_goes_on_reading_for_the_others_when_it_cannot_write(world: World) -> None:
    world.local.mkdir()
    (world.local / "n1").write_text("in the way")
    with pytest.raises(StageInError, match="n1"):
        world.staging().stage(NODES, world.outputs)
    world.require_right("n2", "n3")
    assert list(world.faults()) == ["n1"]


def test_a_deadline_in_the_middle_leaves_no_file_that_counts(world: World, pipe: Pipe) -> None:
    pipe(world.large, LARGE[: CHUNK + CHUNK // 2])
    parts = [world.copy(node).with_name(".large.bin.part") for node in NODES]
    mine = set(descendants(os.getpid()))

    def advance() -> None:
        _until(lambda: all(part.exists() and part.stat().st_size for part in parts))
        world.deadline.advance("cancelled")

    threading.Thread(target=advance, daemon=True).start()
    with pytest.raises(StageInError, match="the allocation stops") as caught:
        world.staging().stage(NODES, world.outputs)
    assert caught.value.cause is Cause.PREEMPTED
    assert all(part.exists() for part in parts), "it was in the middle"
    assert not [node for node in NODES if world.copy(node).exists()]
    assert set(descendants(os.getpid())) <= mine, "no rank outlives the call"


def test_it_tells_how_far_it_is_while_it_sends(world: World, pipe: Pipe) -> None:
    second = world.campaign / "data" / "second.bin"
    second.write_bytes(LARGE)
    outputs = vouch(world.campaign, "x", world.campaign / "data")
    assert [Path(each.path).name for each in outputs] == ["large.bin", "second.bin", "small.bin"]
    pipe(second, LARGE[:CHUNK])
    staging, seen = world.staging(), []

    def look() -> None:
        _until(lambda: staging.progress().get("done_files"))
        seen.append(staging.progress())
        world.deadline.advance("cancelled")

    threading.Thread(target=look, daemon=True).start()
    with pytest.raises(StageInError, match="the allocation stops"):
        staging.stage(NODES, outputs)
    (told,) = seen
    expected = {"files": 3, "nodes": 3, "done_files": 3, "done_bytes": 3 * len(LARGE), "is_broadcast": True}
    assert expected.items() <= told.items(), told


def test_a_rank_that_is_killed_in_the_middle_ends_the_broadcast_and_the_nodes_copy(
    world: World, pipe: Pipe, caplog: pytest.LogCaptureFixture
) -> None:
    pipe(world.large, LARGE[: CHUNK + CHUNK // 2])
    parts = [world.copy(node).with_name(".large.bin.part") for node in NODES]

    def kill() -> None:
        _until(lambda: all(part.exists() and part.stat().st_size for part in parts))
        whole = world.folder / "whole"
        whole.write_bytes(LARGE)
        whole.replace(world.large)
        os.kill(_rank_on("n2"), signal.SIGKILL)

    threading.Thread(target=kill, daemon=True).start()
    staging = world.staging()
    with caplog.at_level(logging.WARNING):
        staging.stage(NODES, world.outputs)
    world.require_right(*NODES)
    told = staging.progress()
    assert (told["broadcast_files"], told["skipped_files"]) == (0, 0), told
    assert "did not end well" in caplog.text
    assert not [part for part in parts if part.exists()]


def _rank_on(node: str) -> int:
    for pid in descendants(os.getpid()):
        folder = Path("/proc") / str(pid)
        words = (folder / "environ").read_bytes().split(b"\0"), (folder / "cmdline").read_bytes().split(b"\0")
        if f"LOCAL_NODE={node}".encode() in words[0] and words[1][1:3] == [b"-m", b"mpi4py"]:
            return pid
    raise AssertionError(f"no rank on {node}")


@pytest.mark.parametrize("damage", [None, b"x" * len(LARGE), LARGE[:-1], LARGE + b"x"], ids=["gone", "other", "cut", "longer"])
def test_a_source_that_is_lost_is_told_as_lost(world: World, damage: bytes | None) -> None:
    world.large.unlink() if damage is None else world.large.write_bytes(damage)
    with pytest.raises(StageInError, match="is gone" if damage is None else "differs from its receipt") as caught:
        world.staging().stage(NODES, world.outputs)
    assert caught.value.cause is Cause.BAD_CONFIG
    assert not list(world.local.rglob("*large.bin*"))
    assert ("No such file" if damage is None else "differs from its receipt") in world.faults()["n1"]


def test_without_mpi4py_the_nodes_copy_and_the_log_says_so(
    world: World, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    with caplog.at_level(logging.WARNING):
        world.staging().stage(NODES, world.outputs)
    world.require_right(*NODES)
    assert "mpi4py is not installed" in caplog.text
    assert not list(world.campaign.glob("staging/broadcast-*"))


def test_an_mpi4py_that_cannot_be_loaded_on_the_nodes_does_no_harm(world: World, caplog: pytest.LogCaptureFixture) -> None:
    broken = world.folder / "packages" / "mpi4py"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text("raise ImportError('libmpi.so.12: cannot open shared object file')")
    world.environment["PYTHONPATH"] = f"{broken.parent}{os.pathsep}{world.environment.get('PYTHONPATH', '')}"
    with caplog.at_level(logging.WARNING):
        world.staging().stage(NODES, world.outputs)
    world.require_right(*NODES)
    assert "did not end well" in caplog.text
    assert "libmpi.so.12" in next(world.campaign.glob("staging/broadcast-*/stderr.log")).read_text()


def test_ranks_of_another_mpi_than_the_launchers_are_told(
    world: World, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = world.folder / "launch-without-mpi"
    program.write_text(NO_MPI)
    program.chmod(0o700)
    monkeypatch.setenv("PATH", f"{world.folder}:{os.environ['PATH']}")
    world.launcher = Launcher(program.name, ("{hosts}",), node_variable="LOCAL_NODE")
    with caplog.at_level(logging.WARNING):
        world.staging().stage(NODES, world.outputs)
    world.require_right(*NODES)
    assert set(world.faults()) == set(NODES)
    assert "1 ranks instead of 3: mpi4py was built for another MPI" in caplog.text


def test_a_packed_environment_is_sent_and_unpacked_once_on_nodes_of_one_machine(world: World) -> None:
    module = world.folder / "packed.py"
    module.write_bytes(os.urandom(2_000_000))
    archive = world.campaign / "env.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(module, "packed.py")
    data = archive.read_bytes()
    world.staging().unpack(NODES, Output("environment", str(archive), len(data), hashlib.sha256(data).hexdigest()))
    here = world.local / "all-nodes"
    assert (here / "env" / "packed.py").read_bytes() == module.read_bytes()
    assert [path.name for path in here.iterdir()] == ["env"], "the archive was taken, and no part of it is left"
    (sent,) = [read_json(path) for path in world.campaign.glob(f"staging/broadcast-*/{SENT}")]
    assert sent["files"] == 1 and world.faults() == {}


def test_auroras_launcher_starts_one_rank_a_node(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine of one node, with the options of HPE's launcher: it has no command to send files, nor variables of nodes."""
    aurora, told = load_site("aurora"), world.folder / "arguments"
    shim = world.folder / "pals-of-one-node"
    shim.write_text(f'#!/bin/sh\necho "$@" > {told}\nwhile [ "$1" != --no-vni ]; do shift; done\nshift\nexec "$@"\n')
    shim.chmod(0o700)
    monkeypatch.setenv("PATH", f"{world.folder}:{os.environ['PATH']}")
    launcher = replace(LAUNCHERS[aurora.launcher], program=shim.name)
    node = aurora.node.model_copy(update={"broadcast_mb": 1.0})
    setting = Setting(launcher, aurora.launcher_options, node, world.environment)
    staging = Staging(setting, world.campaign, str(world.local), world.campaign / "staging", world.deadline)
    staging._send((os.uname().nodename,), [SentFile(str(world.large), str(world.local / "large.bin"), world.outputs[0])])
    assert (world.local / "large.bin").read_bytes() == LARGE and staging._planned == {"broadcast_files": 1}
    words = told.read_text()
    assert "-n 1 -ppn 1 --envall --cpu-bind=list:4-7,8-11,12-15" in words
    assert "--no-vni" in words and "-m mpi4py -m workflow.allocation.broadcast" in words
