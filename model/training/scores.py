"""How well scalars and classes are predicted, beside what knows nothing of structures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from model.data.targets import Target
from model.parallel import Ranks
from model.training.loss import Deviations
from model.training.metrics import metrics_of

Values = NDArray[np.float64]


class Scores:
    """Gather labels and predictions of the branches that predict a target; their scores are no sums over structures.

    Args:
        branches: Branches, as `AtomGraph.branch` counts.
        targets: Targets, by branch; other branches are passed over.
    """

    def __init__(self, branches: Sequence[str], targets: Mapping[str, Target]) -> None:
        self._targets = {index: (name, targets[name]) for index, name in enumerate(branches) if name in targets}
        self._rows: dict[str, list[Values]] = {name: [] for name, _ in self._targets.values()}

    def see(self, deviations: Deviations) -> None:
        """Take in one batch."""
        if not self._targets:
            return
        graph = deviations.graph
        pairs = deviations.targets().cpu().numpy()
        branch, num_atoms = graph.branch.cpu().numpy(), graph.num_atoms.cpu().numpy()
        numbers = np.split(graph.numbers.cpu().numpy(), np.cumsum(num_atoms)[:-1])
        for index, (name, target) in self._targets.items():
            rows = np.flatnonzero((branch == index) & np.isfinite(pairs[:, 0]))
            if len(rows):
                composition = target.by_composition(np.concatenate([numbers[row] for row in rows]), num_atoms[rows])
                self._rows[name].append(np.column_stack([pairs[rows], composition]))

    def metrics(self, targets: Mapping[str, Target], ranks: Ranks) -> dict[str, dict[str, Any]]:
        """Return the scores of each branch over all ranks, equal on all of them, however they divided the work.

        Args:
            targets: Targets by branch, of all ranks; where there are none, the ranks do not meet.
            ranks: All ranks.
        """
        if not targets:
            return {}
        empty = np.zeros((0, 3))
        gathered = ranks.allgather({name: np.concatenate([empty, *rows]) for name, rows in self._rows.items()})
        return {
            name: scores_of(np.concatenate([empty, *(part[name] for part in gathered if name in part)]), target)
            for name, target in targets.items()
        }


def metrics_by_branch(branches: Sequence[str], sums: Tensor, scores: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the metrics of every branch: scores where it predicts a target, errors of energies and forces elsewhere.

    Args:
        branches: Branches in the order of the rows of `sums`.
        sums: What `error_sums` gives, over all ranks, (num_branches, COLUMNS).
        scores: Of the branches that predict a target.
    """
    found: dict[str, dict[str, Any]] = {}
    for name, row in zip(branches, sums, strict=True):
        errors = metrics_of(row)
        found[name] = scores[name] | {"num_structures": errors["num_structures"]} if name in scores else errors
    return found


def scores_of(rows: Values, target: Target) -> dict[str, Any]:
    """Return the scores of one branch; None where there is nothing to score.

    Args:
        rows: Label and output as the model learns them, and the scalar by composition, (n, 3).
        target: What is predicted.
    """
    labels, outputs, composition = rows.T
    if target.kind == "class":
        return class_scores(labels, outputs, target.mean)
    return scalar_scores(target.restore(labels), target.restore(outputs), composition, target)


@np.errstate(invalid="ignore", over="ignore")
def scalar_scores(labels: Values, predictions: Values, composition: Values, target: Target) -> dict[str, Any]:
    """Return errors in the scalar's unit, beside the mean errors of two guesses made from the training split.

    Args:
        labels: (n,).
        predictions: (n,).
        composition: Least squares on the shares of the elements, (n,).
        target: Its mean is the other guess.
    """
    errors = np.abs(predictions - labels)
    return {
        "kind": "scalar",
        "unit": target.unit,
        "target_mae": _mean(errors),
        "target_rmse": None if (square := _mean(errors**2)) is None else math.sqrt(square),
        "target_max_error": float(errors.max()) if len(errors) else None,
        "target_mean_baseline": _mean(np.abs(target.mean - labels)),
        "target_composition_baseline": _mean(np.abs(composition - labels)),
        "num_targets": len(labels),
    }


@np.errstate(invalid="ignore", over="ignore")
def class_scores(labels: Values, log_odds: Values, share: float) -> dict[str, Any]:
    """Return scores of telling class 1 from class 0, beside those of always answering the training split's majority.

    By chance the area under the ROC curve is ½.

    Args:
        labels: 0 or 1, (n,).
        log_odds: Of class 1, (n,); above 0 the answer is 1.
        share: Share of class 1 in the training split.
    """
    answers, majority = log_odds > 0.0, np.full(len(labels), share > 0.5)
    return {
        "kind": "class",
        "roc_auc": roc_auc(labels, log_odds),
        "f1": f1(labels, answers),
        "accuracy": _mean(answers == labels),
        "cross_entropy": _mean(np.logaddexp(0.0, log_odds) - labels * log_odds),
        "majority_f1": f1(labels, majority),
        "majority_accuracy": _mean(majority == labels),
        "num_targets": len(labels),
        "num_positives": int(labels.sum()),
    }


def roc_auc(labels: Values, scores: Values) -> float | None:
    """Return the chance that one of class 1 scores above one of class 0, ties counting half; None with one class only.

    It is the area under the ROC curve (Hanley and McNeil, Radiology 143, 29, 1982), not a number where a score is none.
    """
    positives = int(labels.sum())
    negatives = len(labels) - positives
    if not positives or not negatives:
        return None
    if not np.isfinite(scores).all():
        return math.nan
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = np.cumsum(counts) - 0.5 * (counts - 1)
    above = float(ranks[place[labels == 1.0]].sum()) - 0.5 * positives * (positives + 1)
    return above / (positives * negatives)


def f1(labels: Values, answers: NDArray[np.bool_]) -> float | None:
    """Return the F1 score of class 1; None where neither labels nor answers have it."""
    positives = int(labels.sum()) + int(answers.sum())
    return 2.0 * float(labels[answers].sum()) / positives if positives else None


def _mean(values: NDArray) -> float | None:
    """Return the mean, the same in whatever order the values come; not finite where one of them is not."""
    return float(np.sort(values).sum()) / len(values) if len(values) else None
