"""Who converts what: each span once, and a file that can only be read from its beginning by one rank, in order."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from model import registry
from model.data.plan import Span, shared_out
from model.data.readers.base import is_forward


@given(
    counts=st.lists(st.integers(0, 90), min_size=1, max_size=7),
    forward=st.sets(st.integers(0, 6)),
    size=st.integers(1, 9),
    done=st.integers(0, 40),
)
@settings(max_examples=60, deadline=None)
def test_every_span_is_converted_once_and_forward_files_by_one_rank(
    counts: list[int], forward: set[int], size: int, done: int
) -> None:
    spans = [Span(f, part, s, min(s + 10, n)) for f, n in enumerate(counts) for part, s in enumerate(range(0, n, 10))]
    left = [span for number, span in enumerate(spans) if number != done]
    shares = shared_out(left, forward.__contains__, size)
    assert len(shares) == size
    assert sorted((span.file, span.part) for share in shares for span in share) == [(span.file, span.part) for span in left]
    for share in shares:
        assert [(span.file, span.part) for span in share] == sorted((span.file, span.part) for span in share)
    for file in forward:
        assert sum(any(span.file == file for span in share) for share in shares) <= 1
    if not forward:
        loads = [sum(span.stop - span.start for span in share) for share in shares]
        assert max(loads) - min(loads) <= 10


def test_readers_say_which_files_are_read_from_the_front() -> None:
    def says(reader: str, name: str) -> bool:
        return is_forward(registry.reader(reader), Path(name))

    assert says("mptrj", "MPtrj_2022.9_full.json") and says("alexandria", "a.json.bz2") and says("qm9", "a.tar.bz2")
    assert says("extxyz", "a.extxyz.xz") and not says("extxyz", "a.extxyz"), "lines are passed over, not understood"
    assert not says("ani1x", "ani1x-release.h5") and not says("omol25", "data0000.aselmdb")
