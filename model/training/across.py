"""What each branch's head says of the other branches' labels: how far the labels of two levels of theory disagree."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from model.checkpoint import Meta
from model.graph import AtomGraph
from model.multitask import MultiTaskModel
from model.parallel import Ranks
from model.training.metrics import error_sums, metrics_of

_ELEMENTS = 119


def errors_across(
    model: MultiTaskModel,
    meta: Meta,
    graphs_of: Callable[[str], Iterable[AtomGraph]],
    asked: Iterable[str],
    ranks: Ranks,
) -> dict[str, dict[str, dict[str, Any]]]:
    """Return the errors of every other branch's head on each branch's labels, equal on all ranks.

    Energies are residuals on both sides: the label's after its own branch's references, the prediction as its head learned
    residuals after those of its own. A structure with an element that the other branch never saw is left out.

    Args:
        model: The model.
        meta: Its description.
        graphs_of: This rank's part of a branch's structures, with that branch's labels.
        asked: Branches whose labels are compared.
        ranks: All ranks.

    Returns:
        Metrics by the branch whose labels they are, then by the branch whose head answers.
    """
    every, found = meta.branches, dict[str, dict[str, dict[str, Any]]]()
    for labels in asked:
        found[labels] = {}
        for head in (name for name in every if name != labels):
            known, index = _known(meta, head), every.index(head)
            graphs = _asked(graphs_of(labels), index, known)
            sums = error_sums(model, graphs, range(len(every)), len(every), lambda _: None)
            row = torch.stack(ranks.allgather(sums)).sum(0)[index]
            found[labels][head] = metrics_of(row)
    return found


def _known(meta: Meta, branch: str) -> Tensor:
    """Say of each atomic number whether a branch's training split has it, (119,) bool; all where it has no energies."""
    references = meta.references[branch]
    known = torch.zeros(_ELEMENTS, dtype=torch.bool)
    known[list(references.energies) if references else slice(None)] = True
    return known


def _asked(graphs: Iterable[AtomGraph], branch: int, known: Tensor) -> Iterator[AtomGraph]:
    """Yield graphs as structures of another branch, without the labels of those whose elements it does not all know."""
    for graph in graphs:
        unknown = (~known.to(graph.numbers.device)[graph.numbers]).to(torch.int64)
        out = torch.zeros_like(graph.num_atoms).index_add(0, graph.graph, unknown) > 0
        yield graph.with_(
            branch=torch.full_like(graph.branch, branch),
            energy=torch.where(out, torch.nan, graph.energy),
            forces=torch.where(out[graph.graph].unsqueeze(1), torch.nan, graph.forces),
        )
