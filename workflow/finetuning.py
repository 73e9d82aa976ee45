"""The fine-tuning tasks that ship as data: `finetune_tasks/<name>.yaml` says how each is divided, trained and measured."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from model.config import FinetuneConfig
from model.outcome import CampaignError
from model.registry import readers, require
from model.specs import Division, Strict
from workflow.document import read_document
from workflow.keys import KeysOf, NameOf
from workflow.site import packaged
from workflow.validation import validate

Target = Literal["energy", "forces", "scalar", "class"]
Metric = Literal["mae", "rmse", "max_error", "roc_auc", "f1", "accuracy"]
OF_TARGET: dict[Target, tuple[Metric, ...]] = {
    "energy": ("mae", "rmse", "max_error"),
    "forces": ("mae", "rmse", "max_error"),
    "scalar": ("mae", "rmse", "max_error"),
    "class": ("roc_auc", "f1", "accuracy"),
}
"""What each kind of label is measured by."""
SEEDS = 3
"""Seeds that a task without folds is trained with, where the campaign does not say."""


class FinetuneTask(Strict):
    """Keys of `finetune_tasks/<name>.yaml`."""

    title: str = Field(description="Name in tables.")
    group: str = Field(description="Name of the table that it stands in, with the other tasks of this group.")
    reader: Annotated[str, NameOf("reader", readers)] = Field(description="Reader that the task's source must have.")
    options: dict[str, Any] = Field({}, description="Options that it must have.")
    structures: int | None = Field(None, ge=1, description="Structures that the task takes, by `limit` of its source; none: all.")
    targets: tuple[Target, ...] = Field(min_length=1, description="What is predicted: energy, forces, scalar or class.")
    metrics: tuple[Metric, ...] = Field(min_length=1, description="What predictions are measured by, the leading one first.")
    division: Division | None = Field(None, description="How it is divided; none: by the campaign's `splits`.")
    epochs: int = Field(ge=1, description="Epochs of every training, whatever its strategy or precision.")
    batch: int = Field(ge=1, description="Structures in a batch.")
    training: Annotated[dict[str, Any], KeysOf(FinetuneConfig)] = Field({}, description="Further keys of the training: loss, ….")

    @model_validator(mode="after")
    def _is_measurable(self) -> FinetuneTask:
        known = {metric for target in self.targets for metric in OF_TARGET[target]}
        if wrong := [metric for metric in self.metrics if metric not in known]:
            raise ValueError(f"{' and '.join(self.targets)} cannot be measured by {', '.join(wrong)}")
        return self

    @property
    def num_folds(self) -> int:
        """Return the folds of its cross-validation; 0 where it has none."""
        return self.division.folds if self.division is not None and self.division.by != "part" else 0


def task_names() -> list[str]:
    """Return the names of the tasks that ship."""
    return sorted(path.stem for path in packaged("finetune_tasks").glob("*.yaml"))


def load_task(name: str) -> FinetuneTask:
    """Read a task.

    Raises:
        CampaignError: There is none of this name, or its file does not fit.
    """
    require(name, task_names(), "fine-tuning task", "task")
    path = packaged("finetune_tasks") / f"{name}.yaml"
    found, wrong = validate(FinetuneTask, read_document(path, "Write the task's file.").fields)
    if wrong:
        raise CampaignError(wrong[0].what, f"{path}: {'.'.join(map(str, wrong[0].key))}", wrong[0].remedy)
    task: FinetuneTask = found  # type: ignore[assignment]  # no fault: a record
    return task
