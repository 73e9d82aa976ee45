"""Configuration files of the model's commands: what cannot be meant is refused where it is read, never later as a bug."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from model.config import COMMANDS, TrainConfig, dump, load
from model.device import device_of
from model.outcome import CampaignError
from model.parallel import Ranks
from model.specs import ModelSpec

FIELDS: dict[str, Any] = {"model": {"backbone": {"name": "painn"}}, "branches": {"a": {"store": "a"}}}


def written(folder: Path, fields: Any) -> Path:
    (folder / "config.yaml").write_text(fields if isinstance(fields, str) else yaml.safe_dump(fields))
    return folder / "config.yaml"


def test_what_is_dumped_is_read_back(tmp_path: Path) -> None:
    config = TrainConfig.model_validate(FIELDS | {"resume": "there", "optimizer": {"ema": 0.9}})
    dump(config, tmp_path / "config.yaml")
    assert load("train", tmp_path / "config.yaml") == config


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ("- 1", "config.yaml"),
        ("a: [", "config.yaml"),
        (FIELDS | {"branches": {}}, "branches"),
        (FIELDS | {"backend": "smoke"}, "backend"),
        (FIELDS | {"node_variable": 3}, "node_variable"),
        (FIELDS | {"bach": 3}, "bach"),
        (FIELDS | {"model": {"backbone": {}, "head_widths": [8, 0]}}, "model.head_widths.1"),
    ],
    ids=["list", "no YAML", "no branch", "backend", "number", "unknown", "width"],
)
def test_a_wrong_file_is_refused_with_its_place(tmp_path: Path, fields: Any, place: str) -> None:
    with pytest.raises(CampaignError) as refused:
        load("train", written(tmp_path, fields))
    assert refused.value.where.endswith(place)


@pytest.mark.parametrize("command", COMMANDS)
def test_no_file_and_a_folder_are_refused(tmp_path: Path, command: str) -> None:
    for path in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(CampaignError, match="no such file"):
            load(command, path)


def test_the_node_is_filled_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NODE", "n7")
    path = written(tmp_path, FIELDS | {"node_variable": "NODE", "stop": "/tmp/{node}/stop"})
    assert load("train", path).stop == Path("/tmp/n7/stop")


def test_widths_that_are_given_count_even_if_there_are_none() -> None:
    spec = ModelSpec(backbone={}, head_layers=2, head_hidden=5)
    assert spec.widths == (5, 5)
    assert spec.model_copy(update={"head_widths": (7, 3)}).widths == (7, 3)
    assert spec.model_copy(update={"head_widths": ()}).widths == ()


@pytest.mark.skipif(torch.accelerator.is_available(), reason="this machine has an accelerator")
def test_an_accelerator_that_is_not_there_is_the_users_affair() -> None:
    for backend in ("nccl", "xccl"):
        with pytest.raises(CampaignError, match="torch finds none"):
            device_of(TrainConfig.model_validate(FIELDS | {"backend": backend}), Ranks())


@pytest.mark.parametrize(
    ("keys", "ranks", "together"),
    [
        ({"batch": 10}, 1, 10),
        ({"batch": 10}, 4, 3),
        ({"batch": 131_072}, 16_384, 8),
        ({"batch": 131_072, "micro_batch": 2}, 16_384, 2),
        ({"batch": 10, "micro_batch": "auto"}, 4, 3),
        ({"batch": {"edges": 1_000_000}}, 4, 32),
    ],
)
def test_a_rank_validates_no_more_at_once_than_it_trains_on(keys: dict[str, Any], ranks: int, together: int) -> None:
    assert TrainConfig.model_validate(FIELDS | keys).evaluated_at_once(ranks) == together


def test_a_batch_that_is_left_to_auto_is_told_what_auto_does(tmp_path: Path) -> None:
    with pytest.raises(CampaignError, match="give a number and `micro_batch: auto`") as caught:
        load("train", written(tmp_path, FIELDS | {"batch": "auto"}))
    assert caught.value.where.endswith("config.yaml: batch")
    with pytest.raises(ValueError, match="1 validation error"):
        TrainConfig.model_validate(FIELDS | {"batch": "auto"})
