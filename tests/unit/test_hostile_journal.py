"""Journals whose hashes are right and whose lines nobody understands; links in a campaign's folder that lead out of it."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
from toy.world import campaign_of, drive, executions, site_file, states

from workflow.chained import GENESIS, ChainedFile, read_chain
from workflow.errors import JournalError
from workflow.journal import Journal, read_events
from workflow.report.status import read_status
from workflow.rundir import RunDir
from workflow.site import Periods

INTENT = {"stage": "a", "link": 1, "attempt": 1, "token": "cx", "nodes": 1, "walltime_s": 60.0, "node_hours": 0.1}
HOSTILE: list[tuple[str, dict[str, Any]]] = [
    ("created", {"campaign_id": 7}),
    ("intent", {}),
    ("intent", {**INTENT, "link": "first"}),
    ("intent", {**INTENT, "link": True}),
    ("intent", {**INTENT, "attempt": 10**400}),
    ("intent", {**INTENT, "node_hours": 10**400}),
    ("intent", {**INTENT, "stage": ["a"]}),
    ("intent", {**INTENT, "token": {"a": 1}}),
    ("stage", {"stage": None, "state": "done"}),
    ("approved", {"id": "x", "node_hours": "all of them"}),
    ("approved", {"id": "x", "stage": ["a"], "node_hours": 1.0}),
    ("accounted", {"token": "cx", "node_hours": "all"}),
    ("accounted", {"token": ["cx"], "node_hours": 1.0}),
    ("stage", {"stage": "a", "state": "failed", "message": {}}),
    ("intent", {**INTENT, "stage": "a\0b"}),
    ("intent", {**INTENT, "stage": "../../elsewhere"}),
    ("intent", {**INTENT, "queue": 7}),
    ("cancel_requested", {}),
]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CAMPAIGN_SITES", str(site_file(tmp_path)))
    return tmp_path


@pytest.mark.parametrize(("event", "fact"), HOSTILE)
def test_a_line_that_is_not_understood_stops_the_driver_and_is_shown(home: Path, event: str, fact: dict[str, Any]) -> None:
    assert drive(campaign_of(home, {"a": {}})) == 0
    journal = Journal.take(RunDir(home / "run"), Periods(ttl_s=1.0, heartbeat_s=0.1))
    journal.commit(event, **fact)
    journal.close()
    before = len(read_events(RunDir(home / "run")))
    with pytest.raises(JournalError, match=rf"'{event}', is not understood") as caught:
        drive(campaign_of(home, {"a": {}, "b": {"needs": ["a"]}}))
    assert "version of campaign that wrote it" in caught.value.remedy
    assert executions(home) == {("a", 1): 1} and not [
        each for each in read_events(RunDir(home / "run"))[before:] if "token" in each
    ]
    assert any("is not understood" in remark for remark in read_status(home / "run").remarks)


@pytest.mark.parametrize(
    ("event", "fact"), [("settled", {"token": "of a"}), ("settled", {"token": "of a", "status": "odd", "message": ""})]
)
def test_an_end_that_is_not_understood_is_no_end(home: Path, event: str, fact: dict[str, Any]) -> None:
    assert drive(campaign_of(home, {"a": {}})) == 0
    (intent,) = [line for line in read_events(RunDir(home / "run")) if line["event"] == "intent"]
    journal = Journal.take(RunDir(home / "run"), Periods(ttl_s=1.0, heartbeat_s=0.1))
    journal.commit(event, **{**fact, "token": intent["token"]})
    journal.close()
    with pytest.raises(JournalError, match="is not understood"):
        drive(campaign_of(home, {"a": {}}))


@pytest.mark.parametrize("fact", [{}, {"queue": "local", "after": [7]}, {"queue": "local", "after": {}, "nodes": None}])
def test_an_intent_that_does_not_say_what_its_job_was_stops_the_driver(home: Path, fact: dict[str, Any]) -> None:
    assert drive(campaign_of(home, {"a": {}})) == 0
    journal = Journal.take(RunDir(home / "run"), Periods(ttl_s=1.0, heartbeat_s=0.1))
    journal.commit("intent", **{**INTENT, **fact})
    journal.close()
    with pytest.raises(JournalError, match="the intent of cx in the journal does not say") as caught:
        drive(campaign_of(home, {"a": {}}))
    assert "version of campaign that wrote it" in caught.value.remedy


def test_a_line_of_endless_brackets_is_damage(tmp_path: Path) -> None:
    path, body = tmp_path / "1.jsonl", b'{"seq":0,"a":' + b"[" * 200_000 + b"]" * 200_000
    digest = hashlib.sha256(GENESIS.encode() + body).hexdigest()
    path.write_bytes(body + f',"hash":"{digest}"}}\n'.encode())
    with pytest.raises(JournalError, match="damaged"):
        read_chain(path)


def test_lines_of_a_later_version_are_passed_over(home: Path) -> None:
    assert drive(campaign_of(home, {"a": {}})) == 0
    journal = Journal.take(RunDir(home / "run"), Periods(ttl_s=1.0, heartbeat_s=0.1))
    journal.commit("weather", stage=[1], token=7)
    journal.close()
    assert drive(campaign_of(home, {"a": {}, "b": {"needs": ["a"]}})) == 0
    assert executions(home) == {("a", 1): 1, ("b", 1): 1}


def test_a_number_beyond_all_numbers_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "1.jsonl"
    ChainedFile(path).close()
    path.write_text('{"seq":0,"number":' + "9" * 5000 + ',"hash":"' + "0" * 64 + '"}\n')
    with pytest.raises(JournalError, match="damaged"):
        ChainedFile(path)


def test_what_is_written_replaces_a_link_and_not_what_it_leads_to(home: Path) -> None:
    """Whoever can plant a link in the folder must not make the driver write elsewhere."""
    assert drive(campaign_of(home, {"a": {}})) == 0
    rundir, outside = RunDir(home / "run"), home / "outside.json"
    for path in (rundir.stage_receipt("a"), rundir.campaign):
        outside.write_bytes(path.read_bytes())
        kept = outside.stat().st_ino, outside.read_bytes()
        path.unlink()
        path.symlink_to(outside)
        assert drive(campaign_of(home, {"a": {}, "b": {"needs": ["a"]}})) == 0
        assert (outside.stat().st_ino, outside.read_bytes()) == kept
    assert states(home) == {"a": "done", "b": "done"}


def test_a_planted_segment_is_not_written_through(home: Path) -> None:
    assert drive(campaign_of(home, {"a": {}})) == 0
    outside = home / "outside"
    (RunDir(home / "run").journal / "2.jsonl").symlink_to(outside)
    with pytest.raises(JournalError, match="leads nowhere"):
        drive(campaign_of(home, {"a": {}}))
    assert not outside.exists()
