"""The heartbeat grows, whole or not at all, whatever goes wrong with its facts."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from workflow.allocation.heartbeat import Heartbeat
from workflow.allocation.watch import read_progress


def _read(path: Path) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads(path.read_text())
    return fields


def _until_count(path: Path, count: int) -> None:
    give_up = time.monotonic() + 20
    while _read(path)["count"] < count:
        assert time.monotonic() < give_up
        time.sleep(0.005)


def test_the_count_grows_with_the_facts_beside_it(tmp_path: Path) -> None:
    looks: list[int] = []
    beat = Heartbeat(tmp_path / "heartbeat.json", 0.01, lambda: {"phase": "working"}, lambda: looks.append(1))
    beat.start()
    assert _read(tmp_path / "heartbeat.json")["phase"] == "working"
    _until_count(tmp_path / "heartbeat.json", 4)
    beat.stop()
    last = _read(tmp_path / "heartbeat.json")["count"]
    time.sleep(0.05)
    assert _read(tmp_path / "heartbeat.json")["count"] == last and looks
    assert list(tmp_path.iterdir()) == [tmp_path / "heartbeat.json"]


def test_a_fault_in_facts_or_watch_does_not_look_like_death(tmp_path: Path) -> None:
    def fault() -> Any:
        raise RuntimeError("a defect")

    beat = Heartbeat(tmp_path / "heartbeat.json", 0.01, fault, fault)
    beat.start()
    _until_count(tmp_path / "heartbeat.json", 3)
    beat.stop()


def test_the_count_waits_for_no_file_of_others(tmp_path: Path) -> None:
    """A file that is never read to its end, as where a file system holds it back."""
    os.mkfifo(tmp_path / "progress.json")
    beat = Heartbeat(tmp_path / "heartbeat.json", 0.01, lambda: read_progress(tmp_path / "progress.json"), lambda: None)
    beat.start()
    _until_count(tmp_path / "heartbeat.json", 5)
    began = time.monotonic()
    beat.stop()
    assert time.monotonic() - began < 5
    with open(tmp_path / "progress.json", "w") as file:  # let the thread that reads end
        file.write("{}")


def test_the_last_count_has_the_last_facts(tmp_path: Path) -> None:
    facts = {"phase": "working"}
    beat = Heartbeat(tmp_path / "heartbeat.json", 0.01, lambda: dict(facts), lambda: None)
    beat.start()
    facts["phase"] = "ended"
    beat.stop()
    assert _read(tmp_path / "heartbeat.json")["phase"] == "ended"
    beat._gatherer.join(5)
    assert not beat._gatherer.is_alive(), "a thread is left behind"


def test_a_folder_that_is_gone_for_a_moment_does_not_end_it(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    beat = Heartbeat(tmp_path / "run" / "heartbeat.json", 0.01, dict, lambda: None)
    beat.start()
    (tmp_path / "run").rename(tmp_path / "away")
    time.sleep(0.05)
    (tmp_path / "away").rename(tmp_path / "run")
    count = _read(tmp_path / "run" / "heartbeat.json")["count"]
    _until_count(tmp_path / "run" / "heartbeat.json", count + 2)
    beat.stop()
