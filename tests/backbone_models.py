"""A small FP64 model of each backbone and the structures that all of them are held to."""

from __future__ import annotations

import torch
from graphs import graph_of, molecule, one_atom, triclinic

from model import registry
from model.multitask import MultiTaskModel, Statistics, neighbor_statistics
from model.specs import ModelSpec

CUTOFF = 3.2
SYSTEMS = {"molecule": molecule(), "triclinic": triclinic(), "one_atom": one_atom()}
BACKBONES = registry.backbones()


def make(backbone: str, **changes) -> MultiTaskModel:
    options = {"name": backbone, "layers": 2, "hidden": 12}
    spec = ModelSpec.model_validate({"backbone": options, "cutoff": CUTOFF, "head_hidden": 8, **changes})
    statistics = Statistics(8.0, (0.7, 1.3), neighbor_means=dict.fromkeys(neighbor_statistics(spec), 1.7))
    model = MultiTaskModel(spec, ("first", "second"), statistics, seed=3).double()
    model.requires_grad_(False)
    return model


def predict(model, systems):
    return model.predict(graph_of(systems, CUTOFF), training=False)


def energy(model, system) -> float:
    return float(predict(model, system).energy)


def strained(model, system, strain):
    """Return the energy by the first branch of a structure whose atoms and cell are strained."""
    graph = graph_of(system, CUTOFF)
    turn = torch.eye(3, dtype=torch.float64) + strain
    return model.all_branches(graph.with_(positions=graph.positions @ turn, cell=graph.cell @ turn))[0].sum()
