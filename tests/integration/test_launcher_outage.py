"""A launcher that can start nothing for a while, as one does whose controller is away: nobody's fault, and waited for."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from model.outcome import Cause, Status
from workflow.allocation.deadline import Deadline
from workflow.allocation.health import Probe, after, call_on_each
from workflow.allocation.launch import Launcher, Setting
from workflow.allocation.nodes import NodePool
from workflow.allocation.task import TaskLaunch, TaskRunner
from workflow.site import Periods, load_site
from workflow.stages.base import TaskResult

PERIODS = Periods(heartbeat_s=0.1, ttl_s=2.0, stop_margin_s=4.0, stalled_s=2.0, kill_after_s=1.0)
SCRIPT = """#!/bin/sh
# A launcher that needs somebody who is away while `away` exists, and says so by its exit code only.
hosts=$1; shift
echo call >> {folder}/calls
[ -e {folder}/away ] && exit 1
[ "$1" = true ] || printf '{{"status": "done", "world_size": 1, "hosts": ["%s"]}}' "$(cat "$hosts")" > outcome.json
"""


@pytest.fixture
def setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Setting:
    program = tmp_path / "test-launcher"
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    program.write_text(SCRIPT.format(folder=tmp_path))
    program.chmod(0o700)
    (tmp_path / "away").touch()
    ready = ("test", "!", "-e", str(tmp_path / "away"))
    return Setting(Launcher(program.name, ("{hosts}",), ready=ready), (), load_site("local").node, dict(os.environ))


def runner(setting: Setting, folder: Path, length_s: float) -> tuple[TaskRunner, NodePool]:
    pool, deadline = NodePool(("n1", "n2")), Deadline(time.time() + length_s, PERIODS.stop_margin_s, PERIODS.kill_after_s)
    probe = Probe(setting, folder / "probes", PERIODS.ttl_s, lambda: deadline.is_due)
    return TaskRunner(setting, PERIODS, pool, deadline, probe), pool


def run(runs: TaskRunner, pool: NodePool, folder: Path) -> TaskResult:
    (folder / "task").mkdir()
    pool.ask("task", 1)
    ((_, nodes),) = pool.grant(1)
    result = runs.run(TaskLaunch("task", folder / "task", ("work",)), nodes, lambda _: None)
    pool.release("task")
    return result


def calls(folder: Path) -> int:
    log = folder / "calls"
    return len(log.read_text().splitlines()) if log.exists() else 0


def back_after_the_first_call(folder: Path) -> threading.Thread:
    """Let it come back a while after it was called in vain; longer than a probe has, and than a task may stand still."""

    def come_back() -> None:
        while not calls(folder):
            time.sleep(0.02)
        time.sleep(2 * max(PERIODS.ttl_s, PERIODS.stalled_s))
        (folder / "away").unlink()

    thread = threading.Thread(target=come_back, daemon=True)
    thread.start()
    return thread


@pytest.mark.parametrize("what", ["task", "probe", "call"])
def test_what_failed_meanwhile_is_started_again_and_accuses_no_node(setting: Setting, tmp_path: Path, what: str) -> None:
    runs, pool = runner(setting, tmp_path, 600.0)
    probe = Probe(setting, tmp_path / "probes-too", PERIODS.ttl_s)
    asked: dict[str, Callable[[], object]] = {
        "task": lambda: run(runs, pool, tmp_path).status,
        "probe": lambda: probe(("n1", "n2")),
        "call": lambda: call_on_each(setting, ("n1",), ("true",), tmp_path / "call", after(300.0)),
    }
    thread = back_after_the_first_call(tmp_path)
    assert asked[what]() == {"task": Status.DONE, "probe": [], "call": True}[what]
    thread.join()
    assert calls(tmp_path) >= 2
    assert pool.quarantined == [] and pool.counts.free == 2


def test_the_end_of_the_allocation_ends_the_waiting(setting: Setting, tmp_path: Path) -> None:
    runs, pool = runner(setting, tmp_path, PERIODS.stop_margin_s + 3.0)
    result = run(runs, pool, tmp_path)
    assert (result.status, result.cause) == (Status.FAILED, Cause.WALLTIME)
    assert pool.quarantined == []


def test_a_failure_while_all_is_well_is_a_failure(setting: Setting, tmp_path: Path) -> None:
    (tmp_path / "away").unlink()
    (tmp_path / setting.launcher.program).write_text("#!/bin/sh\nexit 1\n")
    runs, pool = runner(setting, tmp_path, 600.0)
    result = run(runs, pool, tmp_path)
    assert result.cause is Cause.NODE_FAILURE, "its node does not even answer"
    assert pool.quarantined == ["n1"]
