"""The journal: chain, torn lines, damage, lease, thawed writers."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

import workflow.journal
from workflow.chained import ChainedFile, read_chain
from workflow.errors import JournalError, LeaseHeld
from workflow.journal import Journal, is_driven, read_events
from workflow.rundir import RunDir
from workflow.site import Periods

PERIODS = Periods(heartbeat_s=0.05, ttl_s=0.3)


def names(rundir: RunDir) -> list[str]:
    return [line["event"] for line in read_events(rundir)]


def killed_driver(root: Path, then: str) -> None:
    """Let a process of its own take the lease, do `then` and die without a word."""
    code = f"""
import os
from pathlib import Path
from workflow.journal import Journal
from workflow.rundir import RunDir
from workflow.site import Periods
journal = Journal.take(RunDir(Path({str(root)!r})), Periods(heartbeat_s=0.05, ttl_s=0.3))
{then}
os.kill(os.getpid(), 9)
"""
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=60
    )
    assert result.returncode == -9, result.stderr


def test_chained_file_gives_back_what_was_appended(tmp_path: Path) -> None:
    file = ChainedFile(tmp_path / "r.jsonl")
    file.append("ask", point={"x": 1.5, "name": 'a "b"\n'})
    file.close()
    again = ChainedFile(tmp_path / "r.jsonl")
    again.append("tell", value=2)
    events = read_chain(tmp_path / "r.jsonl").events
    assert [(e["seq"], e["event"]) for e in events] == [(0, "ask"), (1, "tell")]
    assert events[0]["point"] == {"x": 1.5, "name": 'a "b"\n'}
    assert events == again.events


def test_torn_last_line_is_cut_and_noted(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    ChainedFile(path).append("one")
    whole = path.read_bytes()
    for cut in range(1, len(whole)):
        path.write_bytes(whole + whole[:cut])
        assert len(read_chain(path).events) == 1
        file = ChainedFile(path)
        assert file.torn == cut
        assert path.read_bytes() == whole
        file.close()


@pytest.mark.parametrize("line", [0, 1, 2])
def test_every_flipped_byte_of_a_whole_line_is_found(tmp_path: Path, line: int) -> None:
    path = tmp_path / "r.jsonl"
    file = ChainedFile(path)
    for number in range(3):
        file.append("x", number=number)
    lines = path.read_bytes().splitlines(keepends=True)
    for position in range(0, len(lines[line]) - 1, 7):
        bad = bytearray(lines[line])
        bad[position] ^= 1
        path.write_bytes(b"".join([*lines[:line], bytes(bad), *lines[line + 1 :]]))
        with pytest.raises(JournalError) as error:
            read_chain(path)
        assert "r.jsonl: line" in error.value.where and error.value.remedy


def test_a_dropped_or_swapped_line_is_found(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    file = ChainedFile(path)
    for number in range(4):
        file.append("x", number=number)
    a, b, c, d = path.read_bytes().splitlines(keepends=True)
    for bad in ([a, c, d], [a, c, b, d], [b, c, d]):
        path.write_bytes(b"".join(bad))
        with pytest.raises(JournalError):
            read_chain(path)


def test_epochs_follow_each_other(tmp_path: Path) -> None:
    rundir = RunDir(tmp_path)
    for number in range(3):
        journal = Journal.take(rundir, PERIODS)
        journal.commit("created" if not number else "stage", number=number)
        journal.close()
    assert names(rundir) == ["lease", "created", "driver_ended", *["lease", "stage", "driver_ended"] * 2]
    events = read_events(rundir)
    assert [e["seq"] for e in events] == list(range(9))
    assert [e["epoch"] for e in events] == [1, 1, 1, 2, 2, 2, 3, 3, 3]


def test_a_living_driver_keeps_the_lease(tmp_path: Path) -> None:
    journal = Journal.take(RunDir(tmp_path), PERIODS)
    assert is_driven(RunDir(tmp_path)) is True
    with pytest.raises(LeaseHeld) as error:
        Journal.take(RunDir(tmp_path), PERIODS)
    assert str(os.getpid()) in str(error.value)
    journal.close()
    assert is_driven(RunDir(tmp_path)) is False
    Journal.take(RunDir(tmp_path), PERIODS).close()


def test_a_killed_driver_is_replaced_at_once_on_the_same_host(tmp_path: Path) -> None:
    killed_driver(tmp_path, "journal.commit('created', a=1)")
    slow = Periods(heartbeat_s=0.05, ttl_s=3600)
    journal = Journal.take(RunDir(tmp_path), slow)
    assert [e["event"] for e in journal.events] == ["lease", "created", "lease"]
    journal.close()


def test_a_silent_driver_of_another_host_is_replaced_after_its_time_to_live(tmp_path: Path) -> None:
    killed_driver(tmp_path, "journal.commit('created')")
    beat = tmp_path / "journal" / "1.beat"
    beat.write_text(beat.read_text().replace('"boot": "', '"boot": "another'))
    journal = Journal.take(RunDir(tmp_path), PERIODS)
    assert journal.epoch == 2
    journal.close()


def test_a_driver_that_stood_still_with_everything_else_keeps_the_lease(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    killed_driver(tmp_path, "journal.commit('created')")
    beat = tmp_path / "journal" / "1.beat"
    text = beat.read_text().replace('"boot": "', '"boot": "another')
    beat.write_text(text)
    clock = SimpleNamespace(now=0.0, time=time.time, monotonic=lambda: clock.now)

    def sleep(seconds: float) -> None:
        if clock.now > 1000.0:  # it goes on after this one
            beat.write_text(re.sub(r'"count": \d+', '"count": 7', text))
        clock.now += seconds if clock.now else 1000.5

    clock.sleep = sleep
    monkeypatch.setattr(workflow.journal, "time", clock)
    with pytest.raises(LeaseHeld):
        Journal.take(RunDir(tmp_path), PERIODS)


def test_a_torn_last_line_is_noted_by_the_next_driver(tmp_path: Path) -> None:
    killed_driver(tmp_path, "journal.commit('created'); os.write(journal._file._handle, b'{\"seq\":2,\"ev')")
    assert names(RunDir(tmp_path)) == ["lease", "created"]
    journal = Journal.take(RunDir(tmp_path), PERIODS)
    lease = journal.events[-1]
    assert (lease["before"], lease["torn"]) == (1, 12)
    journal.close()


def test_what_a_thawed_writer_adds_has_no_effect(tmp_path: Path) -> None:
    frozen = Journal.take(RunDir(tmp_path), PERIODS)
    frozen.commit("created")
    frozen._beat.stop()  # as if stopped: its count stands still
    beat = tmp_path / "journal" / "1.beat"
    beat.write_text(beat.read_text().replace('"boot": "', '"boot": "another'))
    newer = Journal.take(RunDir(tmp_path), PERIODS)
    with pytest.raises(LeaseHeld):
        frozen.commit("intent", token="late")
    frozen._file.append("intent", token="later still")  # thawed between check and write
    newer.commit("stage", stage="data")
    newer.close()
    assert names(RunDir(tmp_path)) == ["lease", "created", "lease", "stage", "driver_ended"]
    Journal.take(RunDir(tmp_path), PERIODS).close()


def silenced(folder: Path) -> Journal:
    """Return the journal of a driver that is taken for dead, and may write all the same."""
    frozen = Journal.take(RunDir(folder), PERIODS)
    frozen._beat.stop()
    beat = folder / "journal" / f"{frozen.epoch}.beat"
    beat.write_text(beat.read_text().replace('"boot": "', '"boot": "another'))
    return frozen


@pytest.mark.parametrize("torn", [b"", b'{"to'])
def test_what_is_written_until_the_next_segment_stands_is_read(
    tmp_path: Path, torn: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    frozen = silenced(tmp_path)
    frozen.commit("created")

    def meanwhile(folder: Path) -> None:
        frozen._file.append("intent", token="in time")
        frozen._file.path.write_bytes(frozen._file.path.read_bytes() + torn)

    monkeypatch.setattr("workflow.journal.sync", meanwhile)
    newer = Journal.take(RunDir(tmp_path), PERIODS)
    assert [each["event"] for each in newer.events] == ["lease", "created", "intent", "lease"]
    assert newer.events[-1]["torn"] == len(torn)
    newer.close()
    assert names(RunDir(tmp_path)) == ["lease", "created", "intent", "lease", "driver_ended"]


def test_a_first_line_that_comes_late_is_read_before_the_next_driver_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Journal.take(RunDir(tmp_path), PERIODS).close()
    late = silenced(tmp_path)
    late.commit("created")
    segment = late._file.path
    lines = segment.read_bytes()
    segment.write_bytes(b"")  # as it was when the others looked
    monkeypatch.setattr("workflow.journal.sync", lambda _: segment.write_bytes(lines))
    newer = Journal.take(RunDir(tmp_path), PERIODS)
    assert [each["event"] for each in newer.events] == ["lease", "driver_ended", "lease", "created", "lease"]
    newer.close()


def test_a_segment_that_is_cut_while_it_is_taken_over_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frozen = silenced(tmp_path)
    frozen.commit("created")
    monkeypatch.setattr("workflow.journal.sync", lambda _: frozen._file.path.write_bytes(b""))
    with pytest.raises(JournalError, match="shorter|first line|missing"):
        Journal.take(RunDir(tmp_path), PERIODS)


def test_a_goodbye_is_found_behind_long_lines_and_nowhere_else(tmp_path: Path) -> None:
    journal = Journal.take(RunDir(tmp_path), PERIODS)
    journal.commit("notice", message="x" * 10_000)
    journal.commit("notice", message='"event":"driver_ended"')
    assert is_driven(RunDir(tmp_path)) is True
    journal.close()
    assert is_driven(RunDir(tmp_path)) is False


def test_a_driver_that_died_before_its_first_line_is_passed_over(tmp_path: Path) -> None:
    killed_driver(tmp_path, "journal.commit('created')")
    (tmp_path / "journal" / "2.jsonl").write_bytes(b'{"torn')
    journal = Journal.take(RunDir(tmp_path), PERIODS)
    assert journal.epoch == 3
    assert [e["event"] for e in journal.events] == ["lease", "created", "lease"]
    journal.close()


def test_a_shortened_segment_is_refused_and_nothing_is_made(tmp_path: Path) -> None:
    for _ in range(2):
        Journal.take(RunDir(tmp_path), PERIODS).close()
    first = tmp_path / "journal" / "1.jsonl"
    first.write_bytes(first.read_bytes().splitlines(keepends=True)[0])
    before = sorted(p.name for p in first.parent.glob("*.jsonl"))
    for attempt in (lambda: read_events(RunDir(tmp_path)), lambda: Journal.take(RunDir(tmp_path), PERIODS)):
        with pytest.raises(JournalError):
            attempt()
    assert sorted(p.name for p in first.parent.glob("*.jsonl")) == before
    first.unlink()
    with pytest.raises(JournalError):
        read_events(RunDir(tmp_path))


@pytest.mark.parametrize("what", ["link", "folder"])
def test_a_segment_that_is_no_file_is_named_and_nothing_is_made(tmp_path: Path, what: str) -> None:
    Journal.take(RunDir(tmp_path), PERIODS).close()
    second = tmp_path / "journal" / "2.jsonl"
    second.symlink_to(tmp_path / "gone") if what == "link" else second.mkdir()
    for look in (lambda: read_events(RunDir(tmp_path)), lambda: is_driven(RunDir(tmp_path))):
        with pytest.raises(JournalError, match="segment 2 of the journal is"):
            look()
    with pytest.raises(JournalError, match=r"leads nowhere \(.*gone\)" if what == "link" else "is no file"):
        Journal.take(RunDir(tmp_path), PERIODS)
    assert sorted(path.name for path in second.parent.glob("*.jsonl")) == ["1.jsonl", "2.jsonl"]


def test_of_many_that_take_at_once_one_wins(tmp_path: Path) -> None:
    killed_driver(tmp_path, "pass")
    won: list[Journal] = []
    lost: list[LeaseHeld] = []

    def take() -> None:
        try:
            won.append(Journal.take(RunDir(tmp_path), PERIODS))
        except LeaseHeld as error:
            lost.append(error)

    threads = [threading.Thread(target=take) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(won), len(lost)) == (1, 5)
    won[0].close()
