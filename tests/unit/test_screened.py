"""Scores, rankings, and shards that count only when whole."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from predictors import predictor
from structures import random_block

from model.config import ScreenConfig
from model.inference.fused import FusedPredictor
from model.inference.ranking import SCORES, Ranking, histogram, largest_force, spread
from model.inference.screen import _require_rankable
from model.inference.screened import Columns, ShardFile, open_shard, read_steps, write_step
from model.outcome import CampaignError

LOW, HIGH = SCORES["largest_force"], SCORES["branch_spread"]


@given(st.lists(st.floats(-5, 5) | st.just(float("nan")), max_size=30), st.integers(1, 10), st.integers(0, 30))
def test_joined_rankings_are_the_ranking_of_all(values: list[float], top: int, cut: int) -> None:
    array, index = np.array(values), np.arange(len(values))
    parts = [Ranking.of(HIGH, top, array[part], index[part]) for part in (slice(cut), slice(cut, None))]
    joined, whole = Ranking.join(parts, HIGH, top), Ranking.of(HIGH, top, array, index)
    assert joined.index.tolist() == whole.index.tolist()
    assert len(whole.index) == min(top, np.isfinite(array).sum())
    assert np.all(np.diff(whole.values) <= 0)


def test_each_score_knows_which_end_comes_first_and_ties_go_to_the_lower_index() -> None:
    values, index = np.array([2.0, 1.0, np.nan, 1.0]), np.array([4, 9, 5, 6])
    assert Ranking.of(LOW, 3, values, index).index.tolist() == [6, 9, 4]
    assert Ranking.of(HIGH, 1, values, index).index.tolist() == [4]


def test_spread_is_over_the_branches_that_know_a_structure() -> None:
    branches = np.array([[2.0, 6.0, 100.0], [1.0, 5.0, 5.0]])
    known = np.array([[True, True, False], [True, False, False]])
    found = spread(branches, known, np.array([2, 1]))
    assert found[0] == pytest.approx(1.0)  # 1 and 3 eV/atom
    assert np.isnan(found[1])


def test_the_largest_force_is_a_length_not_a_component() -> None:
    forces = np.array([[3.0, 4.0, 0.0], [4.5, 0.0, 0.0], [0.0, 0.0, 1.0]])
    assert largest_force(forces, np.array([0, 2, 3])).tolist() == [5.0, 1.0]


def test_histograms_of_parts_add_up() -> None:
    values = np.random.default_rng(0).normal(size=200)
    low, high = values.min(), values.max()
    parts = histogram(values[:50], low, high) + histogram(np.append(values[50:], np.nan), low, high)
    assert parts.tolist() == histogram(values, low, high).tolist()
    assert parts.sum() == 200


def test_what_would_rank_nothing_is_refused_at_once() -> None:
    config = ScreenConfig(checkpoint=Path("model"), candidates=Path("none"), score="branch_spread")
    model = predictor()
    _require_rankable(config, model)
    model.branches = ("water",)
    with pytest.raises(CampaignError, match="model: the model has one branch"):
        _require_rankable(config, model)
    model.meta = replace(model.meta, references=dict.fromkeys(model.branches))
    with pytest.raises(CampaignError, match="no branch was trained on energies"):
        _require_rankable(config.model_copy(update={"score": "largest_force"}), model)


def steps() -> list[Columns]:
    """Return two steps with other numbers of atoms and ids of other lengths."""
    fused = FusedPredictor(predictor(), None)
    return [fused.columns(random_block(4, seed=k), 4 * k, 32) for k in range(2)]


def written(folder: Path, key: str = "a") -> ShardFile:
    folder.mkdir(exist_ok=True)
    file = ShardFile(folder, 3, key)
    with open_shard(file, {"unit_energy": "eV"}, None) as stream:
        for each in steps():
            write_step(stream, each)
    return file


def test_a_shard_comes_back_step_by_step(tmp_path: Path) -> None:
    file = written(tmp_path)
    assert file.is_done()
    for mine, theirs in zip(steps(), read_steps(file.data), strict=True):
        for field in fields(Columns):
            assert np.array_equal(getattr(mine, field.name), getattr(theirs, field.name), equal_nan=field.name != "id_bytes")
        assert theirs.ids == mine.ids


def test_a_shard_that_was_interrupted_does_not_count(tmp_path: Path) -> None:
    file = ShardFile(tmp_path, 0, "a")
    with pytest.raises(KeyboardInterrupt), open_shard(file, {}, None) as stream:
        write_step(stream, steps()[0])
        raise KeyboardInterrupt
    assert not file.is_done()
    assert not file.marker.exists()
    assert not file.data.exists()


def test_an_earlier_shard_is_taken_over_only_whole_and_of_the_same_content(tmp_path: Path) -> None:
    earlier = written(tmp_path / "old")
    new = tmp_path / "new"
    new.mkdir()
    assert not ShardFile(new, 3, "another key").adopt(earlier.folder, None)
    assert not ShardFile(new, 4, "a").adopt(earlier.folder, None)
    assert ShardFile(new, 3, "a").adopt(earlier.folder, None)
    assert ShardFile(new, 3, "a").is_done()
    next(earlier.data.glob("data.0")).write_bytes(b"torn")
    assert not ShardFile(new, 3, "a").adopt(earlier.folder, None)
    assert not ShardFile(new, 3, "a").is_done()  # linked, so torn here as well, and that is seen
