"""The space of a search: what varies, between which values, and where a value goes in a training."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from pydantic import Field, ValidationError, model_validator

from model.outcome import CampaignError
from model.registry import backbone_config, require
from model.specs import Strict

SHARED: dict[str, dict[str, Any]] = {
    "learning_rate": {"low": 1e-5, "high": 3e-3, "log": True},
    "force_weight": {"low": 10.0, "high": 1000.0, "log": True},
    "head_layers": {"low": 2, "high": 4},
    "head_hidden": {"low": 300, "high": 2000},
}
"""Names that every backbone's search has beside its own, with the ranges of the reference campaign."""

_WIDTH = 8

Point = dict[str, Any]
"""A value for each dimension, by name."""


class Range(Strict):
    """Values that one name of a search may take; an empty mapping takes the range that the backbone states."""

    low: float | None = Field(None, description="Smallest value.")
    high: float | None = Field(None, description="Largest value.")
    log: bool | None = Field(None, description="Whether values are drawn evenly on a logarithmic scale.")
    choices: tuple[Any, ...] | None = Field(None, description="Values to choose from, instead of `low` and `high`.")

    @model_validator(mode="after")
    def _is_one_of_both(self) -> Range:
        if self.choices is not None and (self.low is not None or self.high is not None):
            raise ValueError("give either `choices`, or `low` and `high`")
        if self.choices is not None and not self.choices:
            raise ValueError("`choices` is empty")
        if (self.low is None) != (self.high is None):
            raise ValueError("`low` and `high` go together")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f"low {self.low:g} is above high {self.high:g}")
        if self.log and self.low is not None and self.low <= 0:
            raise ValueError("a logarithmic range starts above zero")
        return self


