"""What a test of a site says of files on their way to the nodes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from stage_allocation import FakeAllocation, request

from model.outcome import Outcome, Status, write_json
from workflow.site import Periods, load_site
from workflow.site_facts import figures, keep_test
from workflow.stages import site_test


def _check(folder: Path, broadcast_mb: float | None, staged: dict[str, Any]) -> dict[str, Any]:
    site = {"node": {"devices": 1, "backend": "gloo", "broadcast_mb": broadcast_mb}}
    allocation = FakeAllocation(request(folder, "test", "site_test", {}, site=site), folder, lambda *_: None)
    (allocation.folder.run / "staging" / "1").mkdir(parents=True)
    write_json(allocation.folder.run / "staging" / "1" / "staged.json", staged)
    return site_test._broadcast(allocation)  # type: ignore[arg-type]


def test_a_site_without_a_broadcast_is_tested_by_copies(tmp_path: Path) -> None:
    check = _check(tmp_path, None, {"files": 1})
    assert check["ok"] and check["seen"].startswith("8 MB on every node") and check["verifies"] == ["node.local"]


@pytest.mark.parametrize(("broadcast_mb", "megabytes"), [(0, 8), (15.5, 16)])
def test_the_file_is_large_enough_to_be_broadcast(tmp_path: Path, broadcast_mb: float, megabytes: int) -> None:
    check = _check(tmp_path, broadcast_mb, {"broadcast_files": 1})
    assert check["ok"] and f"{megabytes} MB on every node" in check["seen"] and "sent to all at once" in check["seen"]
    assert check["verifies"] == ["node.local", "node.broadcast_mb"]


@pytest.mark.parametrize("staged", [{"broadcast_files": 0}, {}])
def test_a_broadcast_that_did_not_take_place_is_found_though_every_node_has_the_file(
    tmp_path: Path, staged: dict[str, Any]
) -> None:
    check = _check(tmp_path, 16.0, staged)
    assert not check["ok"] and "each node had to read it for itself" in check["seen"]


def _aurora(folder: Path, behaviour: Any = None, **fields: Any) -> FakeAllocation:
    site = load_site("aurora").model_dump(mode="json")
    made = request(folder, "test", "site_test", {}, site=site, walltime_s=840.0)
    return FakeAllocation(made, folder, behaviour or (lambda *_: None), **fields)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path


def test_a_job_shows_of_the_queues_only_how_its_own_is_called(home: Path) -> None:
    """Two nodes in one queue say nothing of the sizes, walltimes and limits of any."""
    check = site_test._nodes(_aurora(home / "c"))  # type: ignore[arg-type]
    assert check["ok"] and "(capacity)" in check["seen"]
    keep_test("aurora", {"checks": [check]})
    marks = {each.key: each.mark for each in figures(load_site("aurora"))}
    assert {key for key, mark in marks.items() if key.startswith(("queues", "limits")) and mark == "tested"} == {
        "queues.capacity.options"
    }
    assert marks["setup"] == "source", "a module that is not there does not end a script"


def test_a_test_of_an_earlier_release_marks_nothing(home: Path) -> None:
    """It said of all queues what it had tried in one."""
    check = {"name": "nodes", "ok": True, "seen": "2 nodes", "verifies": ["queues.capacity.options"]}
    path = keep_test("aurora", {"checks": [check]})
    assert "tested" in {each.mark for each in figures(load_site("aurora"))}
    path.write_text(json.dumps({key: value for key, value in json.loads(path.read_text()).items() if key != "form"}))
    assert "tested" not in {each.mark for each in figures(load_site("aurora"))}


def test_the_end_of_the_walltime_shows_two_of_the_periods(home: Path) -> None:
    allocation = _aurora(home / "c", lambda *_: Outcome(Status.PARTIAL), time_left_s=0.0)
    check = site_test._timer(allocation)  # type: ignore[arg-type]
    assert check["ok"] and check["verifies"] == ["periods.stop_margin_s", "periods.kill_after_s"]


def test_a_sum_that_is_right_verifies_no_variable_of_the_network(home: Path) -> None:
    check = site_test._collective(_aurora(home / "c"), [{"reduce_gb_per_s": 0.1}])  # type: ignore[arg-type]
    assert check["ok"] and not [key for key in check["verifies"] if key.startswith("environment")]
    assert "fell back to sockets" in check["seen"]


@pytest.mark.parametrize(
    ("warnings", "ok", "seen"),
    [
        ([False, False, True], True, "it came 0 s after the timer"),
        ([False], False, "none came until"),
    ],
)
def test_the_schedulers_signal_is_waited_for(
    home: Path, monkeypatch: pytest.MonkeyPatch, warnings: list[bool], ok: bool, seen: str
) -> None:
    monkeypatch.setattr(site_test, "_LATE_S", 0.1)
    monkeypatch.setattr(site_test, "_LOOK_S", 0.01)
    (check,) = site_test._signal(_aurora(home / "c", warnings=warnings))  # type: ignore[arg-type]
    assert check["ok"] is ok and check["seen"].startswith(seen)


def test_where_no_signal_is_asked_for_or_could_be_waited_for_none_is_checked(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert site_test._signal(_aurora(home / "c")) == []  # type: ignore[arg-type]
    monkeypatch.setattr(Periods, "margin_s", lambda *_: 65.0)  # it would come 60 s after the timer, 5 s before the end
    assert site_test._signal(_aurora(home / "d", warnings=[False])) == []  # type: ignore[arg-type]
