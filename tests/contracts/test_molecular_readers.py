"""What the molecular readers owe beyond the contract: each pitfall of a published set, and what answers it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from model import registry
from model.data.readers.omol25 import subset_of
from tests.contracts.sources import omol25 as omol25_source

SUBSETS = ("neutral_singlet", "charged_nonsinglet", "rest")


def read(name: str, path: Path, span: range | None = None, **options: Any) -> list[Any]:
    reader = registry.reader(name)
    config = reader.Config(**options)
    found = list(reader.read(path, config, span))
    if span is None:
        assert reader.count(path, config) == len(found)
    return found


@pytest.mark.parametrize("charge", [None, -1, 0, 2])
@pytest.mark.parametrize("spin", [None, 1, 2, 3])
def test_every_row_of_omol25_belongs_to_one_subset(charge: int | None, spin: int | None) -> None:
    if charge == 0 and spin == 1:
        assert subset_of(charge, spin) == "neutral_singlet"
    elif charge in (-1, 2) and spin in (2, 3):
        assert subset_of(charge, spin) == "charged_nonsinglet"
    else:
        assert subset_of(charge, spin) == "rest"


def test_the_subsets_of_omol25_are_disjoint_and_complete(tmp_path: Path) -> None:
    path = tmp_path / omol25_source.FILE
    omol25_source.write(path)
    parts = {subset: [s.id for s in read("omol25", path, subset=subset)] for subset in SUBSETS}
    # Charges and spins of the rows take turns: (0, 1), (1, 2), (-1, 2).
    assert [len(parts[subset]) for subset in SUBSETS] == [4, 8, 0]
    assert sorted(sum(parts.values(), [])) == sorted(s.id for s in read("omol25", path))
    assert [s.id for s in read("omol25", path, range(2, 5), subset="charged_nonsinglet")] == parts["charged_nonsinglet"][2:5]


@pytest.mark.parametrize("file", ["ani2x_samples.aselmdb", "small-test.aselmdb"])
def test_the_subsets_of_real_omol25_rows(samples: Path, file: str) -> None:
    whole = read("omol25", samples / "omol25" / file)
    parts = {subset: read("omol25", samples / "omol25" / file, subset=subset) for subset in SUBSETS}
    assert sum(map(len, parts.values())) == len(whole)
    assert all((s.charge, s.spin) == (0, 1) for s in parts["neutral_singlet"])
    assert all(s.charge != 0 and s.spin != 1 for s in parts["charged_nonsinglet"])
    assert all((s.charge == 0) != (s.spin == 1) for s in parts["rest"])
