"""`python -m model finetune`: one task by one strategy, its best epoch chosen on validation and tested once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from model.config import FinetuneConfig
from model.data.division import divide
from model.data.part import outlines
from model.data.splits import TEST
from model.data.store import Store
from model.outcome import CampaignError, Outcome, Status
from model.parallel import Ranks
from model.training.assembly import BACKBONE, Start
from model.training.branches import num_labelled
from model.training.evaluate import Question, measure, unasked
from model.training.parity import Parity
from model.training.trainer import BEST, progress_of, train


def run(config: FinetuneConfig, folder: Path, ranks: Ranks) -> Outcome:
    """Train on the task, then test the epoch that was best on validation.

    Per-element references are fitted on the task's own training split; the task's head is new unless the
    checkpoint has a branch of the same name. What the task's store labels settles what is predicted: energies and forces,
    or a scalar or class by a head that reads the mean of a structure's atoms.
    """
    start, progress = start_of(config), progress_of(config, folder, ranks)
    if not ranks.bcast(_can_validate(config) if ranks.is_first else None):
        raise CampaignError("no validation to choose an epoch by", "splits.validation", "Give the task a validation split.")
    outcome = train(config, folder, ranks, start, progress)
    if outcome.status is not Status.DONE:
        return outcome
    question = Question(folder / BEST, config.branches, config.splits, "test", config.evaluated_at_once(ranks.size))
    parity = Parity(question.split)
    tested = measure(question, config, ranks, progress, parity)
    outputs = outcome.outputs | {"parity": parity.write(folder, ranks, config.owner)}
    table = {"validation": outcome.result["metrics"], "test": tested["metrics"], "test_objective": tested["objective"]}
    table["shared"] = ranks.bcast(_shared(config) if ranks.is_first else None)
    message = "; ".join(filter(None, (outcome.message, *unasked(tested))))
    return replace(outcome, message=message, result=outcome.result | table | {"strategy": config.strategy}, outputs=outputs)


def _can_validate(config: FinetuneConfig) -> bool:
    """Say whether any label is there to choose an epoch by: before the training, not after it."""
    stores = [spec.store for spec in config.branches.values()]
    return any(num_labelled(store, config.splits, "validation", config.division) for store in stores)


def _shared(config: FinetuneConfig) -> dict[str, int]:
    """Count the test structures, and those whose identity the task has trained on or chosen its epoch by.

    By hash there are none; folds by row, and sources whose identity is the frame, may part copies of one thing.
    """
    seen = tested = 0
    for spec in config.branches.values():
        block = outlines(Store.open(spec.store))
        is_test = divide(block, config.splits, config.division) == TEST
        seen += int(np.isin(block.identity[is_test], block.identity[~is_test]).sum())
        tested += int(is_test.sum())
    return {"tested": tested, "identity_in_training": seen}


def start_of(config: FinetuneConfig) -> Start:
    """Return where a strategy takes its weights from, and which it keeps.

    Raises:
        CampaignError: A strategy that needs a checkpoint has none, `scratch` has one, or it is given as `init`.
    """
    if config.init is not None:
        raise CampaignError("fine-tuning starts from `checkpoint`, not from `init`", "init", "Give it as `checkpoint`.")
    if config.strategy == "scratch":
        if config.checkpoint is not None:
            raise CampaignError("`scratch` starts from random weights", "checkpoint", "Leave `checkpoint` out.")
        return Start()
    if config.checkpoint is None:
        raise CampaignError(f"strategy '{config.strategy}' needs a trained model", "checkpoint", "Give a checkpoint folder.")
    return Start(config.checkpoint, (BACKBONE,) if config.strategy == "frozen" else ())
