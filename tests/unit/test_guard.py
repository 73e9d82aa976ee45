"""The guard ends when all that came of its command is gone, and makes it go when it must."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

from workflow.allocation.guard import END, KILL_ALL, descendants
from workflow.allocation.launch import start
from workflow.process import start_time

# A child that leaves its parent's session, ignores TERM, and outlives its parent.
DAEMON = """
import os, signal, sys, time
if os.fork() == 0:
    os.setsid()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    open("daemon", "w").write(str(os.getpid()))
    time.sleep(60)
while not (os.path.exists("daemon") and open("daemon").read()):
    time.sleep(0.01)
"""

WITH_A_HANDLER = """
import os, signal, time
signal.signal(signal.SIGTERM, lambda *_: os._exit(7))
open("daemon", "w").write("1")
time.sleep(60)
"""


def _daemon(folder: Path) -> int:
    path = folder / "daemon"
    give_up = time.monotonic() + 20
    while not (path.exists() and path.read_text()):
        assert time.monotonic() < give_up
        time.sleep(0.02)
    return int(path.read_text())


def _start(folder: Path, code: str, grace_s: float = 0.2) -> subprocess.Popen[bytes]:
    return start([sys.executable, "-S", "-c", code], folder, {}, grace_s)


def test_a_daemon_left_behind_is_ended(tmp_path: Path) -> None:
    guard = _start(tmp_path, DAEMON)
    pid = _daemon(tmp_path)
    assert guard.wait(20) == 0 and start_time(pid) is None


def test_one_that_ignores_term_is_killed_after_the_grace(tmp_path: Path) -> None:
    guard = _start(tmp_path, DAEMON + "time.sleep(60)")
    pid = _daemon(tmp_path)
    guard.send_signal(END)
    assert guard.wait(20) == 128 + signal.SIGTERM and start_time(pid) is None


def test_all_are_killed_at_once(tmp_path: Path) -> None:
    guard = _start(tmp_path, DAEMON + "time.sleep(60)", grace_s=1000.0)
    pid = _daemon(tmp_path)
    guard.send_signal(KILL_ALL)
    assert guard.wait(20) == 128 + signal.SIGKILL and start_time(pid) is None


def test_a_signal_to_every_process_of_the_job_does_not_cut_the_grace_short(tmp_path: Path) -> None:
    guard = _start(tmp_path, WITH_A_HANDLER)
    _daemon(tmp_path)
    guard.send_signal(signal.SIGTERM)
    guard.send_signal(signal.SIGUSR1)
    [command] = descendants(guard.pid)
    assert guard.poll() is None
    subprocess.run(["kill", "-TERM", str(command)], check=True)  # the batch system's own
    assert guard.wait(20) == 7


def test_a_command_can_be_signalled_as_if_no_guard_were_there(tmp_path: Path) -> None:
    guard = _start(tmp_path, "import signal; print(sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])))")
    assert guard.wait(20) == 0
    assert (tmp_path / "stdout.log").read_text() == "[]\n"
