"""The page `reference/campaign.md`: every key of a campaign file."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from manual.keys import Links, table
from model.config import BlendConfig, FinetuneConfig, TrainConfig
from model.registry import backbone_config, backbones
from model.specs import BatchBudget, LossSpec, ModelSpec, OptimizerSpec, Splits
from workflow.campaign import BranchSource, Budget, Header, Paper, stage_kind, stage_kinds
from workflow.keys import KeysOf, records_of
from workflow.search.space import SHARED, Range, stated_ranges
from workflow.stages._recipe import OWN_KEYS
from workflow.stages.base import StageSpec

INTRODUCTION = """# The campaign file

Made from the types that check the file, when this manual was built. A key that is not here is refused, with the nearest one
named; a value that does not fit is refused with what is allowed. `campaign schema` gives the same to editors
([how](editors.md)). Plain values are read as in YAML 1.2: `06:00`, `on` and `yes` are text, `1e-3` is a number.

Paths are relative to the file. In `path` and `folder`, `{name}` is the campaign's name, and `{data}` and the like are the
`paths:` of the [site file](site.md), which come from your overlay.
"""
_LINKS: Links = {
    BranchSource: "#branches-and-sources",
    Budget: "#budget",
    Paper: "#paper",
    Splits: "#splits",
    Range: "#ranges-of-a-search",
    ModelSpec: "#model",
    TrainConfig: "#training",
    FinetuneConfig: "#training",
    BlendConfig: "#options-of-a-blend",
    BatchBudget: "#budget-of-a-batch",
    LossSpec: "#loss",
    OptimizerSpec: "#optimizer",
    "reader": "datasets.md",
    "backbone": "#backbones",
    "range": "#ranges-of-a-search",
}


def page() -> str:
    """Return the page as Markdown."""
    links = {**_LINKS, **{record: f"#{_title(record).lower()}" for record in _own_records()}}
    sections = [INTRODUCTION, _top(links), _stages(links), _below(links), _backbones(links)]
    return "\n".join(sections)


def _top(links: Links) -> str:
    header = table(Header, links)
    stages = "| `stages` | mapping of names to [stages](#stages) |  | **needed** | What is to be done, ordered by `needs`. |\n"
    parts = [("Budget", Budget), ("Paper", Paper), ("Splits", Splits), ("Branches and sources", BranchSource)]
    return "\n".join([f"## The file\n\n{header}{stages}", *(_section(title, record, links, 3) for title, record in parts)])


def _stages(links: Links) -> str:
    text = ["## Stages\n\nKeys that every stage has; those of a batch job are not for kinds that work on the login node.\n"]
    text.append(table(StageSpec, links))
    for name in stage_kinds():
        kind = stage_kind(name)
        text.append(f"### {name}\n\n{(type(kind).__doc__ or '').splitlines()[0]}\n")
        text.append(table(kind.Spec, links, without=StageSpec.model_fields))
    text += [_section(_title(record), record, links, 3) for record in _own_records()]
    return "\n".join(text)


def _below(links: Links) -> str:
    """Return the tables of what stages pass on to the model."""
    own = f"Keys that the stage or the agent sets have no place in a file: {', '.join(f'`{each}`' for each in sorted(OWN_KEYS))}."
    others = {*TrainConfig.model_fields, *OWN_KEYS}
    further = FinetuneConfig.model_fields.keys() - others
    parts = [
        _section("Model", ModelSpec, links, 2),
        f"## Training\n\n{own}\n\n{table(TrainConfig, links, without=OWN_KEYS)}",
        *([f"Of a fine-tuning further:\n\n{table(FinetuneConfig, links, without=others)}"] if further else []),
        _section("Budget of a batch", BatchBudget, links, 3),
        _section("Loss", LossSpec, links, 3),
        _section("Optimizer", OptimizerSpec, links, 3),
        f"## Options of a blend\n\n{table(BlendConfig, links, without=OWN_KEYS - {'epochs'})}",
        _section("Ranges of a search", Range, links, 2),
        _shared(),
    ]
    return "\n".join(parts)


def _shared() -> str:
    rows = [f"| `{name}` | {_range(about)} |" for name, about in SHARED.items()]
    head = [
        "Names that every backbone's search has beside the backbone's options:\n",
        "| name | searched by default |",
        "|---|---|",
    ]
    return "\n".join([*head, *rows]) + "\n"


def _backbones(links: Links) -> str:
    text = ["## Backbones\n\nA search varies any of these; `{}`, or an empty `space`, takes the range in the last column.\n"]
    for name in backbones():
        searched = {key: _range(about) for key, about in stated_ranges(name).items()}
        text.append(f"### {name}\n\n{table(backbone_config(name), links, without=('name',), searched=searched)}")
    return "\n".join(text)


def _range(about: dict[str, Any]) -> str:
    if "choices" in about:
        return ", ".join(f"`{each}`" for each in about["choices"])
    return f"{about['low']:g} to {about['high']:g}{', logarithmic' if about.get('log') else ''}"


def _section(title: str, record: type[BaseModel], links: Links, level: int) -> str:
    business = (record.__doc__ or "").partition("\n")[0]
    return f"{'#' * level} {title}\n\n{business}\n\n{table(record, links)}"


def _title(record: type[BaseModel]) -> str:
    return record.__name__.removesuffix("Spec")


def _own_records() -> list[type[BaseModel]]:
    """Return the records that stage kinds define for themselves."""
    found: dict[type[BaseModel], None] = {}
    for spec in (stage_kind(name).Spec for name in stage_kinds()):
        marked = {mark.record for info in spec.model_fields.values() for mark in info.metadata if isinstance(mark, KeysOf)}
        below = {each for record in marked for each in records_of(record)}
        found |= dict.fromkeys(each for each in records_of(spec) if each is not spec and each not in below and each is not Range)
    return list(found)
