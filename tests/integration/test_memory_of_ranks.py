"""Memory of each rank of a training, as foretold: tensors of whole steps while a checkpoint is written, in every layout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mpi_programs
import pytest
import training_runs as runs
from stores import emt_store

from model.config import TrainConfig
from model.feasibility import Batch, training_gb

PROGRAM = """
import io, json
import torch
from torch.profiler import ProfilerActivity, profile
from model.config import TrainConfig
from model.device import prepare
from model.kernels import build
from model.timers import Timers
from model.training.assembly import Start, assemble
from model.training.state import Standing, groups_of
from model.training.stepping import Stepper

build.load = lambda _: build.Kernel(None, "plain torch is foretold")
config = TrainConfig.model_validate(json.loads(argv[0]))
prepare(config)
with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
    assembly = assemble(config, ranks, Start())
    stepper, standing, batch = Stepper(assembly, Timers()), Standing(), [0, 0, 0]
    for number in range(2):
        graph = assembly.batches.graph(0, number)
        if number:  # as `Saver.begin`: what a thread writes is a copy, and the step goes on beside it
            copies = [state.copied() for state in groups_of(assembly).values()]
        if graph is not None:
            near = torch.bincount(graph.edge_index[1], minlength=len(graph.numbers))
            counts = (len(graph.numbers), graph.edge_index.shape[1], int(near.square().sum()))
            batch = [max(pair) for pair in zip(batch, counts)]
        agreement = stepper.agree(graph, (False,))
        stepper.step(graph, agreement.counts, standing, 1e-3)
live = peak = 0
for event in record.profiler.kineto_results.events():
    if event.name() == "[memory]":
        live += event.nbytes()
        peak = max(peak, live)
files = [0]  # Python's bytes are no tensors: the files as they are made, one after the other
for state in copies:
    torch.save(vars(state), buffer := io.BytesIO())
    files.append(buffer.getbuffer().nbytes)
every = ranks.allgather(((peak + max(files)) / 1e9, len(assembly.own), batch))
assembly.close()
if ranks.is_first:
    print(json.dumps(every))
"""


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("stores")
    kinds = {"copper": ("Cu", "Ni"), "alloy": ("Al", "Cu"), "noble": ("Au", "Ag")}
    return {name: emt_store(folder, name, elements, 20, seed=k) for k, (name, elements) in enumerate(kinds.items())}


@pytest.mark.parametrize(
    ("ranks", "changes"),
    [
        (1, {}),
        pytest.param(1, {"optimizer": {}, "batch": 12, "precision": "fp32"}, marks=pytest.mark.slow),
        (3, {"layout": "branch"}),
        (2, {"shard": True}),
        pytest.param(3, {"shard": True, "layout": "branch"}, marks=pytest.mark.slow),
    ],
)
def test_ranks_hold_what_is_foretold(ranks: int, changes: dict[str, Any], stores: dict[str, Path]) -> None:
    wide = {"backbone": {"name": "painn", "layers": 3, "hidden": 160}, "cutoff": 4.5, "head_hidden": 400}
    fields = runs.config(stores, model=wide, **changes)
    (line,) = mpi_programs.run(PROGRAM, ranks, json.dumps(fields))
    config, measured = TrainConfig.model_validate(fields), json.loads(line)
    foretold = [training_gb(config, heads, ranks, Batch(*batch)) for _, heads, batch in measured]
    assert max(peak for peak, *_ in measured) == pytest.approx(max(foretold), rel=0.12), (measured, foretold)
    assert all(peak <= 1.1 * each for (peak, *_), each in zip(measured, foretold, strict=True)), (measured, foretold)
