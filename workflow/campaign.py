"""A campaign, typed: branches, stages and their graph, resolved for one site."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, StringConstraints, model_validator

from model.registry import reader, readers, require
from model.specs import Splits, Strict
from workflow.graph import expanded
from workflow.keys import NameOf, OptionsOf
from workflow.places import fill
from workflow.site import Site
from workflow.stages.base import Stage, StageSpec

_STAGES = Path(__file__).parent / "stages"
NAME = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$"

Name = Annotated[str, StringConstraints(pattern=NAME)]
"""A name that becomes part of a path."""


def _options(name: str) -> type[Strict]:
    """Return the options of a reader."""
    config: type[Strict] = reader(name).Config
    return config


class BranchSource(Strict):
    """One data set at one level of theory."""

    reader: Annotated[str, NameOf("reader", readers)] = Field(description="Name of a reader.")
    path: str | tuple[str, ...] = Field(description="Files or folders; {data} and the like come from the site's paths.")
    options: Annotated[dict[str, Any], OptionsOf("reader", readers, _options)] = Field(
        {}, description="The reader's own options."
    )
    weight: float = Field(1.0, ge=0, description="λ_b, weight of the branch in the loss.")
    share: float | None = Field(None, gt=0, le=1, description="p_b, part of all draws; none: by its structures, of what is left.")
    draws: int | None = Field(
        None, ge=1, description="Draws in an epoch, in place of a share: with N of n structures each comes ⌊N/n⌋ or ⌈N/n⌉ times."
    )
    limit: int | None = Field(None, ge=1, description="Convert so many structures only.")

    @model_validator(mode="after")
    def _is_drawn_one_way(self) -> BranchSource:
        if self.share is not None and self.draws is not None:
            raise ValueError("give `share` or `draws`, not both")
        return self


class Budget(Strict):
    """What a campaign may cost."""

    node_hours: float = Field(gt=0, description="Node-hours of all jobs together.")


class Paper(Strict):
    """A published campaign that this one is to be compared with."""

    title: str = Field(description="What it is called.")
    structures: float | None = Field(None, gt=0, description="Structures that it counts in all its data sets.")
    note: str = Field("", description="What to know when comparing.")


class Header(Strict):
    """The campaign file without its stages, whose types depend on their kinds."""

    name: Name = Field(description="Name of the campaign, of letters, digits, - and _; names its folder.")
    site: str = Field("local", description="Site to plan and run on; `--site` overrides.")
    folder: str = Field("runs/{name}", min_length=1, description="The campaign's folder, relative to this file.")
    budget: Budget | None = Field(None, description="Upper limit of the cost; a stage over it is held.")
    splits: Splits = Splits()
    paper: Paper | None = Field(None, description="What is being redone, for comparison in `campaign plan`.")
    branches: dict[Name, BranchSource] = Field(
        {}, description="Data sets to train on, each with a head of its own, by name: letters, digits, - and _."
    )
    sources: dict[Name, BranchSource] = Field(
        {},
        description="Data sets that no pre-training sees, converted all the same: fine-tuning tasks, screening candidates; "
        "by name: letters, digits, - and _.",
    )


@dataclass(frozen=True)
class Instance:
    """One stage as it runs: a plain stage, or one of those that `each` makes.

    Attributes:
        key: `train`, or `train/2`, or `search/egnn`.
        stage: Name in the file; of a variant, `search/egnn`.
        number: Which of the models that `each` selects, from 1; 0 for other stages.
        spec: Its typed keys, resolved for the site; `nodes` is set where it needs an allocation.
        needs: Keys of the instances that must be done before.
    """

    key: str
    stage: str
    number: int
    spec: StageSpec
    needs: tuple[str, ...]


@dataclass(frozen=True)
class Campaign:
    """A campaign resolved for one site.

    Attributes:
        path: The YAML file.
        header: Everything but the stages.
        site: The site.
        stages: Typed stages by name, in file order.
        folder: The campaign's folder, absolute.
    """

    path: Path
    header: Header
    site: Site
    stages: dict[str, StageSpec]
    folder: Path

    @property
    def name(self) -> str:
        """Return the campaign's name."""
        return self.header.name

    def files(self, name: str) -> tuple[Path, ...]:
        """Return the files of a branch or source, braces filled in, relative ones taken from the file's folder."""
        path = {**self.header.sources, **self.header.branches}[name].path
        texts = (path,) if isinstance(path, str) else path
        where = f"{self.path}: {'branches' if name in self.header.branches else 'sources'}.{name}.path"
        return tuple(self.path.parent / Path(fill(text, self.site.paths, where, self.site.name)).expanduser() for text in texts)

    def instances(self) -> list[Instance]:
        """Return all stage instances, needed ones first."""
        return list(self._instances)

    @cached_property
    def _instances(self) -> tuple[Instance, ...]:
        return tuple(Instance(*each) for each in expanded(self.stages))

    def ancestors(self, key: str) -> list[str]:
        """Return the keys of all instances that one rests on, directly or not."""
        needs = {each.key: each.needs for each in self.instances()}
        found: list[str] = []
        queue = list(needs[key])
        while queue:
            each = queue.pop(0)
            if each not in found:
                found.append(each)
                queue.extend(needs[each])
        return found


def stage_kinds() -> list[str]:
    """List the stage kinds: the modules of `workflow/stages`."""
    return sorted(p.stem for p in _STAGES.glob("*.py") if p.stem not in ("__init__", "base") and p.stem[0] != "_")


@cache
def stage_kind(name: str) -> Stage:
    """Return the stage kind of this name."""
    require(name, stage_kinds(), "stage kind", "kind")
    kind: Stage = importlib.import_module(f"workflow.stages.{name}").Kind()
    return kind