@dataclass(frozen=True)
class Dimension:
    """One name that varies: a range, or a list of choices.

    Attributes:
        name: Name in the space.
        low: Smallest value; 0 where there are choices.
        high: Largest value.
        log: Whether the scale is logarithmic.
        integer: Whether values are whole.
        choices: Values to choose from; empty for a range.
    """

    name: str
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    integer: bool = False
    choices: tuple[Any, ...] = ()

    @property
    def middle(self) -> Any:
        """Return the value in the middle, on the dimension's own scale."""
        if self.choices:
            return self.choices[len(self.choices) // 2]
        value = math.sqrt(self.low * self.high) if self.log else (self.low + self.high) / 2
        return round(value) if self.integer else value

    @property
    def ends(self) -> tuple[Any, ...]:
        """Return the values that bound the dimension; all of them where they are choices."""
        return self.choices or tuple(int(v) if self.integer else v for v in (self.low, self.high))

    @property
    def num_values(self) -> float:
        """Return how many different values there are."""
        if self.choices:
            return len(self.choices)
        return self.high - self.low + 1 if self.integer else math.inf

    def has(self, value: Any) -> bool:
        """Say whether `value` lies in the dimension."""
        if self.choices:
            return value in self.choices
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return number and self.low <= value <= self.high and (not self.integer or value == int(value))


@dataclass(frozen=True)
class Space:
    """What a search varies.

    Attributes:
        backbone: Name of the backbone.
        dimensions: What varies, sorted by name.
        fixed: Names that the search holds at one value.
    """

    backbone: str
    dimensions: tuple[Dimension, ...]
    fixed: Point = field(default_factory=dict)

    @property
    def num_points(self) -> float:
        """Return how many different points there are; infinite where a dimension is continuous."""
        return math.prod(d.num_values for d in self.dimensions)

    def fill(self, partial: Point) -> Point:
        """Return a whole point: values given, the middle of the range for the others."""
        return {d.name: partial.get(d.name, d.middle) for d in self.dimensions}

    def problems(self, point: Point) -> list[str]:
        """Say what keeps `point` from lying in the space."""
        known = {d.name: d for d in self.dimensions}
        names = ", ".join(known) or "none"
        strange = [f"'{name}' does not vary; these do: {names}" for name in point if name not in known]
        outside = [
            f"{name} = {value!r} lies outside {known[name].ends}"
            for name, value in point.items()
            if name in known and not known[name].has(value)
        ]
        return strange + outside

    def model(self, point: Point) -> dict[str, Any]:
        """Return the keys of a `ModelSpec` that a point sets; the backbone's options stand under `backbone`."""
        values = {**self.fixed, **point}
        options = {name: value for name, value in values.items() if name not in SHARED}
        heads: dict[str, Any] = {name: values[name] for name in ("head_layers", "head_hidden") if name in values}
        return {"backbone": {"name": self.backbone, **options}, **heads}

    def training(self, point: Point) -> dict[str, Any]:
        """Return the keys of a `TrainConfig` that a point sets."""
        values = {**self.fixed, **point}
        keys: dict[str, Any] = {}
        if "learning_rate" in values:
            keys["optimizer"] = {"learning_rate": values["learning_rate"]}
        if "force_weight" in values:
            keys["loss"] = {"forces": values["force_weight"]}
        return keys


def make_space(backbone: str, given: dict[str, Any]) -> Space:
    """Build the space of a search.

    Args:
        backbone: Name of the backbone.
        given: Names to vary as `Range`, or to hold as plain values; empty takes all that the backbone states.

    Raises:
        CampaignError: The backbone or a name is unknown, or a name has no range of its own and none is given.
    """
    stated = {**stated_ranges(backbone), **SHARED}
    options = backbone_config(backbone).model_fields
    dimensions, fixed = [], {}
    for name, value in sorted((given or {name: Range() for name in stated}).items()):
        require(name, sorted({*options, *SHARED} - {"name"}), "name in a search", f"space.{name}")
        if isinstance(value, Range):
            dimensions.append(_dimension(name, value, stated.get(name, {}), _is_integer(backbone, name)))
        else:
            fixed[name] = value
    single = {d.name: d.ends[0] for d in dimensions if d.ends[0] == d.ends[-1]}
    return Space(backbone, tuple(d for d in dimensions if d.name not in single), {**fixed, **single})


def smallest(backbone: str, given: dict[str, Any]) -> dict[str, Any]:
    """Return the same names with the smallest models: whole numbers at the low end, or below it where the backbone allows.

    Args:
        backbone: Name of the backbone.
        given: As for `make_space`.
    """
    space = make_space(backbone, given)
    small: dict[str, Any] = {**space.fixed}
    for each in space.dimensions:
        low = each.ends[0] if each.integer and not each.choices else None
        small[each.name] = _allowed(backbone, each.name, int(low)) if low is not None else _as_given(each)
    return small


def _allowed(backbone: str, name: str, low: int) -> int:
    """Return eight where a larger width is only the low end of a range, not the smallest that the backbone takes."""
    if low <= _WIDTH:
        return low
    if name not in backbone_config(backbone).model_fields:
        return _WIDTH
    try:
        backbone_config(backbone).model_validate({name: _WIDTH})
    except ValidationError:
        return low
    return _WIDTH


def _as_given(dimension: Dimension) -> dict[str, Any]:
    if dimension.choices:
        return {"choices": list(dimension.choices)}
    return {"low": dimension.low, "high": dimension.high, "log": dimension.log}


def stated_ranges(backbone: str) -> dict[str, dict[str, Any]]:
    """Return the search range that each option of a backbone states for itself."""
    found = {}
    for name, info in backbone_config(backbone).model_fields.items():
        extra = info.json_schema_extra
        if isinstance(extra, dict) and isinstance(extra.get("search"), dict):
            found[name] = dict(extra["search"])  # type: ignore[arg-type]
    return found


def _dimension(name: str, given: Range, stated: dict[str, Any], integer: bool) -> Dimension:
    keys = {**stated, **given.model_dump(exclude_none=True)}
    if given.low is not None:
        keys.pop("choices", None)
    if keys.get("choices"):
        return Dimension(name, choices=tuple(keys["choices"]))
    if "low" not in keys:
        raise CampaignError(f"'{name}' has no range of its own", f"space.{name}", "Give `low` and `high`, or `choices`.")
    return Dimension(name, keys["low"], keys["high"], bool(keys.get("log", False)), integer)


def _is_integer(backbone: str, name: str) -> bool:
    fields = backbone_config(backbone).model_fields
    if name in fields:
        return fields[name].annotation is int
    return isinstance(SHARED[name]["low"], int)
