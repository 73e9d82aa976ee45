"""The agent of a later link ends what an earlier one may still do, and waits until that is silent."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from dataclasses import replace
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pytest

from model.outcome import Status, write_json
from workflow.allocation import takeover
from workflow.allocation.takeover import take_over
from workflow.batch import fence
from workflow.process import ProcessId, start_time
from workflow.receipt import Receipt, write_receipt
from workflow.request import Request
from workflow.rundir import AttemptDir


@pytest.fixture
def earlier(tmp_path: Path) -> AttemptDir:
    attempt = AttemptDir(tmp_path / "link-1")
    attempt.root.mkdir()
    return attempt


def request(earlier: AttemptDir) -> Request:
    campaign, previous = str(earlier.root.parent), (earlier.root.name,)
    return Request("0", campaign, "c", "t", "a", 0, "k", {}, 2, 2, 1, 1, 60.0, {}, {}, {}, {}, {}, previous)


def never() -> bool:
    return False


def test_one_that_left_a_receipt_keeps_its_right(earlier: AttemptDir) -> None:
    earlier.run.mkdir()
    write_receipt(earlier.receipt, Receipt("t", "s", 1, 1, Status.PARTIAL))
    assert not take_over(request(earlier), 1000.0, never)
    assert not earlier.revoked.exists()


def test_one_that_has_not_started_is_barred_and_one_that_was_revoked_is_left_alone(earlier: AttemptDir) -> None:
    assert not take_over(request(earlier), 1000.0, never)
    assert fence.is_barred(earlier)
    assert not take_over(request(earlier), 1000.0, never)


def test_a_dead_process_of_this_host_is_not_waited_for(earlier: AttemptDir) -> None:
    child = subprocess.Popen(["sleep", "100"])
    own = ProcessId.own()
    began = start_time(child.pid)
    child.kill()
    child.wait()
    earlier.run.mkdir()
    write_json(earlier.start, replace(own, pid=child.pid, start=began or 0).fields())
    assert take_over(request(earlier), 1000.0, never), "it waited for no silence of a thousand seconds"
    assert earlier.revoked.exists() and not fence.is_barred(earlier)


def test_one_that_lives_on_is_waited_for_until_it_has_looked(earlier: AttemptDir) -> None:
    earlier.run.mkdir()
    write_json(earlier.start, {"job_id": "1", "pid": os.getpid()})
    effects: list[float] = []

    def zombie() -> None:
        for number in count():
            write_json(earlier.heartbeat, {"count": number})
            time.sleep(0.05)
            if number > 20 and earlier.revoked.exists():
                return
            effects.append(time.monotonic())

    thread = threading.Thread(target=zombie)
    thread.start()
    assert take_over(request(earlier), 1.0, never)
    returned = time.monotonic()
    thread.join()
    assert effects and max(effects) < returned


def test_an_allocation_that_ends_waits_no_longer(earlier: AttemptDir) -> None:
    earlier.run.mkdir()
    looks = iter([False, True])
    assert take_over(request(earlier), 0.8, lambda: next(looks))


def test_time_in_which_it_did_not_look_is_no_silence(earlier: AttemptDir, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both stand still, as where their file system hangs, and this one goes on first."""
    earlier.run.mkdir()
    clock, looks = SimpleNamespace(now=0.0, monotonic=lambda: clock.now), count()

    def sleep(seconds: float) -> None:
        number = next(looks)
        clock.now += 1000.0 if number == 2 else seconds
        if 2 < number < 40:
            write_json(earlier.heartbeat, {"count": number})

    clock.sleep = sleep
    monkeypatch.setattr(takeover, "time", clock)
    assert take_over(request(earlier), 8.0, never)
    assert next(looks) > 40, "the other went on"
