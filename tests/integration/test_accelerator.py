"""What runs on a GPU, against the same on the CPU: `pytest -m gpu` on a machine that has one."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import training_runs as runs
import yaml
from graphs import graph_of, molecule, one_atom, triclinic
from predictors import predictor
from stores import emt_store
from structures import random_block
from torch import Tensor

from model import checkpoint, registry
from model.data.block import Block
from model.inference.predictor import Predictor
from model.multitask import MultiTaskModel, Statistics, neighbor_statistics
from model.outcome import Cause, Outcome, Status, read_outcome
from model.specs import ModelSpec

pytestmark = [pytest.mark.gpu, pytest.mark.filterwarnings("ignore:.*does not have a deterministic implementation:UserWarning")]
BACKENDS = {"cuda": "nccl", "xpu": "xccl"}
CUTOFF = 3.2


@pytest.fixture(scope="module")
def device() -> torch.device:
    found = torch.accelerator.current_accelerator(check_available=True)
    if found is None:
        pytest.skip("no GPU is here")
    return found


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("stores")
    names = {"copper": ("Cu", "Ni"), "alloy": ("Al", "Cu")}
    return {n: emt_store(folder, n, elements, 30, seed=k) for k, (n, elements) in enumerate(names.items())}


def make(backbone: str, **changes: Any) -> MultiTaskModel:
    spec = ModelSpec.model_validate({"backbone": {"name": backbone, "layers": 2, "hidden": 12}, "cutoff": CUTOFF, **changes})
    statistics = Statistics(8.0, (0.7, 1.3), neighbor_means=dict.fromkeys(neighbor_statistics(spec), 1.7))
    return MultiTaskModel(spec, ("first", "second"), statistics, seed=3).double()


def everything(model: MultiTaskModel, device: torch.device) -> dict[str, Tensor]:
    """Return energies, forces, and the gradient of a loss of both in every parameter."""
    graph = graph_of([molecule(), triclinic(), one_atom(), molecule(5, seed=1, branch=1)], CUTOFF)
    model = model.to(device)
    model.zero_grad()
    found = model.predict(graph.to(device), training=True)
    (found.energy.square().sum() + found.forces.square().sum()).backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return {n: t.detach().cpu() for n, t in {"energy": found.energy, "forces": found.forces, **gradients}.items()}


@pytest.mark.parametrize("readout", ["atom", "graph"])
@pytest.mark.parametrize("backbone", registry.backbones())
def test_a_backbone_is_the_same_on_both(device: torch.device, backbone: str, readout: str) -> None:
    model = make(backbone, readout=readout)
    here, there = everything(model, torch.device("cpu")), everything(model, device)
    assert here.keys() == there.keys()
    for name, tensor in here.items():
        assert float((tensor - there[name]).abs().max()) <= 1e-10 * max(1.0, float(tensor.abs().max())), name


def test_blending_is_the_same_on_both(device: torch.device) -> None:
    here, there = predictor(), predictor()
    block = copper()
    there = Predictor(there.model, there.meta, "fp64", device)
    weights = np.full((len(block), 3), 1 / 3)
    one, other = here.blend(block, weights), there.blend(block, weights)
    torch.testing.assert_close(other.energy.cpu(), one.energy, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(other.forces.cpu(), one.forces, rtol=1e-10, atol=1e-10)


def start(folder: Path, fields: dict[str, Any], command: str = "train") -> subprocess.Popen[str]:
    folder.mkdir()
    (folder / "config.yaml").write_text(yaml.safe_dump(fields, sort_keys=False))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(runs.ROOT), os.environ.get("PYTHONPATH", "")])}
    environment["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
    argv = [sys.executable, "-m", "model", command, "config.yaml"]
    with (folder / "log").open("w") as log:
        return subprocess.Popen(argv, cwd=folder, env=environment, stdout=log, stderr=log, text=True)


def run(folder: Path, fields: dict[str, Any], command: str = "train") -> Outcome:
    code = start(folder, fields, command).wait(300)
    outcome = read_outcome(folder)
    assert outcome is not None, (code, (folder / "log").read_text()[-2000:])
    return outcome


def on(device: torch.device, stores: dict[str, Path], **changes: Any) -> dict[str, Any]:
    return runs.config(stores, backend=BACKENDS[device.type], epochs=3, **changes)


def test_training_is_that_of_the_cpu(device: torch.device, stores: dict[str, Path], tmp_path: Path) -> None:
    fields = on(device, stores)
    assert run(tmp_path / "there", fields).status is Status.DONE
    assert run(tmp_path / "here", fields | {"backend": "gloo"}).status is Status.DONE
    there, here = runs.tensors(tmp_path / "there"), runs.tensors(tmp_path / "here")
    for name, tensor in here.items():
        torch.testing.assert_close(there[name], tensor, rtol=1e-7, atol=1e-9)


def test_a_killed_training_ends_bit_for_bit_as_the_uninterrupted_one(
    device: torch.device, stores: dict[str, Path], tmp_path: Path
) -> None:
    fields = on(device, stores, checkpoint_every_s=0.001)
    assert run(tmp_path / "plain", fields).status is Status.DONE
    process, deadline = start(tmp_path / "killed", fields), time.monotonic() + 120
    step = random.Random(1).randrange(3, 8)
    while len(runs.steps(tmp_path / "killed")) < step and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    process.wait(30)
    last = tmp_path / "killed" / "checkpoints" / "last"
    assert (last / "meta.json").exists()
    outcome = run(tmp_path / "end", fields | {"resume": str(last)})
    assert outcome.status is Status.DONE, outcome
    mine, theirs = runs.tensors(tmp_path / "plain"), runs.tensors(tmp_path / "end")
    assert [name for name in mine if not torch.equal(mine[name], theirs[name])] == []
    assert runs.standing(tmp_path / "plain") == runs.standing(tmp_path / "end")


def test_a_checkpoint_of_one_predicts_on_the_other(device: torch.device, stores: dict[str, Path], tmp_path: Path) -> None:
    assert run(tmp_path / "run", on(device, stores)).status is Status.DONE
    folder = tmp_path / "run" / "checkpoints" / "last"
    block = copper()
    energies = [Predictor.load(folder, device=d).predict(block, "copper") for d in (device, torch.device("cpu"))]
    np.testing.assert_allclose(energies[0].energy, energies[1].energy, rtol=1e-10)
    np.testing.assert_allclose(energies[0].forces, energies[1].forces, rtol=1e-9, atol=1e-10)
    assert checkpoint.read_meta(folder).precision == "fp64"


def test_beyond_the_memory_that_it_may_use_is_oom(device: torch.device, stores: dict[str, Path], tmp_path: Path) -> None:
    outcome = run(tmp_path / "run", on(device, stores, memory_gb=0.0001))
    assert (outcome.status, outcome.cause) == (Status.FAILED, Cause.OOM), outcome
    assert "GB" in outcome.message


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_low_precision_trains(device: torch.device, stores: dict[str, Path], tmp_path: Path, precision: str) -> None:
    outcome = run(tmp_path / precision, on(device, stores, precision=precision))
    assert outcome.status is Status.DONE, outcome
    assert np.isfinite(outcome.result["objective"])


def copper(count: int = 8) -> Block:
    """Return random clusters of an element that every branch with it knows."""
    block = random_block(count, 5)
    return replace(block, numbers=np.full_like(block.numbers, 29))
