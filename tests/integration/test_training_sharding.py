"""The divided backbone has the gradient of the whole one, in every backbone, with force losses, pieces and an idle rank."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import training_runs as runs

PROGRAM = """
import json, sys
from model import parallel
ranks = parallel.discover()
import torch
from graphs import graph_of, molecule, triclinic
from model import registry
from model.specs import ModelSpec
from model.mesh import Mesh
from model.multitask import MultiTaskModel, unit_statistics
from model.precision import apply
from model.training.accumulation import pair_without_labels
from model.training.sharding import Shards

torch.set_num_threads(1)
mesh = Mesh(ranks, "gloo")
graphs = [graph_of([molecule(6, seed=1, branch=1), triclinic()], 4.0), graph_of(molecule(5, seed=2), 4.0)]
small = {"mace": {"hidden": 4}, "dimenet": {"hidden": 6}}
worst = {}


def make(spec):
    model = MultiTaskModel(spec, ("a", "b"), unit_statistics(spec, 2), seed=3)
    apply(model, "fp64")
    return model


def loss_of(model, graph, weight=1.0):
    found = model.predict(graph, training=True)
    return weight * (found.energy.square().sum() + found.forces.square().sum())


for name in registry.backbones():
    spec = ModelSpec(backbone={"name": name, **small.get(name, {"hidden": 7})}, cutoff=4.0, head_hidden=5)
    whole, divided = make(spec), make(spec)
    for graph in graphs:
        loss_of(whole, graph).backward()
    shards = Shards(divided.backbone, "backbone", mesh, torch.device("cpu"))
    if ranks.rank == 0:  # two pieces; the other rank has none and meets it with a molecule that counts nothing
        for graph, last in zip(graphs, (False, True)):
            with shards.held():
                loss = loss_of(divided, graph)
            if last:
                loss.backward()
            else:
                with shards.held():
                    loss.backward()
    else:
        with shards.held():
            loss = loss_of(divided, pair_without_labels(shards.weights, 2.0), 0.0)
        loss.backward()
    shards.reduce(mesh)
    found = shards.whole(shards.gradient, "backbone")
    named = dict(whole.backbone.named_parameters())
    expected = torch.cat([named[key].grad.flatten() if named[key].grad is not None else torch.zeros(named[key].numel())
                          for key in sorted(named)])
    assert 0 < len(shards.weights) < len(expected)
    worst[name] = float((found - expected).abs().max() / expected.abs().max())
if ranks.is_first:
    print(json.dumps(worst))
mesh.close()
"""


def test_a_divided_backbone_has_the_gradient_of_the_whole_one(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    environment = {**os.environ, "PYTHONPATH": f"{runs.ROOT}:{runs.ROOT / 'tests'}", "OMP_NUM_THREADS": "1"}
    argv = [str(runs.MPIEXEC), "-n", "2", sys.executable, str(tmp_path / "program.py")]
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    worst = json.loads(done.stdout.splitlines()[-1])
    assert len(worst) == 6 and max(worst.values()) <= 1e-12, worst
