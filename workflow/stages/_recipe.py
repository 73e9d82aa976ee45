"""What a stage trains: the keys of a campaign file made into a model's and a training's typed configuration."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

from model import draws
from model.config import Task, TrainConfig
from model.outcome import CampaignError
from model.registry import backbone_config, backbones
from model.specs import BranchSpec, ModelSpec, Splits
from workflow.keys import KeysOf, NameOf
from workflow.request import Request
from workflow.site import Site, merge
from workflow.stages._inputs import StoreInput
from workflow.validation import validate

Problem = tuple[str, str, str]
"""What is wrong, the dotted key below the stage, the remedy."""

OWN_KEYS = frozenset(
    {"model", "branches", "splits", "epochs", "owner", "stop", "resume", "init", "checkpoint", "strategy", "division"}
    | {"threads", "node_variable", "backend", "address_suffix", "memory_gb", "node_memory_gb"}
)
"""Keys of a training's configuration that the stage or the agent sets, and a campaign file does not."""

_OF_BRANCHES = ("weight", "share", "draws")
"""Keys of a file's branch that a training gets."""

INHERITED = ("loss", "optimizer", "batch", "precision")
"""What a promoted model's further training takes over from the training that made it, unless told otherwise."""

# What a file may write there, for the manual and the editor.
BackboneName = Annotated[str, NameOf("backbone", backbones)]
BackboneChoice = Annotated[str | dict[str, Any] | None, NameOf("backbone", backbones, backbone_config)]
ModelKeys = Annotated[dict[str, Any], KeysOf(ModelSpec)]
HeadKeys = Annotated[dict[str, Any], KeysOf(ModelSpec, frozenset({"backbone"}))]
TrainingKeys = Annotated[dict[str, Any], KeysOf(TrainConfig, OWN_KEYS)]

_SMALL_CUTOFF = 3.5
"""Å; the first neighbours are within it, and a twentieth of the triplets within 6 Å."""

T = TypeVar("T", bound=Task)


def model_fields(backbone: str | dict[str, Any] | None, keys: dict[str, Any]) -> dict[str, Any]:
    """Return the keys of a `ModelSpec` out of a stage's `backbone` and `model`."""
    chosen = {"name": backbone} if isinstance(backbone, str) else dict(backbone or {})
    return {**keys, "backbone": {**keys.get("backbone", {}), **chosen}}


def small_model(keys: dict[str, Any]) -> dict[str, Any]:
    """Return the keys that make a model of these ones cheap for `campaign rehearse`."""
    cutoff = keys.get("cutoff", ModelSpec.model_fields["cutoff"].default)
    return {"cutoff": min(float(cutoff), _SMALL_CUTOFF)}


def model_problems(fields: dict[str, Any]) -> list[Problem]:
    """Say what keeps `fields` from being a model: unknown backbone, unknown options, values out of range."""
    _, wrong = validate(ModelSpec, fields)
    found = [(each.what, ".".join(("model", *each.key)), each.remedy) for each in wrong]
    return found + backbone_problems(fields["backbone"])


def backbone_problems(backbone: dict[str, Any]) -> list[Problem]:
    """Say what is wrong with a backbone's name and options."""
    if "name" not in backbone:
        return [("no backbone is named", "backbone", "Add `backbone:` with a name.")]
    options = {key: value for key, value in backbone.items() if key != "name"}
    try:
        _, wrong = validate(backbone_config(str(backbone["name"])), options)
    except CampaignError as error:
        return [(error.what, "backbone", error.remedy)]
    return [(each.what, ".".join(("backbone", *each.key)), each.remedy) for each in wrong]


def config_problems(
    kind: type[Task], keys: dict[str, Any], under: str, given: dict[str, Any], own_keys: frozenset[str] = OWN_KEYS
) -> list[Problem]:
    """Say what is wrong with a partial configuration.

    Args:
        kind: Type of the whole configuration.
        keys: The part that the campaign file gives.
        under: Key of the stage that holds it.
        given: What the stage itself will set, as stand-ins.
        own_keys: Keys that have no place in it.
    """
    own = [(f"'{key}' is set by the stage itself", f"{under}.{key}", "Take it out here.") for key in keys if key in own_keys]
    _, wrong = validate(kind, {**{key: value for key, value in keys.items() if key not in own_keys}, **given})
    return own + [(each.what, ".".join((under, *each.key)), each.remedy) for each in wrong if each.key and each.key[0] in keys]


