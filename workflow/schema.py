"""The JSON schema (2020-12) of a campaign file, made from the types that check it: completion and hints in editors.

It knows every key, value and name that types and plug-ins know. What rests on other parts of the file (whether a need
names a stage, whether a queue takes a job) only `campaign check` can tell.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from model.registry import backbone_config, backbones
from model.specs import ModelSpec
from workflow.campaign import Header, stage_kind, stage_kinds
from workflow.keys import KeysOf, NameOf, OptionsOf, SpaceOf, records_of
from workflow.search.space import Range
from workflow.site import site_names
from workflow.stages.base import StageSpec

Schema = dict[str, Any]

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_STAGE_NAME = "^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$"
_FIXED = {"on": {"kind", "on", "variants"}, "variants": {"kind", "variants"}}
"""Keys that those of a site, and those of a variant, cannot change."""
_VALUE = {"anyOf": [{"$ref": "#/$defs/Range"}, {"not": {"type": "object"}}]}
_BACKBONE = NameOf("backbone", backbones, backbone_config)


@dataclass(frozen=True)
class _Known:
    """The definitions of all records of a file.

    Attributes:
        names: Their names among the definitions.
        definitions: By name; filled in on the way.
    """

    names: dict[type[BaseModel], str]
    definitions: dict[str, Schema]

    def ref(self, record: type[BaseModel]) -> Schema:
        return {"$ref": f"#/$defs/{self.names[record]}"}

    def properties(self, record: type[BaseModel]) -> Schema:
        properties: Schema = self.definitions[self.names[record]].setdefault("properties", {})
        return properties


def campaign_schema() -> Schema:
    """Return the schema of a whole campaign file."""
    specs = {name: stage_kind(name).Spec for name in stage_kinds()}
    known = _known([Header, Range, *specs.values()])
    for record, name in known.names.items():
        _tidy(known.definitions[name], name)
        _fill_in(known, record)
    for spec in specs.values():
        _open(known.definitions[known.names[spec]], known.names[spec])
    top = known.definitions.pop(known.names[Header])
    top["properties"]["site"]["examples"] = site_names()
    top["properties"]["stages"] = _stages({kind: known.names[spec] for kind, spec in specs.items()})
    top |= {"required": [*top["required"], "stages"], "title": "campaign"}
    return {"$schema": DIALECT, **top, "$defs": known.definitions}


def _known(tops: list[type[BaseModel]]) -> _Known:
    records = dict.fromkeys(each for top in tops for each in records_of(top))
    plugins = [mark for record in records for info in record.model_fields.values() for mark in info.metadata]
    marks = [*(mark for mark in plugins if isinstance(mark, NameOf | OptionsOf)), _BACKBONE]
    options = dict.fromkeys(mark.options(name) for mark in marks if mark.options for name in mark.known())
    every = list(dict.fromkeys([*records, *options]))
    refs, whole = models_json_schema([(each, "validation") for each in every])
    return _Known({each: refs[each, "validation"]["$ref"].rpartition("/")[2] for each in every}, whole["$defs"])


def _tidy(schema: Schema, name: str) -> None:
    """Take away the titles that are keys once more, and refuse names that break their pattern."""
    schema["title"] = name
    for each in schema.get("properties", {}).values():
        each.pop("title", None)
        if "patternProperties" in each:
            each["additionalProperties"] = False


def _fill_in(known: _Known, record: type[BaseModel]) -> None:
    """Say what stands in the mappings and names that a record's fields are marked with."""
    properties = known.properties(record)
    if record is ModelSpec:  # the model's side of the wall, which knows no marks
        properties["backbone"] |= _plugin(known, _BACKBONE)
    for key, info in record.model_fields.items():
        if info.description:  # pydantic leaves it out where the record below says the same
            properties[key].setdefault("description", info.description)
        for mark in info.metadata:
            if isinstance(mark, KeysOf):
                properties[key] |= _partial(known.properties(mark.record), mark.without)
            elif isinstance(mark, NameOf):
                properties[key].pop("anyOf", None)
                properties[key] |= _plugin(known, mark, or_none=info.default is None)
            elif isinstance(mark, OptionsOf):
                properties[key] |= {"additionalProperties": _VALUE if isinstance(mark, SpaceOf) else True}
                known.definitions[known.names[record]].setdefault("allOf", []).extend(_conditions(known, key, mark))


