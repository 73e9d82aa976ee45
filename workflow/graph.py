"""The graph of stages: what waits for what, in which order, and how `each` fans out."""

from __future__ import annotations

from workflow.document import Document, Key
from workflow.errors import ConfigError
from workflow.stages.base import StageSpec
from workflow.validation import nearest


def belongs(key: str, stage: str) -> bool:
    """Say whether an instance is a stage, or one of those that `each` or `variants` make of it."""
    fan, slash, _ = key.rpartition("/")
    return key == stage or (bool(slash) and fan == stage)


def key_of(name: str) -> Key:
    """Return where a stage stands in the file."""
    stage, _, variant = name.partition("/")
    return ("stages", stage, "variants", variant) if variant else ("stages", stage)


def parts_of(need: str, names: list[str]) -> list[str]:
    """Return the stages that a need means: all variants of one that has any."""
    return [name for name in names if name.partition("/")[0] == need and name != need] or [need]


def direct_needs(spec: StageSpec) -> tuple[str, ...]:
    """Return the stages that one names as needed before it."""
    return (*spec.needs, *([spec.each] if spec.each else []))


def in_order(stages: dict[str, StageSpec]) -> tuple[list[str], list[str]]:
    """Return the stages with needed ones first, and the names along one circle where there is any."""
    waits = {name: [need for need in direct_needs(spec) if need in stages] for name, spec in stages.items()}
    done: list[str] = []
    while ready := [name for name, needs in waits.items() if name not in done and all(need in done for need in needs)]:
        done.extend(ready)
    left = {name: [need for need in needs if need not in done] for name, needs in waits.items() if name not in done}
    if not left:
        return done, []
    way = [next(iter(left))]
    while way[-1] not in way[:-1]:
        way.append(left[way[-1]][0])
    return done, way[way.index(way[-1]) : -1]


def expanded(stages: dict[str, StageSpec]) -> list[tuple[str, str, int, StageSpec, tuple[str, ...]]]:
    """Return (key, stage, number, spec, needed keys) of every stage instance, needed ones first."""
    keys: dict[str, list[str]] = {}
    rows: list[tuple[str, str, int, StageSpec, tuple[str, ...]]] = []
    for name in in_order(stages)[0]:
        spec = stages[name]
        count = _selected(stages, spec.each) if spec.each else 0
        keys[name] = [f"{name}/{i}" for i in range(1, count + 1)] if spec.each else [name]
        needs = tuple(key for need in direct_needs(spec) for key in keys[need])
        rows += [(key, name, number if spec.each else 0, spec, needs) for number, key in enumerate(keys[name], start=1)]
    return rows


def graph_faults(document: Document, stages: dict[str, StageSpec]) -> list[ConfigError]:
    """Find needs that name no stage, `each` that selects no models, and circles."""
    given = document.fields.get("stages")
    known = list(dict.fromkeys([*map(str, given if isinstance(given, dict) else ()), *stages]))
    faults = [fault for name, spec in stages.items() for fault in _need_faults(document, name, spec, stages, known)]
    faults += _shared_folders(document, stages)
    circle = in_order(stages)[1]
    if circle:
        way = " needs ".join([*circle, circle[0]])
        key = (*key_of(circle[0]), "needs")
        faults.append(document.fault(f"stages wait for each other: {way}", key, "Take one of these needs away."))
    return faults


def _shared_folders(document: Document, stages: dict[str, StageSpec]) -> list[ConfigError]:
    """Find stages whose folder would be another's: `train-1` and `train/1`, `a-b/c` and `a/b-c`."""
    flat = {name: name.replace("/", "-") for name in stages}
    fans = {flat[name]: name for name, spec in stages.items() if spec.each}
    holders = {flat[name]: name for name in sorted(stages, key=lambda each: "/" in each)}
    faults = []
    for name in stages:
        fan, _, number = flat[name].rpartition("-")
        other = f"{fans[fan]}/{number}" if fan in fans and number.isdigit() else holders[flat[name]]
        if other != name:
            what = f"'{name}' would share a folder with '{other}'"
            faults.append(document.fault(what, key_of(name), "Give it another name."))
    return faults


def _need_faults(
    document: Document, name: str, spec: StageSpec, stages: dict[str, StageSpec], known: list[str]
) -> list[ConfigError]:
    asked = [("needs", need) for need in spec.needs] + ([("each", spec.each)] if spec.each else [])
    faults = [
        document.fault(f"no stage '{need}'", (*key_of(name), key), f"{nearest(need, known)}Stages: {', '.join(known)}.")
        for key, need in asked
        if need not in known
    ]
    if spec.each in known and (parts := parts_of(spec.each, list(stages))) != [spec.each]:
        remedy = f"Name one of them: {', '.join(parts)}."
        faults.append(
            document.fault(f"'{spec.each}' has variants, of which each selects models", (*key_of(name), "each"), remedy)
        )
    if spec.each in stages and stages[str(spec.each)].kind != "promote":
        promotes = ", ".join(each for each, other in stages.items() if other.kind == "promote") or "none here"
        remedy = f"Name a stage of kind promote ({promotes})."
        faults.append(document.fault(f"'{spec.each}' selects no models", (*key_of(name), "each"), remedy))
    return faults


def _selected(stages: dict[str, StageSpec], promote: str) -> int:
    spec = stages[promote]
    per_backbone = getattr(spec, "per", None) == "backbone"
    groups = {getattr(stages[need], "backbone", None) for need in spec.needs} if per_backbone else {""}
    return int(getattr(spec, "top", 1)) * min(len(groups), getattr(spec, "groups", None) or len(groups))
