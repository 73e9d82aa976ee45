"""Copies are verified, kept when right, replaced when not."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest

from model.outcome import Cause, read_json, write_json
from workflow.allocation.staging import Order, StageInError, copy, copy_one, is_right, main, remove
from workflow.receipt import Output, vouch


@pytest.fixture
def outputs(tmp_path: Path) -> list[Output]:
    folder = tmp_path / "campaign" / "stages" / "data"
    (folder / "deep").mkdir(parents=True)
    (folder / "a.bin").write_bytes(b"a" * 5000)
    (folder / "deep" / "b.bin").write_bytes(b"b" * 10)
    return vouch(tmp_path / "campaign", "store:a", folder)


def _order(tmp_path: Path, outputs: list[Output]) -> Order:
    return Order(str(tmp_path / "campaign"), str(tmp_path / "local"), "", tuple(outputs))


def _copy(tmp_path: Path, outputs: list[Output]) -> dict[str, int]:
    copy(_order(tmp_path, outputs), tmp_path / "local", tmp_path / "staged.n.json")
    facts: dict[str, int] = read_json(tmp_path / "staged.n.json")  # type: ignore[assignment]
    return facts


def test_files_keep_their_path_and_a_second_time_nothing_is_copied(tmp_path: Path, outputs: list[Output]) -> None:
    assert _copy(tmp_path, outputs)["skipped"] == 0
    assert (tmp_path / "local/stages/data/deep/b.bin").read_bytes() == b"b" * 10
    facts = _copy(tmp_path, outputs)
    assert (facts["files"], facts["skipped"], facts["bytes"]) == (2, 2, 5010)


@pytest.mark.parametrize("damage", [b"a" * 4999, b"a" * 4999 + b"x", b""])
def test_a_partial_or_wrong_file_is_found_and_replaced(tmp_path: Path, outputs: list[Output], damage: bytes) -> None:
    _copy(tmp_path, outputs)
    target = tmp_path / "local/stages/data/a.bin"
    target.write_bytes(damage)
    assert not is_right(target, outputs[0])
    facts = _copy(tmp_path, outputs)
    assert facts["skipped"] == 1 and is_right(target, outputs[0])


def test_a_source_that_differs_from_its_receipt_is_told_and_leaves_nothing(tmp_path: Path, outputs: list[Output]) -> None:
    source = tmp_path / "campaign" / outputs[0].path
    source.write_bytes(b"b" * 5000)
    with pytest.raises(StageInError, match="differs from its receipt") as caught:
        copy_one(source, tmp_path / "local" / "a.bin", outputs[0])
    assert list((tmp_path / "local").iterdir()) == []
    assert caught.value.cause is Cause.BAD_CONFIG, "trying again mends nothing"


def test_a_source_that_is_gone_is_told_as_lost(tmp_path: Path, outputs: list[Output]) -> None:
    source = tmp_path / "campaign" / outputs[0].path
    source.unlink()
    order, call = tmp_path / "order.json", tmp_path / "call"
    call.mkdir()
    write_json(order, asdict(_order(tmp_path, outputs)))
    assert main(["staging", str(order), str(call)]) == 1
    (fault,) = [read_json(path) for path in call.glob("fault.*.json")]
    assert fault == {"fault": f"'{outputs[0].path}' is gone", "is_lost": True}


def test_a_folder_is_removed_and_its_jobs_folder_when_empty(tmp_path: Path) -> None:
    for node in ("a", "b"):
        (tmp_path / "7" / node / "deep").mkdir(parents=True)
    remove(tmp_path / "7" / "a")
    assert (tmp_path / "7" / "b").is_dir()
    remove(tmp_path / "7" / "b")
    remove(tmp_path / "7" / "b")
    assert not (tmp_path / "7").exists() and tmp_path.exists()