def _plugin(known: _Known, mark: NameOf, *, or_none: bool = False) -> Schema:
    """Return a name out of those known, or a mapping of `name` and that plug-in's options."""
    name: Schema = {"enum": mark.known()}
    if mark.options is None:
        return name
    chosen = [_when("name", each, known.ref(mark.options(each))) for each in mark.known()]
    mapping = {"type": "object", "required": ["name"], "properties": {"name": name}, "allOf": chosen}
    return {"anyOf": [name, mapping, *([{"type": "null"}] if or_none else [])]}


def _conditions(known: _Known, key: str, mark: OptionsOf) -> list[Schema]:
    """Return, for each plug-in, what stands under `key` where it is the one that is named."""
    found = []
    for name in mark.known():
        inside = known.ref(mark.options(name))
        if isinstance(mark, SpaceOf):
            options = known.properties(mark.options(name))
            varied = {each: {**_VALUE, **_about(about)} for each, about in options.items() if each != "name"}
            inside = _partial({**varied, **dict.fromkeys(mark.shared, _VALUE)}, set())
        found.append(_when(mark.key, name, {"properties": {key: inside}}))
    return found


def _about(schema: Schema) -> Schema:
    return {key: schema[key] for key in ("description", "default") if key in schema}


def _when(key: str, value: str, then: Schema) -> Schema:
    return {"if": {"properties": {key: {"const": value}}, "required": [key]}, "then": then}


def _partial(properties: Schema, without: frozenset[str] | set[str]) -> Schema:
    kept = {key: value for key, value in properties.items() if key not in without}
    return {"type": "object", "additionalProperties": False, "properties": kept}


def _open(spec: Schema, name: str) -> None:
    """Say what stands under `on` and `variants`: the stage's own keys, which it then need not have itself."""
    conditions = list(spec.get("allOf", []))
    needed = [key for key in spec.get("required", []) if key != "kind"]
    elsewhere = [{"required": [key]} for key in _FIXED]
    if needed:
        spec["allOf"] = [*conditions, *({"anyOf": [{"required": [key]}, *elsewhere]} for key in needed)]
    spec["required"] = ["kind"]
    for key, fixed in _FIXED.items():
        own = {each: {"$ref": f"#/$defs/{name}/properties/{each}"} for each in spec["properties"]}
        spec["properties"][key]["additionalProperties"] = {
            **_partial(own, fixed),
            **({"allOf": conditions} if conditions else {}),
        }
    spec["properties"]["on"]["propertyNames"] = {"examples": site_names()}


def _stages(specs: dict[str, str]) -> Schema:
    """Return the schema of `stages`: by `kind`, so that an editor names the key that is wrong."""
    kinds = [_when("kind", kind, {"$ref": f"#/$defs/{name}"}) for kind, name in specs.items()]
    about = StageSpec.model_fields["kind"].description
    named = [{"const": kind, "description": (type(stage_kind(kind)).__doc__ or "").partition("\n")[0]} for kind in specs]
    kind = {"description": about, "oneOf": named}
    stage = {"type": "object", "required": ["kind"], "properties": {"kind": kind}, "allOf": kinds}
    return {
        "type": "object",
        "description": "What is to be done, by name: letters, digits, - and _. Needs, not places in the file, settle the order.",
        "minProperties": 1,
        "patternProperties": {_STAGE_NAME: stage},
        "additionalProperties": False,
    }
