"""Reference energies: exact where they can be, minimum norm where not, fitted on the training split alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from model.data import references
from model.data.block import Block, concatenate
from model.data.references import Moments, References
from model.data.splits import TRAIN, split
from model.specs import Splits
from tests.structures import random_block

ALL = Splits(validation=0, test=0)
TRUE = {1: -13.5, 6: -1029.25, 7: -1485.5, 8: -2042.0, 29: -45000.125}


def with_energies(block: Block, noise: float = 0.0) -> Block:
    table = np.zeros(119)
    table[list(TRUE)] = list(TRUE.values())
    energy = np.add.reduceat(table[block.numbers], block.offsets[:-1])
    return replace(block, energy=energy + noise * np.random.default_rng(0).normal(size=len(block)) * block.num_atoms)


def test_exact_energies_are_found() -> None:
    fitted = references.fit(with_energies(random_block(60)), ALL)
    assert fitted is not None
    assert fitted.energies == pytest.approx(TRUE, rel=1e-12)
    assert fitted.sigma_energy < 1e-8
    assert fitted.rank == 5


def test_the_fit_is_least_squares_of_the_energy_per_atom() -> None:
    block = with_energies(random_block(60), noise=0.3)
    fitted = references.fit(block, ALL)
    assert fitted is not None
    rows = np.array(
        [[np.mean(block.numbers[a:b] == z) for z in TRUE] for a, b in zip(block.offsets, block.offsets[1:], strict=False)]
    )
    best, _, _, _ = np.linalg.lstsq(rows, block.energy / block.num_atoms, rcond=None)
    assert [fitted.energies[z] for z in TRUE] == pytest.approx(best, rel=1e-9)
    residual = (block.energy - fitted.of(block.numbers, block.offsets)) / block.num_atoms
    assert residual.mean() == pytest.approx(0, abs=1e-8)
    assert fitted.sigma_energy == pytest.approx(residual.std(), rel=1e-6)
    assert fitted.rms_force == pytest.approx(np.sqrt(np.mean(block.forces**2)), rel=1e-12)


def test_only_the_training_split_counts() -> None:
    block = with_energies(random_block(80), noise=0.3)
    splits = Splits(validation=0.2, test=0.2)
    poisoned = replace(block, energy=np.where(split(block.identity, splits) == TRAIN, block.energy, 1e6))
    assert references.fit(poisoned, splits) == references.fit(block, splits)
    assert references.fit(poisoned, ALL) != references.fit(block, ALL)


def test_elements_that_never_part_share_by_minimum_norm() -> None:
    """Water alone cannot tell H from O: E/N = ⅔ e_H + ⅓ e_O, least norm is e = E/N · f / |f|²."""
    fitted = references.solve(Moments(np.array([shares({1: 2 / 3, 8: 1 / 3}, -690.0)]), 1, 0.0, 0), ALL)
    assert fitted is not None
    assert fitted.rank == 1
    assert fitted.energies[1] == pytest.approx(-690.0 * (2 / 3) / (5 / 9))
    assert fitted.energies[8] == pytest.approx(-690.0 * (1 / 3) / (5 / 9))


def test_what_a_split_leaves_open_is_settled_by_a_trained_model() -> None:
    """Water alone again: of all pairs that fit it, the one nearest to the references that fit it best."""
    water = Moments(np.array([shares({1: 2 / 3, 8: 1 / 3}, -690.0)]), 1, 0.0, 0)
    others = [
        References(e, 0.1, 0.2, 9, len(e), ALL) for e in ({1: -13.0, 8: -2030.0}, {1: -13.6, 8: -2040.0, 6: -1000.0}, {8: -1.0})
    ]
    fitted = references.solve(water, ALL, others)
    assert fitted is not None
    assert not fitted.is_determined
    missing = -690.0 - (-13.6 * 2 / 3 - 2040.0 / 3)
    assert fitted.energies[1] == pytest.approx(-13.6 + missing * (2 / 3) / (5 / 9))
    assert fitted.energies[8] == pytest.approx(-2040.0 + missing * (1 / 3) / (5 / 9))
    assert fitted.sigma_energy == pytest.approx(0, abs=1e-9)
    alone = references.solve(water, ALL)
    assert references.solve(water, ALL, others[2:]) == alone


def test_a_split_that_settles_them_itself_is_left_alone() -> None:
    block = with_energies(random_block(60), noise=0.3)
    wrong = References(dict.fromkeys(TRUE, -1.0), 0.1, 0.2, 9, 5, ALL)
    assert references.fit(block, ALL, [wrong]) == references.fit(block, ALL)


def test_an_unknown_element_gives_no_energy() -> None:
    fitted = References({1: -1.0, 8: -2.0}, 0.1, 0.2, 3, 2, ALL)
    energies = fitted.of(np.array([1, 1, 8, 6, 1], np.uint8), np.array([0, 3, 5]))
    assert energies[0] == -4.0
    assert np.isnan(energies[1])
    assert fitted.elements == {1, 8}


def test_missing_labels_do_not_count() -> None:
    block = with_energies(random_block(40), noise=0.3)
    missing = np.arange(40) % 3 == 0
    partly = replace(block, energy=np.where(missing, np.nan, block.energy))
    expected, found = references.fit(block.take(~missing), ALL), references.fit(partly, ALL)
    assert expected is not None and found is not None
    assert found.energies == expected.energies
    assert found.count == expected.count == (~missing).sum()
    assert references.fit(replace(block, energy=np.full(40, np.nan)), ALL) is None
    assert np.isnan(references.fit(replace(block, forces=np.full_like(block.forces, np.nan)), ALL).rms_force)


def test_moments_add_up_over_shards() -> None:
    block = with_energies(random_block(90), noise=0.3)
    parts = [block.take(range(31)), block.take(range(31, 32)), block.take(range(32, 90))]
    whole = references.solve(Moments.of(concatenate(parts)), ALL)
    summed = references.solve(Moments.sum(Moments.from_json(Moments.of(p).to_json()) for p in parts), ALL)
    assert whole is not None and summed is not None
    assert summed.energies == pytest.approx(whole.energies, rel=1e-11)
    assert summed.sigma_energy == pytest.approx(whole.sigma_energy, rel=1e-9)
    assert (summed.count, summed.rms_force) == (whole.count, pytest.approx(whole.rms_force))


def test_a_file_keeps_every_bit(tmp_path: Path) -> None:
    fitted = references.fit(with_energies(random_block(30), noise=0.3), ALL)
    assert fitted is not None
    references.write(tmp_path / "references.json", fitted)
    assert references.read(tmp_path / "references.json") == fitted
    assert references.read(tmp_path / "none.json") is None


def shares(of: dict[int, float], energy_per_atom: float) -> np.ndarray:
    row = np.zeros(references.NUM_ELEMENTS + 1)
    row[list(of)] = list(of.values())
    row[-1] = energy_per_atom
    return row
