"""Where a figure or a table comes from: model, data mix, precision, layout, nodes, versions, seed, files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from model.draws import Portion, parts
from model.outcome import CampaignError
from workflow.report.facts import Facts, StageFacts
from workflow.report.tables import number

Origin = tuple[tuple[str, str], ...]
_HEAD_KEYS = ("readout", "forces", "elements", "heads")


def campaign_origin(facts: Facts, *files: str) -> Origin:
    """Return the origin of what tells of the whole campaign."""
    versions = facts.created.get("versions") or {}
    rows = [
        ("campaign", f"{facts.status.name} ({facts.planned.campaign_id or 'without identity'}) on {facts.status.site or '?'}"),
        ("campaign file", _file(facts)),
        ("driver's versions", _versions(versions)),
        ("read from", ", ".join(files)),
    ]
    return _present(rows)


def stage_origin(facts: Facts, stage: StageFacts, *files: str) -> Origin:
    """Return the origin of what tells of one stage; what is not known is left out."""
    training = _training(stage)
    rows = [
        ("stage", f"{stage.key} ({stage.status.kind}), {_attempts(stage)}"),
        ("model", model_text(facts, stage)),
        ("data mix", data_text(facts, stage)),
        ("splits", _splits(facts)),
        ("precision", str(training.get("precision") or stage.spec.get("precision") or "")),
        ("layout", layout_text(stage.result.get("layout") or _of_tasks(stage, "layout"), training)),
        ("nodes", _nodes(facts, stage)),
        ("seed", _seed(stage, training)),
        ("versions", _versions(stage.outcome.get("versions") or {})),
        ("campaign file", _file(facts)),
        ("read from", ", ".join(file for file in files if file)),
    ]
    return _present(rows)


def stages_origin(facts: Facts, stages: Sequence[StageFacts], *files: str) -> Origin:
    """Return the origin of what shows several stages side by side: once what they have in common, else a row for each."""
    shared = ("campaign file", "read from")
    told = {stage.key: {name: text for name, text in stage_origin(facts, stage) if name not in shared} for stage in stages}
    rows: list[tuple[str, str]] = []
    for name in dict.fromkeys(name for origin in told.values() for name in origin):
        texts = {key: origin.get(name, "") for key, origin in told.items()}
        alike = len(set(texts.values())) == 1
        rows += [(name, next(iter(texts.values())))] if alike else [(f"{name} of {key}", text) for key, text in texts.items()]
    return _present([*rows, ("campaign file", _file(facts)), ("read from", ", ".join(file for file in files if file))])


def model_text(facts: Facts, stage: StageFacts) -> str:
    """Return the model variant of a stage: its own, what its search varies, or the one that its needs give it."""
    if stage.status.kind in ("convert", "promote"):
        return ""
    if stage.spec.get("space"):
        return _space(stage)
    model, size, source = _model(facts, stage)
    if not model:
        return ""
    backbone = dict(model.get("backbone") or {})
    name = backbone.pop("name", "?")
    options = [f"{key} {_short(value)}" for key, value in sorted(backbone.items())]
    head = f"head {model.get('head_widths') or '×'.join(str(model.get(k, '?')) for k in ('head_layers', 'head_hidden'))}"
    rest = [f"{key} {model[key]}" for key in _HEAD_KEYS if model.get(key)]
    parts = [", ".join(options), f"cutoff {model.get('cutoff', '?')} Å", head, *rest]
    size_text = f"{number(size)} parameters" if size else ""
    return f"{name}: " + "; ".join(part for part in (*parts, size_text) if part) + (f" (from {source})" if source else "")


def data_text(facts: Facts, stage: StageFacts) -> str:
    """Return which data a stage learned from or worked on, with shares of draws and training structures."""
    if stage.status.kind in ("finetune", "screen"):
        given = stage.spec.get("tasks") or stage.spec.get("task") or stage.spec.get("candidates") or ()
        names = [given] if isinstance(given, str) else list(given)
        part = "structures" if stage.status.kind == "screen" else "train"
        return ", ".join(f"{name} ({_count(facts, name, part)})" for name in names)
    branches: Mapping[str, Any] = facts.planned.header.get("branches") or {}
    branches = {name: each or {} for name, each in branches.items() if name in (stage.spec.get("branches") or branches)}
    shares = {} if stage.status.kind == "convert" else _shares(facts, stage, branches)
    texts = [f"{name}{f' {100 * share:.3g} % of draws' if (share := shares.get(name)) else ''} ({_count(facts, name, 'train')})"
             for name in branches]  # fmt: skip
    return ", ".join(texts)


def _shares(facts: Facts, stage: StageFacts, branches: Mapping[str, Any]) -> dict[str, float]:
    """Return the parts of all draws, as the sampler has them; none where the file's shares are refused."""
    training = _training(stage)
    sizes = {name: _structures(facts, name, "train") or 0 for name in branches}
    given = {name: Portion(sizes[name], each.get("share"), each.get("draws")) for name, each in branches.items()}
    try:
        return parts(given, training.get("fraction") or 1.0, training.get("temperature") or 1.0)
    except CampaignError:
        return {}


def layout_text(layout: Any, training: Mapping[str, Any]) -> str:
    """Return which ranks hold which branch."""
    name = str(training.get("layout") or "")
    if not isinstance(layout, dict) or not layout:
        return name
    holders = [f"{branch} on {_ranks(ranks)}" for branch, ranks in sorted(layout.items())]
    return f"{name}: " + ", ".join(holders)


