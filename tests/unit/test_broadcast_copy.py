"""What a node makes of the chunks that come to it: the file whole and right, or nothing, and why."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from workflow.allocation.broadcast import Copy, Sending, SentFile
from workflow.receipt import Output

DATA = b"a" * 3000 + b"b" * 2000


def _file(target: Path, data: bytes = DATA) -> SentFile:
    return SentFile("/source.bin", str(target), Output("x", "source.bin", len(data), hashlib.sha256(data).hexdigest()))


def _received(target: Path, *chunks: bytes) -> Copy:
    copy = Copy(target, _file(target))
    copy.begin()
    for chunk in chunks:
        copy.take(memoryview(chunk))
    copy.end()
    return copy


def test_a_file_stands_under_its_name_when_all_of_it_has_come(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "a.bin"
    assert _received(target, DATA[:3000], DATA[3000:]).fault == ""
    assert target.read_bytes() == DATA
    assert [path.name for path in target.parent.iterdir()] == ["a.bin"]


@pytest.mark.parametrize("chunks", [(), (DATA[:4999],), (DATA, b"c"), (DATA[:3000], b"x" * 2000)])
def test_another_file_than_the_receipts_leaves_nothing(tmp_path: Path, chunks: tuple[bytes, ...]) -> None:
    copy = _received(tmp_path / "a.bin", *chunks)
    assert "differs from its receipt" in copy.fault and "/source.bin" in copy.fault
    assert list(tmp_path.iterdir()) == []


def test_a_partial_or_wrong_file_that_stands_there_is_replaced(tmp_path: Path) -> None:
    for name in ("a.bin", ".a.bin.part"):
        (tmp_path / name).write_bytes(b"x" * 9000)
    assert _received(tmp_path / "a.bin", DATA).fault == ""
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [DATA]


def test_a_full_disk_is_told_and_lets_the_other_chunks_by(tmp_path: Path) -> None:
    (tmp_path / ".a.bin.part").symlink_to("/dev/full")
    copy = _received(tmp_path / "a.bin", DATA[:10], DATA[10:])
    assert "No space left" in copy.fault
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "in the way").write_text("")
    copy = _received(tmp_path / "in the way" / "a.bin", DATA)
    assert "in the way" in copy.fault


def test_a_node_that_has_the_file_lets_all_chunks_by(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(DATA)
    before = (tmp_path / "a.bin").stat().st_ino
    copy = Copy(tmp_path / "a.bin", _file(tmp_path / "a.bin"))
    copy.skip()
    copy.take(memoryview(DATA))
    copy.end()
    assert copy.fault == "" and (tmp_path / "a.bin").stat().st_ino == before


def test_an_order_is_read_as_it_was_written(tmp_path: Path) -> None:
    sending = Sending(3, "NODE", (_file(tmp_path / "{node}" / "a.bin"), _file(tmp_path / "b.bin", b"")))
    sending.write(tmp_path / "order.json")
    assert Sending.read(tmp_path / "order.json") == sending
