"""`python -m model finetune`: one task by one strategy, its best epoch chosen on validation and tested once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from model.config import FinetuneConfig
from model.outcome import CampaignError, Outcome, Status
from model.parallel import Ranks
from model.training.assembly import BACKBONE, Start
from model.training.evaluate import Question, measure
from model.training.trainer import BEST, progress_of, train


def run(config: FinetuneConfig, folder: Path, ranks: Ranks) -> Outcome:
    """Train on the task, then test the epoch that was best on validation.

    Per-element references are fitted on the task's own training split; the task's head is new unless the
    checkpoint has a branch of the same name.
    """
    progress = progress_of(config, folder, ranks)
    outcome = train(config, folder, ranks, start_of(config), progress)
    if outcome.status is not Status.DONE:
        return outcome
    if "best" not in outcome.outputs:
        raise CampaignError("no validation to choose an epoch by", "splits.validation", "Give the task a validation split.")
    question = Question(folder / BEST, config.branches, config.splits, "test", config.batch)
    tested = measure(question, config, ranks, progress)
    table = {"validation": outcome.result["metrics"], "test": tested["metrics"], "test_objective": tested["objective"]}
    return replace(outcome, result=outcome.result | table | {"strategy": config.strategy})


def start_of(config: FinetuneConfig) -> Start:
    """Return where a strategy takes its weights from, and which it keeps.

    Raises:
        CampaignError: A strategy that needs a checkpoint has none, or `scratch` has one.
    """
    if config.strategy == "scratch":
        if config.checkpoint is not None:
            raise CampaignError("`scratch` starts from random weights", "checkpoint", "Leave `checkpoint` out.")
        return Start()
    if config.checkpoint is None:
        raise CampaignError(f"strategy '{config.strategy}' needs a trained model", "checkpoint", "Give a checkpoint folder.")
    return Start(config.checkpoint, (BACKBONE,) if config.strategy == "frozen" else ())