def _present(rows: Iterable[tuple[str, str]]) -> Origin:
    return tuple((name, text) for name, text in rows if text)


def _file(facts: Facts) -> str:
    return f"{facts.planned.file}, SHA-256 {facts.planned.digest[:16]}…" if facts.planned.digest else facts.planned.file


def _versions(versions: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {version}" for name, version in sorted(versions.items()))


def _attempts(stage: StageFacts) -> str:
    tries = [each for each in stage.history.tries if each.state not in ("unneeded", "revoked")]
    named = ", ".join(f"{each.link}.{each.attempt} {each.token}" for each in tries[:12])
    more = f" and {len(tries) - 12} more" if len(tries) > 12 else ""
    return f"attempts {named}{more}" if tries else "on the login node"


def _training(stage: StageFacts) -> dict[str, Any]:
    """Return the keys by which a stage trained: resolved where a task was given them, else as the file has them."""
    told = stage.result.get("training") or _of_tasks(stage, "training") or (stage.tasks[-1].config if stage.tasks else {})
    return {**(stage.spec.get("training") or {}), **(stage.spec.get("options") or {}), **told}


def _of_tasks(stage: StageFacts, key: str) -> Any:
    return next((each.result[key] for each in reversed(stage.tasks) if each.result.get(key)), None)


def _space(stage: StageFacts) -> str:
    space: Mapping[str, Any] = stage.spec["space"]
    varied = [f"{name} {_range(each)}" for name, each in space.items() if isinstance(each, dict)]
    held = [f"{name} {each}" for name, each in space.items() if not isinstance(each, dict)]
    trial = stage.spec.get("trial") or {}
    spends = ", ".join(f"{key} {value}" for key, value in trial.items() if value is not None)
    fixed = f"; held: {', '.join(held)}" if held else ""
    return f"{_short(stage.spec.get('backbone'))}; varied: {', '.join(varied)}{fixed}; a trial: {spends}"


def _range(dimension: Mapping[str, Any]) -> str:
    if dimension.get("choices"):
        return "{" + ", ".join(str(each) for each in dimension["choices"]) + "}"
    log = ", log" if dimension.get("log") else ""
    return f"{dimension.get('low')} to {dimension.get('high')}{log}"


def _model(facts: Facts, stage: StageFacts) -> tuple[dict[str, Any], int | None, str]:
    """Return a stage's model, its number of parameters and the stage it came from, looking through what it needs."""
    by_key, queue, seen = {each.key: each for each in facts.stages}, [stage.key], set[str]()
    while queue:
        key = queue.pop(0)
        found = by_key.get(key)
        if found is None or key in seen:
            continue
        seen.add(key)
        source = "" if key == stage.key else key
        model = found.result.get("model") or _of_tasks(found, "model") if found.status.kind != "hpo" else None
        if model:
            return model, found.result.get("parameters") or _of_tasks(found, "parameters"), source
        chosen = found.result.get("selected") or []
        place = int(stage.key.rpartition("/")[2]) if stage.key.rpartition("/")[2].isdigit() else 1
        if chosen:
            entry = chosen[min(place, len(chosen)) - 1]
            return entry.get("model") or {}, entry.get("parameters"), f"{key}: {(entry.get('source') or {}).get('stage', '')}"
        queue += found.status.needs
    return {}, None, ""


def _nodes(facts: Facts, stage: StageFacts) -> str:
    ranks = max((int(each.outcome.get("world_size") or 0) for each in stage.tasks), default=0)
    devices = f" of {facts.planned.devices} device{'s' * (facts.planned.devices != 1)}" if facts.planned.devices else ""
    nodes = f"{stage.status.nodes} node{'s' * (stage.status.nodes != 1)}{devices}" if stage.status.nodes else "login node"
    return nodes + (f", {ranks} rank{'s' * (ranks != 1)} in the largest task" if ranks else "")


def _seed(stage: StageFacts, training: Mapping[str, Any]) -> str:
    own, trained = stage.spec.get("seed"), training.get("seed")
    search = f"{own} of the optimizer" if stage.status.kind == "hpo" and own is not None else ""
    return ", ".join(text for text in (search, f"{trained} of the task" if trained is not None else "") if text)


def _splits(facts: Facts) -> str:
    splits = facts.planned.header.get("splits") or {}
    if not splits:
        return ""
    parts = ", ".join(f"{100 * float(splits.get(part, 0)):g} % {part}" for part in ("validation", "test"))
    return f"{parts}, by hash of the identity, seed {splits.get('seed', 0)}"


def _structures(facts: Facts, name: str, part: str) -> int | None:
    for stage in facts.stages:
        found = (stage.result.get("branches") or {}).get(name)
        if isinstance(found, dict):
            return found.get("structures") if part == "structures" else (found.get("splits") or {}).get(part)
    return None


def _count(facts: Facts, name: str, part: str) -> str:
    count = _structures(facts, name, part)
    noun = "structures" if part == "structures" else "structures to train on"
    return f"{number(count)} {noun}" if count is not None else "not converted yet"


def _ranks(ranks: Any) -> str:
    if not isinstance(ranks, list) or not ranks:
        return "no rank"
    if len(ranks) <= 2:
        return f"rank{'s' * (len(ranks) > 1)} {', '.join(str(rank) for rank in ranks)}"
    return f"{len(ranks)} ranks"


def _short(value: Any) -> str:
    return str(value.get("name", value)) if isinstance(value, dict) else str(value)