def training_problems(keys: dict[str, Any], kind: type[Task] = TrainConfig) -> list[Problem]:
    """Say what is wrong with a stage's `training`."""
    return config_problems(kind, keys, "training", {"model": {"backbone": {}}, "branches": {}})


def validation_problems(keys: dict[str, Any], splits: Splits) -> list[Problem]:
    """Say which keys of a stage's `training` wait for validations that the campaign's splits leave no data for."""
    optimizer = keys.get("optimizer")
    plateau = isinstance(optimizer, dict) and optimizer.get("schedule") == "plateau"
    waits = {"early_stop": keys.get("early_stop") is not None, "optimizer.schedule": plateau}
    remedy = "Give `splits: {validation: …}` a share above zero, or take the key away."
    if splits.validation:
        return []
    return [
        (f"`{key}` waits for validations, and splits.validation is 0", f"training.{key}", remedy) for key in waits if waits[key]
    ]


def width_problems(keys: dict[str, Any], nodes: int, site: Site) -> list[Problem]:
    """Say so where a stage's `training` asks for wider copies of a branch than a task has ranks."""
    width, ranks = keys.get("width"), nodes * site.node.devices
    if not isinstance(width, int) or width <= ranks:
        return []
    what = f"`width: {width}` is more than the {ranks:,} rank{'s' * (ranks != 1)} of a training on {site.name}"
    return [(what, "training.width", "Leave it out: then all ranks that hold a branch hold one copy of it together.")]


def draws_problems(campaign: Any, *names: str) -> list[Problem]:
    """Say what keeps a training from drawing each of some branches, of all where none is named, as the file wants it."""
    known = campaign.header.branches
    chosen = [known[name] for name in names or known if name in known]
    wrong = draws.fault(branch.share for branch in chosen if branch.draws is None)
    return [(wrong, "branches", draws.REMEDY)] if wrong else []


def inherited(training: dict[str, Any], keys: dict[str, Any]) -> dict[str, Any]:
    """Return a stage's `training` over what an earlier training of the same model used."""
    return merge({key: training[key] for key in INHERITED if key in training}, keys)


def checkpoint_every_s(training: dict[str, Any]) -> float:
    """Return how often a training with these keys writes a checkpoint within an epoch, s."""
    return float(training.get("checkpoint_every_s", TrainConfig.model_fields["checkpoint_every_s"].default))


def configuration(kind: type[T], request: Request, fields: dict[str, Any]) -> T:
    """Build a command's configuration, with the site's backend and its memory filled in where it is asked for.

    Raises:
        CampaignError: A key has no place there or a value does not fit.
    """
    node = request.site.get("node", {})
    own: dict[str, Any] = {"backend": node.get("backend", "gloo"), "address_suffix": node.get("address_suffix", "")}
    if issubclass(kind, TrainConfig):
        own["node_memory_gb"] = node.get("memory_gb")
        if fields.get("micro_batch") == "auto":
            own["memory_gb"] = node.get("device_memory_gb")
    config, wrong = validate(kind, {**own, **fields})
    if wrong:
        raise CampaignError(wrong[0].what, ".".join(wrong[0].key), wrong[0].remedy)
    typed: T = config  # type: ignore[assignment]  # no fault: a record
    return typed


def branches(request: Request, needed: Mapping[str, StoreInput], local: Path) -> dict[str, BranchSpec]:
    """Return the branches of a training: where their stores lie, their weights and shares of draws.

    Args:
        request: Holds weights and shares.
        needed: Stores by branch.
        local: Folder that the stores were staged into.
    """
    known = {**request.sources, **request.branches}
    keys = {name: {key: known[name][key] for key in _OF_BRANCHES if known[name].get(key) is not None} for name in needed}
    return {name: BranchSpec(store=local / store.folder, **keys[name]) for name, store in needed.items()}


def splits(request: Request) -> Splits:
    """Return the campaign's splits, the same for every stage."""
    return Splits.model_validate(request.splits)
