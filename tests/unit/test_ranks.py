"""Ranks, owner watch, faults and progress: what every model command stands on."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from model import faults, owner, parallel
from model.device import MemoryLimit
from model.faults import Diverged, OutOfDeviceMemory, PeerLost
from model.outcome import CampaignError, Cause
from model.owner import StopFlag
from model.parallel import Ranks
from model.progress import Progress
from model.specs import Owner
from workflow.allocation.heartbeat import replace_json

ROOT = Path(__file__).parents[2]
WATCHED = """
import sys, time
from pathlib import Path
from model import owner
from model.specs import Owner
folder = Path(sys.argv[1])
owner.watch(Owner(heartbeat=folder / "heartbeat.json", revoked=folder / "revoked", ttl_s=float(sys.argv[2])), folder)
(folder / "watching").touch()
time.sleep(30)
"""


def test_a_world_of_one_needs_no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_NODE", "n7")
    ranks = parallel.discover().on_nodes("MY_NODE")
    assert (ranks.rank, ranks.size, ranks.hosts) == (0, 1, ("n7",))
    assert (ranks.gather(5), ranks.bcast(5), ranks.allgather(5)) == ([5], 5, [5])


def test_ranks_know_their_place_on_their_node_and_their_share() -> None:
    hosts = ("a", "a", "b", "b", "a")
    assert [Ranks(r, 5, hosts, hosts).local_rank for r in range(5)] == [0, 1, 0, 1, 2]
    shares = [list(Ranks(r, 3).share_of(10)) for r in range(3)]
    assert sum(shares, []) == list(range(10))
    assert {len(share) for share in shares} == {3, 4}


def test_launched_ranks_without_mpi4py_are_refused_not_taken_for_several_worlds_of_one(monkeypatch, tmp_path: Path) -> None:
    code = "import sys; sys.modules['mpi4py'] = None; sys.argv[1:] = ['train', 'config.yaml']; import runpy; "
    code += "runpy.run_module('model', run_name='__main__')"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PMI_RANK": "1", "PMI_SIZE": "2"}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, check=False)
    outcome = json.loads((tmp_path / "outcome.json").read_text())
    assert (done.returncode, outcome["cause"]) == (1, "bad_config")
    assert outcome["message"].startswith("mpi4py: ranks cannot find each other")
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    monkeypatch.setenv("PMI_SIZE", "1")
    assert parallel.discover().size == 1


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (Diverged("x"), Cause.DIVERGED),
        (OutOfDeviceMemory("x"), Cause.OOM),
        (MemoryError(), Cause.OOM),
        (torch.OutOfMemoryError("x"), Cause.OOM),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory"), Cause.OOM),
        (CampaignError("x"), Cause.BAD_CONFIG),
        (PeerLost("x"), Cause.LAUNCHER),
        (OSError(errno.ENOSPC, "full"), Cause.STORAGE),
        (OSError(errno.EIO, "io"), Cause.STORAGE),
        (OSError(errno.ESHUTDOWN, "evicted"), Cause.STORAGE),
        (OSError(errno.EREMOTEIO, "evicted"), Cause.STORAGE),
        (OSError(errno.ENOTCONN, "evicted", "/lustre/a"), Cause.STORAGE),
        (OSError(errno.ETIMEDOUT, "evicted", "/lustre/a"), Cause.STORAGE),
        (OSError(errno.ENOTCONN, "a socket"), Cause.BUG),
        (OSError(errno.ETIMEDOUT, "a socket"), Cause.BUG),
        (TimeoutError("of no system call"), Cause.BUG),
        (OSError(errno.ENOENT, "no"), Cause.BUG),
        (ValueError("x"), Cause.BUG),
    ],
)
def test_faults_have_causes(error: BaseException, cause: Cause) -> None:
    assert faults.cause_of(error) is cause


def test_a_real_failed_allocation_is_oom() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 48)
    assert faults.cause_of(caught.value) is Cause.OOM


def test_peak_memory_beyond_the_limit_is_told(tmp_path: Path) -> None:
    code = "from model.device import *; MemoryLimit(0.3, torch.device('cpu')); x = torch.ones(10**8)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert "not enough memory" in done.stderr or "can't allocate memory" in done.stderr
    limit = MemoryLimit(None, torch.device("cpu"))
    limit.check()
    assert limit.peak() > 1e7


def watched(folder: Path, ttl_s: float) -> subprocess.Popen[str]:
    (folder / "heartbeat.json").write_text('{"count": 1}')
    return subprocess.Popen([sys.executable, "-c", WATCHED, str(folder), str(ttl_s)], cwd=ROOT, stderr=subprocess.PIPE, text=True)


def test_a_rank_ends_when_its_heartbeat_stands_still(tmp_path: Path) -> None:
    process = watched(tmp_path, 2.0)
    for count in range(2, 12):
        (tmp_path / "heartbeat.json").write_text(json.dumps({"count": count}))
        time.sleep(0.25)
    assert process.poll() is None
    assert process.wait(20) == 97
    assert "stood still" in process.stderr.read()
    process.stderr.close()


def test_a_rank_ends_when_it_is_revoked_and_shows_stacks_when_asked(tmp_path: Path) -> None:
    process = watched(tmp_path, 16.0)
    (tmp_path / "dump-stacks").touch()
    deadline = time.monotonic() + 20
    while not (tmp_path / "stacks.0.txt").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert "Current thread" in (tmp_path / "stacks.0.txt").read_text()
    (tmp_path / "revoked").touch()
    assert process.wait(20) == 97
    process.stderr.close()


class Clock(SimpleNamespace):
    """One by which half an hour of the watch passes at once; `each` is called when somebody sleeps."""

    def __init__(self, each: Callable[[float], None]) -> None:
        super().__init__(now=0.0, monotonic=lambda: self.now, each=each)

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.each(self.now)
        if self.now > 1800.0:
            raise EOFError


@pytest.fixture
def own(tmp_path: Path) -> Owner:
    replace_json(tmp_path / "heartbeat.json", {"count": 0})
    return Owner(heartbeat=tmp_path / "heartbeat.json", revoked=tmp_path / "revoked", ttl_s=120.0)


def test_ranks_look_seldom_and_read_nothing(own: Owner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tens of thousands of them look into one folder: two files in a fifteenth second, and one in four."""
    calls: list[str] = []
    stat, opening = os.stat, open
    clock = Clock(lambda now: replace_json(own.heartbeat, {"count": now}))
    monkeypatch.setattr(owner, "time", clock)
    monkeypatch.setattr(owner.os, "stat", lambda path, **_: calls.append(f"stat {path}") or stat(path))
    monkeypatch.setattr(owner, "open", lambda *a: calls.append("open") or opening(*a), raising=False)
    with pytest.raises(EOFError):
        owner._watch(own, tmp_path, 0)
    assert "open" not in calls
    assert 1800 * (2 / 15 + 1 / 4) <= len(calls) < 1800 * (2 / 15 + 1 / 4) * 1.25


