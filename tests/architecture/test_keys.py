"""Every key that a user may write is described where it is typed."""

from __future__ import annotations

import importlib

import pytest
from pydantic import BaseModel

from model import config as model_config
from model import specs as model_specs
from model.registry import backbone_config, backbones, reader, readers
from workflow import campaign, site

TYPES = [
    *[t for t in vars(model_specs).values() if isinstance(t, type) and issubclass(t, BaseModel)],
    *[t for t in vars(model_config).values() if isinstance(t, type) and t.__module__ == model_config.__name__],
    *[t for t in vars(campaign).values() if isinstance(t, type) and issubclass(t, BaseModel)],
    *[t for t in vars(site).values() if isinstance(t, type) and issubclass(t, BaseModel)],
]
OF_ITSELF = {
    "name",
    "model",
    "branches",
    "splits",
    "loss",
    "optimizer",
    "checkpoint",
    "candidates",
    "scheduler",
    "node",
    "periods",
    "split",
}


def undescribed(kind: type[BaseModel]) -> list[str]:
    return [name for name, field in kind.model_fields.items() if not field.description and name not in OF_ITSELF]


@pytest.mark.parametrize("kind", TYPES, ids=lambda t: t.__name__)
def test_keys_of_the_files_are_described(kind: type[BaseModel]) -> None:
    assert undescribed(kind) == []


@pytest.mark.parametrize("name", campaign.stage_kinds())
def test_keys_of_stages_are_described(name: str) -> None:
    module = importlib.import_module(f"workflow.stages.{name}")
    kinds = [
        t for t in vars(module).values() if isinstance(t, type) and issubclass(t, BaseModel) and t.__module__ == module.__name__
    ]
    assert kinds
    for kind in kinds:
        assert undescribed(kind) == [], kind.__name__


@pytest.mark.parametrize("name", backbones())
def test_options_of_backbones_are_described(name: str) -> None:
    assert undescribed(backbone_config(name)) == []


@pytest.mark.parametrize("name", readers())
def test_options_of_readers_are_described(name: str) -> None:
    assert undescribed(reader(name).Config) == []
