"""What a test of a site says of files on their way to the nodes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from stage_allocation import FakeAllocation, request

from model.outcome import write_json
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
