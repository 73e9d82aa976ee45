"""A campaign file, typed: branches, stages and their graph, resolved for one site."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, ValidationError

from model.config import Splits, Strict
from model.registry import require
from workflow.errors import ConfigError
from workflow.site import Site, load_site, merge
from workflow.stages.base import Stage, StageSpec

_STAGES = Path(__file__).parent / "stages"


class BranchSource(Strict):
    """One data set at one level of theory."""

    reader: str = Field(description="Name of a reader.")
    path: str | tuple[str, ...] = Field(description="Files or folders; {data} and the like come from the site's paths.")
    options: dict[str, Any] = Field({}, description="The reader's own options.")
    weight: float = Field(1.0, ge=0, description="λ_b, weight of the branch in the loss.")
    share: float | None = Field(None, gt=0, description="p_b, share of draws; none: proportional to its structures.")
    limit: int | None = Field(None, ge=1, description="Convert so many structures only.")


class Budget(Strict):
    """What a campaign may cost."""

    node_hours: float = Field(gt=0, description="Node-hours of all jobs together.")


class Header(Strict):
    """The campaign file without its stages, whose types depend on their kinds."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$", description="Name of the campaign; names its folder.")
    site: str = Field("local", description="Site to plan and run on; `--site` overrides.")
    folder: str = Field("runs/{name}", description="The campaign's folder, relative to this file.")
    budget: Budget | None = Field(None, description="Upper limit of the cost; a stage over it is held.")
    splits: Splits = Splits()
    branches: dict[str, BranchSource] = Field(description="Data sets to train on by name, each with a head of its own.")
    sources: dict[str, BranchSource] = Field(
        {}, description="Data sets that no pre-training sees, converted all the same: fine-tuning tasks, screening candidates."
    )


@dataclass(frozen=True)
class Instance:
    """One stage as it runs: a plain stage, or one of those that `each` makes.

    Attributes:
        key: `train`, or `train/2`.
        stage: Name in the file.
        number: 0 for a plain stage, else from 1.
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
        return tuple(self.path.parent / fill(text, self.site.paths, f"{name}.path") for text in texts)

    def instances(self) -> list[Instance]:
        """Return all stage instances, needed ones first."""
        return [Instance(*each) for each in _expand(self.stages)]

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


def load_campaign(path: Path, site: str | None = None) -> Campaign:
    """Read, check and resolve a campaign file.

    Args:
        path: The YAML file.
        site: Name of a site; none takes the file's.

    Raises:
        ConfigError: Something in the file is wrong; the first fault found is told.
        SiteError: The site cannot be loaded.
    """
    fields = _read(path)
    stages = fields.pop("stages", None)
    header = _typed(Header, fields, str(path), "")
    where = load_site(site or header.site)
    if not isinstance(stages, dict) or not stages:
        raise ConfigError("no stages", f"{path}: stages", "Name at least one stage: `data: {kind: convert}`.")
    typed = {str(name): _stage(path, str(name), each, where) for name, each in stages.items()}
    _check_needs(path, typed)
    folder = Path(fill(header.folder, {**where.paths, "name": header.name}, "folder")).expanduser()
    return Campaign(path.resolve(), header, where, typed, (path.resolve().parent / folder))


def fill(text: str, names: dict[str, str], where: str) -> str:
    """Fill `{name}` in a path.

    Raises:
        ConfigError: A name is not among the site's paths.
    """
    try:
        return text.format(**names)
    except (KeyError, IndexError, ValueError) as error:
        known = ", ".join(sorted(names)) or "none"
        raise ConfigError(
            f"'{text}' names a path that the site does not have ({error})", where, f"Put it under `paths:` of your site overlay. Known: {known}."
        ) from error


def _read(path: Path) -> dict[str, Any]:
    try:
        fields = yaml.safe_load(path.read_text())
    except FileNotFoundError as error:
        raise ConfigError("no such file", str(path), "Give the path of a campaign file; `campaign init` writes one.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"not valid YAML ({error})", str(path), "Mend the file.") from error
    if not isinstance(fields, dict):
        raise ConfigError("not a mapping", str(path), "A campaign file is a mapping: name, site, branches, stages.")
    return fields


def _stage(path: Path, name: str, fields: Any, site: Site) -> StageSpec:
    where = f"stages.{name}"
    if not isinstance(fields, dict) or "kind" not in fields:
        raise ConfigError("no kind", f"{path}: {where}", f"Add `kind:`, one of {', '.join(stage_kinds())}.")
    try:
        kind = stage_kind(str(fields["kind"]))
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(getattr(error, "what", str(error)), f"{path}: {where}.kind", getattr(error, "remedy", "")) from error
    here = merge(fields, fields.get("on", {}).get(site.name, {})) if isinstance(fields.get("on", {}), dict) else fields
    spec = _typed(kind.Spec, here, str(path), where)
    return spec if kind.on_login else spec.model_copy(update={"nodes": _nodes(spec, site)})


def _nodes(spec: StageSpec, site: Site) -> int:
    if spec.devices is not None:
        return -(-spec.devices // site.node.devices)
    return spec.nodes or 1


def _typed(kind: type[Any], fields: dict[str, Any], path: str, where: str) -> Any:
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join([where, *(str(part) for part in first["loc"])]).strip(".")
        known = sorted(kind.model_fields)
        raise ConfigError(first["msg"], f"{path}: {key}", f"Keys here: {', '.join(known)}.") from error


def _check_needs(path: Path, stages: dict[str, StageSpec]) -> None:
    for name, spec in stages.items():
        for need in (*spec.needs, *([spec.each] if spec.each else [])):
            try:
                require(need, list(stages), "stage", f"{path}: stages.{name}.needs")
            except Exception as error:
                raise ConfigError(*error.args) from error
        if spec.each and stages[spec.each].kind != "promote":
            raise ConfigError(f"'{spec.each}' selects no models", f"{path}: stages.{name}.each", "Name a stage of kind promote.")
    _order(path, stages)


def _order(path: Path, stages: dict[str, StageSpec]) -> list[str]:
    done: list[str] = []
    while len(done) < len(stages):
        ready = [n for n, s in stages.items() if n not in done and all(d in done for d in (*s.needs, *([s.each] if s.each else [])))]
        if not ready:
            left = ", ".join(n for n in stages if n not in done)
            raise ConfigError(f"these stages need each other: {left}", f"{path}: stages", "Take one of the `needs` away.")
        done.extend(ready)
    return done


def _expand(stages: dict[str, StageSpec]) -> list[tuple[str, str, int, StageSpec, tuple[str, ...]]]:
    keys: dict[str, list[str]] = {}
    rows: list[tuple[str, str, int, StageSpec, tuple[str, ...]]] = []
    for name in _order(Path(), stages):
        spec = stages[name]
        count = _selected(stages, spec.each) if spec.each else 0
        keys[name] = [f"{name}/{i}" for i in range(1, count + 1)] if spec.each else [name]
        needs = tuple(key for need in (*spec.needs, *([spec.each] if spec.each else [])) for key in keys[need])
        rows += [(key, name, int(key.partition("/")[2] or 0), spec, needs) for key in keys[name]]
    return rows


def _selected(stages: dict[str, StageSpec], promote: str) -> int:
    spec = stages[promote]
    groups = {getattr(stages[need], "backbone", None) for need in spec.needs} if getattr(spec, "per", None) == "backbone" else {""}
    return int(getattr(spec, "top", 1)) * len(groups)
