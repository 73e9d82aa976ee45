"""The training loop on one rank: checkpoints beside it, pieces of a batch, patience, generators."""

from __future__ import annotations

import errno
import json
import threading
import time
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
import training_runs as runs
from graphs import graph_of, molecule, one_atom, triclinic
from stores import emt_store
from torch import Tensor
from torch.autograd import Function

from model import checkpoint
from model.config import TrainConfig
from model.device import MemoryLimit
from model.faults import Diverged, cause_of
from model.feasibility import MARGIN, Batch, training_gb
from model.graph import AtomGraph
from model.multitask import MultiTaskModel
from model.outcome import CampaignError, Cause, Outcome, Status
from model.parallel import Ranks
from model.prediction import Prediction
from model.training import assembly, trainer
from model.training.accumulation import Accumulation
from model.training.state import Standing
from model.training.stepping import Stepper


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("stores")
    names = {"copper": ("Cu", "Ni"), "alloy": ("Al", "Cu")}
    return {n: emt_store(folder, n, elements, 30, seed=k) for k, (n, elements) in enumerate(names.items())}


def train(folder: Path, stores: dict[str, Path], **changes: Any) -> Outcome:
    folder.mkdir(exist_ok=True)
    return trainer.run(TrainConfig.model_validate(runs.config(stores, **changes)), folder, Ranks())


