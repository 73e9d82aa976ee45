"""Means over the training split's neighbours: the same on every layout of ranks, kept by whatever goes on from them."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import training_runs as runs
from graphs import System, graph_of
from stores import SPLITS, emt_store

from model import checkpoint
from model.config import FinetuneConfig, TrainConfig
from model.data.block import Block
from model.inference.predictor import Predictor
from model.multitask import Statistics
from model.outcome import CampaignError, Outcome, Status
from model.parallel import Ranks
from model.training import finetune, trainer
from model.training.branches import read_split

MODEL = {"backbone": {"name": "pnaeq", "layers": 2, "hidden": 8}, "cutoff": 4.0, "head_hidden": 8}


def config(stores: dict[str, Path], **changes: Any) -> dict[str, Any]:
    return runs.config(stores, model=MODEL, epochs=1) | changes


def statistics(folder: Path) -> Statistics:
    return checkpoint.read_meta(folder / "checkpoints" / "last").statistics


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("stores")
    names = {"copper": ("Cu", "Ni"), "alloy": ("Al", "Cu")}
    return {n: emt_store(folder, n, elements, 30, seed=k) for k, (n, elements) in enumerate(names.items())}


@pytest.fixture(scope="module")
def plain(stores: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plain") / "run"
    assert runs.run(folder, config(stores), 1).status is Status.DONE
    return folder


def test_they_are_means_over_the_atoms_of_the_training_split(plain: Path, stores: dict[str, Path]) -> None:
    """Counted again over all pairs and images, one envelope after another."""
    counts, degrees = [], []
    for store in stores.values():
        for system in systems(read_split(store, SPLITS, "train")):
            graph = graph_of(system, MODEL["cutoff"])
            x = graph.edge_vectors().norm(dim=-1) / MODEL["cutoff"]
            envelope = 1 - 10 * x**3 + 15 * x**4 - 6 * x**5
            for atom in range(len(system.numbers)):
                counts.append(int((graph.edge_index[1] == atom).sum()))
                degrees.append(1 + float(envelope[graph.edge_index[1] == atom].sum()))
    found = statistics(plain)
    assert found.average_neighbors == pytest.approx(np.mean(counts))
    assert found.neighbor_means["degree"] == pytest.approx(np.mean(degrees), rel=1e-6)
    assert found.neighbor_means["log_degree"] == pytest.approx(np.mean([math.log1p(n) for n in degrees]), rel=1e-6)


def systems(block: Block) -> list[System]:
    spans = zip(block.offsets[:-1], block.offsets[1:], strict=True)
    cells = [torch.from_numpy(cell) if pbc.any() else None for cell, pbc in zip(block.cell, block.pbc, strict=True)]
    atoms = [(torch.from_numpy(block.numbers[a:b].astype(int)), torch.from_numpy(block.positions[a:b])) for a, b in spans]
    return [System(numbers, positions, cell) for (numbers, positions), cell in zip(atoms, cells, strict=True)]


@pytest.mark.parametrize(("layout", "ranks"), [("data", 2), ("branch", 2)])
def test_every_layout_has_the_same(plain: Path, stores: dict[str, Path], tmp_path: Path, layout: str, ranks: int) -> None:
    assert runs.run(tmp_path / "run", config(stores, layout=layout), ranks).status is Status.DONE
    assert statistics(tmp_path / "run") == statistics(plain)


def test_they_are_buffers_of_whatever_is_made_from_the_checkpoint(plain: Path) -> None:
    means = statistics(plain).neighbor_means
    model, _ = checkpoint.load_model(plain / "checkpoints" / "best")
    screened = Predictor.load(plain / "checkpoints" / "best").model
    for loaded in (model, screened):
        buffers = dict(loaded.backbone.named_buffers())
        assert {name: float(buffers[f"average_{name}"]) for name in means} == means


def started(plain: Path, stores: dict[str, Path], how: str) -> tuple[Callable[..., Outcome], TrainConfig]:
    """Return a command that goes on from the plain run, or does not, and its configuration."""
    best, last = (str(plain / "checkpoints" / name) for name in ("best", "last"))
    if how == "resumed":
        return trainer.run, TrainConfig.model_validate(config(stores, epochs=2, resume=last))
    alloy = {"alloy": stores["alloy"]}
    if how == "begun":
        return trainer.run, TrainConfig.model_validate(config(alloy, init=best))
    changes = {"checkpoint": best if how == "unfrozen" else None, "strategy": how}
    return finetune.run, FinetuneConfig.model_validate(config(alloy, **changes))


@pytest.mark.parametrize("how", ["resumed", "begun", "unfrozen", "scratch"])
def test_what_starts_from_a_checkpoint_keeps_its_means(plain: Path, stores: dict[str, Path], tmp_path: Path, how: str) -> None:
    """On other data, too, because the weights were trained under these; what starts from nothing has its own."""
    command, task = started(plain, stores, how)
    assert command(task, tmp_path, Ranks()).status is Status.DONE
    expected, found = statistics(plain), statistics(tmp_path)
    assert (found.neighbor_means == expected.neighbor_means) == (how != "scratch")
    assert (found.average_neighbors == expected.average_neighbors) == (how != "scratch")


def test_a_checkpoint_without_them_is_refused(plain: Path, tmp_path: Path) -> None:
    checkpoint.duplicate(plain / "checkpoints" / "best", tmp_path / "old", None)
    path = tmp_path / "old" / checkpoint.META_FILE
    path.write_text(path.read_text().replace('"log_degree"', '"other"'))
    with pytest.raises(CampaignError, match="mean log_degree, which is not given"):
        checkpoint.load_model(tmp_path / "old")
