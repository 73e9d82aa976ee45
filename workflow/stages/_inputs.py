"""What a stage finds in the receipts it rests on: stores and trained models; and in its own earlier attempts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.outcome import OUTCOME_FILE, Outcome, read_outcome
from workflow.errors import StageError
from workflow.receipt import Output, Receipt
from workflow.request import Request
from workflow.rundir import AttemptDir
from workflow.stages.base import Allocation, StageSpec


@dataclass(frozen=True)
class StoreInput:
    """A converted data set that a receipt vouches for.

    Attributes:
        name: Branch or source.
        folder: Its folder, relative to the campaign.
        outputs: Its files.
        facts: What the conversion found: `structures`, `atoms`, `elements`, ….
    """

    name: str
    folder: str
    outputs: tuple[Output, ...]
    facts: dict[str, Any]


@dataclass(frozen=True)
class Model:
    """A trained model that a receipt vouches for.

    Attributes:
        backbone: Name of its backbone.
        objective: Its objective on validation; None where nothing validated it.
        seconds: Seconds of training.
        epochs: Epochs of training.
        spec: Its `ModelSpec`, JSON form.
        training: How it was trained, JSON form.
        folder: Folder of its checkpoint, relative to the campaign.
        outputs: The checkpoint's files.
        stage: Stage instance that trained it.
        trial: Trial of a search; None for a training.
    """

    backbone: str
    objective: float | None
    seconds: float
    epochs: float
    spec: dict[str, Any]
    training: dict[str, Any]
    folder: str
    outputs: tuple[Output, ...]
    stage: str = ""
    trial: int | None = None


@dataclass(frozen=True)
class Blend:
    """Branch weights that a receipt vouches for.

    Attributes:
        folder: Their folder or file, relative to the campaign.
        outputs: Its files.
    """

    folder: str
    outputs: tuple[Output, ...]


def stores(inputs: Mapping[str, Receipt], names: Iterable[str]) -> dict[str, StoreInput]:
    """Return the stores of these branches or sources.

    Raises:
        StageError: No receipt vouches for one of them.
    """
    found: dict[str, StoreInput] = {}
    for receipt in inputs.values():
        for name, facts in receipt.result.get("branches", {}).items():
            found[name] = StoreInput(name, facts["store"], _with_role(receipt, f"store:{name}"), facts)
    missing = [name for name in names if name not in found or not found[name].outputs]
    if missing:
        known = ", ".join(found) or "none"
        remedy = f"Need a stage of kind convert. Converted: {known}."
        raise StageError(f"no converted data of {', '.join(missing)}", "needs", remedy)
    return {name: found[name] for name in names}


def stage_in(allocation: Allocation, inputs: Iterable[StoreInput | Model | Blend | None]) -> Path:
    """Bring inputs to the nodes, verified; return the folder below which each one's `folder` lies there."""
    return allocation.stage_in([each for one in inputs if one is not None for each in one.outputs]).result()


def upstream(spec: StageSpec, request: Request) -> Model | None:
    """Return the model that a stage takes from its needs: promoted or trained; None where too few were selected.

    Raises:
        StageError: No stage among its needs gives a model.
    """
    for need in [spec.each] if spec.each else spec.needs:
        receipt = request.inputs.get(need) or request.inputs.get(f"{need}/{request.instance}")
        if receipt is not None and "selected" in receipt.result:
            chosen = receipt.result["selected"]
            place = request.instance if spec.each else 1
            return _promoted(chosen[place - 1], receipt) if place <= len(chosen) else None
        if receipt is not None and "checkpoint" in receipt.result:
            return trained(need, receipt)
    raise StageError("no trained model among its needs", "needs", "Need a stage of kind promote or train.")


def blend(spec: StageSpec, request: Request) -> Blend | None:
    """Return the branch weights that a stage's needs give, or None where none of them is a blend."""
    for need in spec.needs:
        receipt = request.inputs.get(need) or request.inputs.get(f"{need}/{request.instance}")
        if receipt is not None and "blend" in receipt.result:
            return Blend(receipt.result["blend"], _with_role(receipt, "blend"))
    return None


def trained(key: str, receipt: Receipt) -> Model:
    """Return the model that a training made."""
    return _model(receipt.result, receipt.result["checkpoint"], _with_role(receipt, "checkpoint"), stage=key)


def found_in_search(key: str, receipt: Receipt) -> list[Model]:
    """Return the models that a search kept."""
    kept = [each for each in receipt.result.get("trials", []) if each.get("checkpoint")]
    files = {each["id"]: _with_role(receipt, f"checkpoint:{each['id']}") for each in kept}
    return [_model(each, each["checkpoint"], files[each["id"]], stage=key, trial=each["id"]) for each in kept]


def earlier_tasks(campaign: Path, request: Request, name: str) -> list[Path]:
    """Return the folders that tasks of this name and its further tries have in earlier attempts, newest first."""
    folders: list[Path] = []
    for attempt in reversed(request.previous):
        tasks = AttemptDir(campaign / attempt).tasks
        folders += sorted((p for p in tasks.glob(f"{name}*") if is_try(p.name, name)), key=_try_number, reverse=True)
    return folders


def is_try(folder: str, name: str) -> bool:
    """Say whether a task's folder name is `name`, or `name.2`, `name.3`, …."""
    return folder == name or (folder.startswith(f"{name}.") and folder[len(name) + 1 :].isdigit())


def newest_checkpoint(folders: Iterable[Path]) -> Path | None:
    """Return the newest complete `last` checkpoint below task folders that are given newest first."""
    return next((path for folder in folders if is_complete(path := folder / "checkpoints" / "last")), None)


def is_complete(checkpoint: Path) -> bool:
    """Say whether a checkpoint stands in the folder; its `meta.json` is renamed into place last."""
    return (checkpoint / "meta.json").is_file()


def finished(folders: Iterable[Path]) -> tuple[Path, Outcome] | None:
    """Return the first of the task folders whose command was done, with its outcome."""
    for folder in folders:
        outcome = read_outcome(folder) if (folder / OUTCOME_FILE).is_file() else None
        if outcome is not None and outcome.status == "done":
            return folder, outcome
    return None


def _promoted(entry: dict[str, Any], receipt: Receipt) -> Model:
    outputs = tuple(each for each in receipt.outputs if each.path.startswith(f"{entry['checkpoint']}/"))
    return _model(entry, entry["checkpoint"], outputs, stage=entry["source"]["stage"], trial=entry["source"].get("trial"))


def _model(facts: dict[str, Any], checkpoint: str, outputs: tuple[Output, ...], stage: str, trial: int | None = None) -> Model:
    return Model(
        backbone=facts["model"]["backbone"]["name"],
        objective=facts["objective"],
        seconds=facts["seconds"],
        epochs=facts["epochs"],
        spec=facts["model"],
        training=facts["training"],
        folder=checkpoint,
        outputs=outputs,
        stage=stage,
        trial=trial,
    )


def _with_role(receipt: Receipt, role: str) -> tuple[Output, ...]:
    return tuple(each for each in receipt.outputs if each.role == role)


def _try_number(folder: Path) -> int:
    last = folder.name.rpartition(".")[2]
    return int(last) if last.isdigit() else 1