@pytest.fixture(scope="module")
def plain(stores: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plain")
    assert train(folder, stores).status is Status.DONE
    return folder


def metrics(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def slow_writer(folder: Path, total: int) -> Callable[..., Any]:
    """Return a writer that writes only once training has made three further steps, where there are so many left."""
    write = checkpoint.write_groups

    def wait_and_write(*args: Any) -> Any:
        assert threading.current_thread() is not threading.main_thread()
        wanted, deadline = min(total, len(runs.steps(folder)) + 3), time.monotonic() + 60
        while len(runs.steps(folder)) < wanted:
            if time.monotonic() > deadline:
                raise OSError(errno.ETIME, "training waits for its checkpoint")
            time.sleep(0.002)
        return write(*args)

    return wait_and_write


def record_commits(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, torch.Tensor]]:
    """Return a list that grows by the weights of every checkpoint that is renamed into place."""
    committed: list[dict[str, torch.Tensor]] = []
    commit = checkpoint.commit

    def seen(folder: Path, meta: checkpoint.Meta, *rest: Any) -> None:
        commit(folder, meta, *rest)
        groups = checkpoint.load_groups(folder, checkpoint.read_meta(folder))
        committed.append({name: state.weights for name, state in groups.items()})

    monkeypatch.setattr(checkpoint, "commit", seen)
    return committed


def test_training_goes_on_while_a_checkpoint_is_written(
    stores: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is written is the state at the time of the copy, although the tensors have moved on by then."""
    expected = record_commits(monkeypatch)
    assert train(tmp_path / "plain", stores).status is Status.DONE
    monkeypatch.undo()
    monkeypatch.setattr(checkpoint, "write_groups", slow_writer(tmp_path / "slow", len(runs.steps(tmp_path / "plain"))))
    found = record_commits(monkeypatch)
    outcome = train(tmp_path / "slow", stores)
    assert outcome.status is Status.DONE and len(found) == len(expected) == 2
    for mine, theirs in zip(expected, found, strict=True):
        assert mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)
    assert not torch.equal(found[0]["backbone"], found[1]["backbone"])
    assert outcome.result["checkpoints"]["written_s"] > 0


def test_a_checkpoint_that_cannot_be_written_ends_the_training(
    stores: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fault of the thread is the training's; the checkpoint before stands whole."""
    write, calls = checkpoint.write_groups, iter(range(9))

    def full_disk(*args: Any) -> Any:
        if next(calls) >= 1:
            raise OSError(errno.ENOSPC, "no space left on device")
        return write(*args)

    monkeypatch.setattr(checkpoint, "write_groups", full_disk)
    with pytest.raises(OSError, match="no space left"):
        train(tmp_path, stores, epochs=3)
    _, meta = checkpoint.load_model(tmp_path / "checkpoints" / "last")
    assert meta.epoch == 1 and cause_of(OSError(errno.ENOSPC, "")) is Cause.STORAGE


@pytest.mark.parametrize("micro_batch", [1, 3])
def test_pieces_of_a_batch_train_the_same_model(micro_batch: int, stores: dict[str, Path], plain: Path, tmp_path: Path) -> None:
    assert train(tmp_path, stores, micro_batch=micro_batch).status is Status.DONE
    require_same(plain, tmp_path)


def test_pieces_chosen_by_the_memory_model_train_the_same_model(
    stores: dict[str, Path], plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a device so small that not even this process fits: the memory is stated to what cuts batches, not to the kernel."""
    cut, counts = Accumulation.pieces, list[int]()

    def pieces(accumulation: Accumulation, graph: AtomGraph) -> list[AtomGraph]:
        found = cut(accumulation, graph)
        counts.append(len(found))
        return found

    monkeypatch.setattr(Accumulation, "pieces", pieces)
    monkeypatch.setattr(assembly, "MemoryLimit", lambda _, device: MemoryLimit(None, device))
    assert train(tmp_path, stores, micro_batch="auto", memory_gb=6e-4).status is Status.DONE
    assert len(counts) == len(runs.steps(tmp_path)) and 1 < max(counts) < 7, counts
    require_same(plain, tmp_path)


class Overflows(Function):
    """The identity, whose gradient is infinite."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return grads[0] * torch.inf


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_divergence_names_what_caused_it(
    what: str, stores: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a loss the structures that are not finite, all of a batch where only its gradient is not."""
    step, predict, batch = Stepper.step, MultiTaskModel.predict, list[tuple[str, int]]()

    def watched(stepper: Stepper, graph: AtomGraph, counts: Tensor, standing: Standing, rate: float) -> Tensor:
        ids = stepper._parts.batches.ids(standing.epoch, standing.step)
        batch[:] = zip(ids, graph.num_atoms.tolist(), strict=True)
        return step(stepper, graph, counts, standing, rate)

    def wrong(model: MultiTaskModel, graph: AtomGraph, **keys: Any) -> Prediction:
        found = predict(model, graph, **keys)
        missing = torch.where(graph.num_atoms == 5, torch.nan, 1.0)
        return replace(found, energy=found.energy * missing if what == "loss" else Overflows.apply(found.energy))

    monkeypatch.setattr(Stepper, "step", watched)
    monkeypatch.setattr(MultiTaskModel, "predict", wrong)
    with pytest.raises(Diverged, match=f"{what} not finite at epoch 0, step ") as caught:
        train(tmp_path, stores, micro_batch=2)
    named = str(caught.value).partition("structures: ")[2].split(", ")
    assert named == [name for name, atoms in batch if what == "gradient" or atoms == 5]
    assert named and (what == "gradient") == (len(named) == len(batch))


def require_same(plain: Path, other: Path) -> None:
    """Require weights, moments, averages, losses and steps of two trainings to be the same but for the rounding of sums."""
    expected, found = runs.tensors(plain), runs.tensors(other)
    assert expected.keys() == found.keys()
    for name in expected:
        assert (expected[name] - found[name]).abs().max() <= 1e-10 * expected[name].abs().max(), name
    assert [line["step"] for line in metrics(other)] == [line["step"] for line in metrics(plain)], "the global batch is kept"
    for mine, theirs in zip(metrics(plain), metrics(other), strict=True):
        assert mine["train"]["loss"] == pytest.approx(theirs["train"]["loss"], rel=1e-10)


def test_pieces_are_the_structures_one_by_one() -> None:
    systems = [molecule(4), triclinic(), molecule(1), molecule(7, seed=2, branch=1), one_atom()]
    graph, config = graph_of(systems, 4.0), accumulating(2)
    whole = [graph_of(systems[k : k + 2], 4.0) for k in (0, 2, 4)]
    for mine, theirs in zip(whole, Accumulation(config, 2).pieces(graph), strict=True):
        for field in fields(mine):
            a, b = (getattr(each, field.name) for each in (mine, theirs))
            assert (a is None and b is None) or torch.equal(a, b) or bool(a.isnan().all() and b.isnan().all()), field.name
    assert Accumulation(accumulating(None), 2).pieces(graph) == [graph]


def test_auto_cuts_by_the_memory_that_is_stated() -> None:
    """As few pieces as the memory model allows, the same every time; a structure that is too large stands alone."""
    systems = [molecule(5 + k, seed=k) for k in range(12)]
    graph = graph_of(systems, 4.0)
    pieces = {gb: Accumulation(accumulating("auto", memory_gb=gb), 2).pieces(graph) for gb in (1e-4, 1e-3, 2e-3, 50.0)}
    assert [len(found) for found in pieces.values()] == sorted((len(found) for found in pieces.values()), reverse=True)
    assert len(pieces[1e-4]) == 12 and len(pieces[50.0]) == 1 and 1 < len(pieces[1e-3]) < 12
    config = accumulating("auto", memory_gb=1e-3)

    def need(piece: AtomGraph) -> float:
        neighbors = torch.bincount(piece.edge_index[1])
        batch = Batch(len(piece.numbers), piece.edge_index.shape[1], int(neighbors.square().sum()))
        return MARGIN * training_gb(config, 2, 1, batch)

    assert all(need(piece) <= 1e-3 for piece in pieces[1e-3] if piece.num_graphs > 1)
    with pytest.raises(CampaignError, match="needs the memory of a device"):
        Accumulation(accumulating("auto"), 2)


def accumulating(micro_batch: int | str | None, **changes: Any) -> TrainConfig:
    fields = runs.config({"a": Path("a")}, micro_batch=micro_batch, optimizer={"ema": None}, **changes)
    return TrainConfig.model_validate(fields)


def test_training_ends_when_validation_stops_getting_better(stores: dict[str, Path], tmp_path: Path) -> None:
    """Steps too small to change a number: the first epoch is the best, the rate is cut, and training ends by the count."""
    still = {"learning_rate": 1e-300, "warmup_steps": 0, "schedule": "plateau", "plateau_patience": 2, "plateau_factor": 0.1}
    outcome = train(tmp_path, stores, optimizer=still, epochs=9, early_stop=5)
    assert outcome.status is Status.DONE and "no better than the best" in outcome.message
    assert (outcome.result["epochs"], len(metrics(tmp_path))) == (6, 6)
    assert [line["learning_rate"] for line in metrics(tmp_path)] == pytest.approx([1e-300] * 2 + [1e-301] * 2 + [1e-302] * 2)
    best, last = (checkpoint.read_meta(tmp_path / "checkpoints" / name) for name in ("best", "last"))
    assert (best.epoch, last.epoch, last.state["standing"]["patience"]) == (1, 6, {"stale": 5, "waited": 1, "cuts": 2})
    again = train(tmp_path / "again", stores, optimizer=still, epochs=9, early_stop=5, resume=tmp_path / "checkpoints" / "last")
    assert again.status is Status.DONE and again.result["epochs"] == 6 and runs.steps(tmp_path / "again") == []


def test_steps_draw_nothing_and_a_resumed_training_has_the_generator_of_the_first(
    stores: dict[str, Path], plain: Path, tmp_path: Path
) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    fields = {"stop": str(tmp_path / "stop"), "epochs": 2}
    (tmp_path / "stop").touch()
    assert train(tmp_path / "half", stores, **fields).status is Status.PARTIAL
    assert torch.equal(torch.get_rng_state(), before), "weights and order come from hashes"
    torch.manual_seed(6)
    assert train(tmp_path / "end", stores, resume=tmp_path / "half" / "checkpoints" / "last").status is Status.DONE
    assert torch.equal(torch.get_rng_state(), before)
    expected, found = runs.tensors(plain), runs.tensors(tmp_path / "end")
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_an_empty_validation_split_is_said_and_nothing_waits_for_it(stores: dict[str, Path], tmp_path: Path) -> None:
    blind = {"splits": {"seed": 1, "validation": 0.0, "test": 0.2}, "epochs": 1}
    outcome = train(tmp_path, stores, **blind)
    assert outcome.status is Status.DONE and "best" not in outcome.outputs and outcome.result["objective"] is None
    assert "no structure to validate on: no epoch is the best, the last one counts" in outcome.message
    for keys, name in (({"early_stop": 2}, "early_stop"), ({"optimizer": {"schedule": "plateau"}}, "schedule: plateau")):
        with pytest.raises(
            CampaignError, match=f"no structure of copper, alloy to validate on, and `{name}` would wait"
        ) as caught:
            train(tmp_path, stores, **blind, **keys)
        assert caught.value.where == "splits.validation" and "or take" in caught.value.remedy
        assert cause_of(caught.value) is Cause.BAD_CONFIG