def test_a_rank_that_stood_still_with_its_owner_lives_on(own: Owner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rank goes on first, and its owner within the time to live."""
    clock = Clock(lambda _: None)

    def each(now: float) -> None:
        if 600 < now < 700:
            clock.now = 1200.0
        elif now < 600 or now > 1280:
            replace_json(own.heartbeat, {"count": now})

    clock.each = each
    monkeypatch.setattr(owner, "time", clock)
    with pytest.raises(EOFError):
        owner._watch(own, tmp_path, 0)


def test_a_file_is_opened_before_its_owner_is_taken_for_dead(own: Owner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Attributes that a node remembers may be old; opening asks the server."""
    stat, opening, opened = os.stat, open, []
    frozen = stat(own.heartbeat)
    clock = Clock(lambda now: replace_json(own.heartbeat, {"count": now}))
    monkeypatch.setattr(owner, "time", clock)
    monkeypatch.setattr(owner.os, "stat", lambda path, **_: frozen if path == own.heartbeat else stat(path))
    monkeypatch.setattr(owner, "open", lambda *a: opened.append(a) or opening(*a), raising=False)
    with pytest.raises(EOFError):
        owner._watch(own, tmp_path, 0)
    assert opened


def test_a_rank_dies_with_its_parent(tmp_path: Path) -> None:
    """The kernel does it: the child would sleep on for half a minute."""
    (tmp_path / "heartbeat.json").write_text('{"count": 1}')
    parent = f"import subprocess, sys, time; p = subprocess.Popen([sys.executable, '-c', {WATCHED!r}, {str(tmp_path)!r}, '60'])"
    code = f"{parent}; print(p.pid, flush=True); time.sleep(30)"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    child = int(process.stdout.readline())
    deadline = time.monotonic() + 20
    while not (tmp_path / "watching").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.kill()
    process.wait(10)
    process.stdout.close()
    while alive(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive(child)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


def test_a_stop_is_asked_for_by_file_or_signal(tmp_path: Path) -> None:
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)}
    try:
        flag = StopFlag(tmp_path / "stop", every_s=0.0)
        other = StopFlag(tmp_path / "stop", looks=False)
        assert not flag.asked()
        (tmp_path / "stop").touch()
        assert flag.asked()
        assert not other.asked()
        os.kill(os.getpid(), signal.SIGUSR1)
        assert other.asked()
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def test_progress_is_written_now_and_then_by_one_rank(tmp_path: Path) -> None:
    silent = Progress(tmp_path, writes=False, every_s=0.0)
    silent.update("train", 1, 2, "steps")
    assert not (tmp_path / "progress.json").exists()
    progress = Progress(tmp_path, writes=True, every_s=1000.0)
    progress.update("train", 1, 9, "steps", epoch=0)
    progress.update("train", 2, 9, "steps")
    progress.begin("validate", 9, "steps")
    assert json.loads((tmp_path / "progress.json").read_text()) == {
        "count": 2, "phase": "validate", "done": 0, "total": 9, "unit": "steps",
    }  # fmt: skip
