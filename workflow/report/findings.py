"""The sections of a report that tell what was found: data, searches, trainings, promotions, fine-tunings, screenings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from workflow.report import parity_plots, plots, search_plots, tables, training_plots
from workflow.report.blocks import Block, Picture, Section
from workflow.report.compared import comparison_tables
from workflow.report.coverage import coverage
from workflow.report.facts import Facts, Line, StageFacts
from workflow.report.finetuned import finetuning_tables
from workflow.report.provenance import stage_origin, stages_origin
from workflow.report.tables import number

_ALL_POINTS = 60_000


def data(facts: Facts) -> Section:
    """Return what the conversions found."""
    found = [stage for stage in facts.stages if stage.result.get("branches") and stage.status.kind == "convert"]
    blocks: list[Block] = []
    for stage in found:
        origin = stage_origin(facts, stage, _receipt(stage))
        blocks += [Block(table=tables.data_table(stage), origin=origin), *coverage(stage, origin)]
    return Section("data", "Data", blocks=tuple(blocks))


def searches(facts: Facts) -> Section:
    """Return each search's trajectory and trials, and what its objective costs."""
    about = (
        "Objective: mean over branches of ½(energy MAE/σ_E + force MAE/σ_F) on validation, σ the training split's spread of "
        "residual energy per atom and its RMS force; lower is better. Failed trials stand along the top edge."
    )
    found = [stage for stage in facts.stages if stage.trials]
    blocks = [block for stage in found for block in _search(facts, stage)]
    if pareto := _pareto(facts, found):
        blocks.append(Block(picture=pareto))
    return Section("searches", "Searches", about, blocks=tuple(blocks))


def trainings(facts: Facts) -> Section:
    """Return errors of each training, branch by branch: over epochs, as a table, predictions beside labels."""
    about = (
        "Dashed: what knows nothing (per-element linear fit for energies, zero for forces), fitted on the training split. "
        "The best epoch on validation is tested once, on the test split."
    )
    stages = [stage for stage in facts.stages if stage.status.kind == "train"]
    return Section("trainings", "Training", about, blocks=tuple(block for stage in stages for block in _training(facts, stage)))


def promotions(facts: Facts) -> Section:
    """Return what was promoted out of what."""
    found = [stage for stage in facts.stages if "ranking" in stage.result]
    blocks = (Block(table=tables.promotion_table(stage), origin=stage_origin(facts, stage, _receipt(stage))) for stage in found)
    return Section("promotions", "Promotion", blocks=tuple(blocks))


def finetunings(facts: Facts) -> Section:
    """Return each fine-tuning's table, and for each task the predictions of all strategies beside labels."""
    blocks: list[Block] = []
    for stage in facts.stages:
        if "table" not in stage.result:
            continue
        origin, rows = stage_origin(facts, stage, _receipt(stage)), stage.result["table"]
        made = finetuning_tables(stage)
        blocks += [Block(title="" if place else stage.key, table=table, origin=origin) for place, table in enumerate(made)]
        for task in dict.fromkeys(str(row.get("task") or stage.result.get("task")) for row in rows):
            samples = {role.rpartition(":")[2]: sample for role, sample in stage.parity.items() if task in sample["branches"]}
            if samples:
                first = [row for row in rows if str(row.get("task") or task) == task and not row.get("repeat")]
                metrics = {"-".join(filter(None, (str(row.get("strategy")), row.get("precision")))): row for row in first}
                shown = {name: sample["branches"][task] for name, sample in samples.items()}
                split = str(next(iter(samples.values())).get("split") or "?")
                blocks.append(_parity(facts, stage, f"{stage.key} on {task}, {split} split", shown, metrics))
    return Section("finetunings", "Fine-tuning", blocks=tuple(blocks))


def comparisons(facts: Facts) -> Section:
    """Return what ways to train came to, how far labels disagree, and which order that allows."""
    about = "Mean ± half of the 95 % confidence interval over the seeds, on the test split; the epoch is the best on validation."
    blocks: list[Block] = []
    for stage in facts.stages:
        origin = stage_origin(facts, stage, _receipt(stage))
        tables_of = comparison_tables(stage)
        blocks += [Block(title="" if k else _titled(stage), table=table, origin=origin) for k, table in enumerate(tables_of)]
    return Section("comparisons", "Comparison", about, blocks=tuple(blocks))


def screenings(facts: Facts) -> Section:
    """Return each screening's histogram and best candidates, and the blends behind them."""
    blocks: list[Block] = []
    for stage in facts.stages:
        if stage.status.kind == "blend" and stage.result.get("metrics"):
            origin = stage_origin(facts, stage, _receipt(stage))
            blocks.append(Block(title=stage.key, table=tables.blend_table(stage), warning=worse_than_mean(stage), origin=origin))
        if "top" in stage.result:
            blocks += _screening(facts, stage)
    return Section("screenings", "Screening", blocks=tuple(blocks))


def worse_than_mean(stage: StageFacts) -> str:
    """Say on which branches' labels a blend does worse than the plain mean of the branches; empty where on none."""
    blend, mean = list(tables.BLENDS)[:2]
    known = {name: (each[blend], each[mean]) for name, each in stage.result["metrics"].items() if blend in each and mean in each}
    worse = [f"{name} ({number(b)} against {number(m)} meV/atom)" for name, (b, m) in sorted(known.items()) if b > m * (1 + 1e-9)]
    if not worse:
        return ""
    means = [sum(values) / len(known) for values in zip(*known.values(), strict=True)]
    verdict = "worse" if means[0] > means[1] else "still better"
    overall = f"{verdict} over all branches ({number(means[0])} against {number(means[1])} meV/atom)"
    return f"The blend is worse than the plain mean of the branches on the labels of {', '.join(worse)}; {overall}."


def _search(facts: Facts, stage: StageFacts) -> list[Block]:
    title, told = f"Search {_titled(stage)}", _trials_text(stage)
    best = min((value for row in stage.trials if (value := search_plots.finished(row)) is not None), default=None)
    alternative = f"Objective of each trial and best so far, by evaluation and by time. {told}" + (
        f" Best objective {number(best)}." if best is not None else ""
    )
    svg = search_plots.trajectory(f"search {stage.key}", stage.trials)
    origin = stage_origin(facts, stage, _receipt(stage), "record.jsonl of its attempts")
    picture = Picture(title, alternative, svg, told, origin)
    return [
        Block(title=_titled(stage), warning=_remark(stage), picture=picture),
        Block(table=tables.trials_table(stage), folded=True),
    ]


def _pareto(facts: Facts, found: list[StageFacts]) -> Picture | None:
    trials: dict[str, list[Line]] = {}
    nodes: dict[str, int] = {}
    for stage in found:
        name = _backbone(stage) or stage.key
        trials.setdefault(name, []).extend(dict(row) for row in stage.trials)
        nodes[name] = int((stage.spec.get("trial") or {}).get("nodes") or 1)
    points = {name: [row for row in rows if search_plots.finished(row) is not None] for name, rows in trials.items()}
    points = {name: rows for name, rows in points.items() if rows}
    if not points:
        return None
    told = "; ".join(
        f"{name}: {len(rows)} trials, best {number(min(row['objective'] for row in rows))}" for name, rows in points.items()
    )
    caption = "Each backbone's finished trials, and as a staircase those that none of its own beats in both cost and objective."
    files = (path for stage in found for path in (_receipt(stage), f"{stage.attempt}/run/record.jsonl"))
    origin = stages_origin(facts, found, *files)
    return Picture(
        "Objective against cost, with each backbone's Pareto front",
        f"Objective against parameters and against node time of training. {told}.",
        search_plots.pareto(points, nodes),
        caption,
        origin,
    )


def _training(facts: Facts, stage: StageFacts) -> list[Block]:
    remark, splits = _remark(stage), tables.splits_of(stage.result)
    blocks = [Block(title=_titled(stage), warning=remark)] if remark else []
    for task, lines in stage.curves.items():
        if lines:
            blocks.append(_curves(facts, stage, task, lines))
    for split, errors in splits.items():
        if errors:
            origin = stage_origin(facts, stage, _receipt(stage))
            blocks.append(Block(table=tables.errors_table(f"Errors of {stage.key} on the {split} split", errors), origin=origin))
    for sample in stage.parity.values():
        name = f"{stage.key} on the {sample.get('split', '?')} split"
        blocks.append(_parity(facts, stage, name, sample["branches"], splits.get("test", {})))
    return blocks


def _curves(facts: Facts, stage: StageFacts, task: str, lines: list[Line]) -> Block:
    last = lines[-1]
    told = f"{len(lines)} validations, {number(last.get('epoch'))} epochs, {number(last.get('step'))} steps."
    ends = "; ".join(f"{branch} {_errors(each)}" for branch, each in (last.get("validation") or {}).items())
    svg = training_plots.curves(f"training {stage.key} {task}", lines, stage.result.get("metrics") or {})
    origin = stage_origin(facts, stage, f"metrics.jsonl of {stage.key}'s task {task}")
    title = f"Validation errors of {_titled(stage)}"
    caption = f"{told} Horizontal lines, dashed: what knows nothing."
    return Block(
        title="" if _remark(stage) else _titled(stage),
        picture=Picture(title, f"Curves over epochs. At the end: {ends}.", svg, caption, origin),
    )


def _parity(facts: Facts, stage: StageFacts, name: str, sample: dict[str, Any], metrics: dict[str, Any]) -> Block:
    """Return parity plots.

    Args:
        facts: The campaign.
        stage: The stage that tested.
        name: What was tested on which split.
        sample: Pairs by kind, by branch or strategy.
        metrics: Errors of all labels, by branch or strategy.
    """
    errors = "; ".join(f"{each} {_errors(found)}" for each, found in metrics.items() if each in sample)
    most, kinds = _points(facts), {kind for each in sample.values() for kind in each}
    shown = max((min(len(pairs), most) for each in sample.values() for pairs in each.values()), default=0)
    title = f"{'ROC curves' if kinds == {'probabilities'} else 'Predictions beside labels'}: {name}"
    drawn = f"At most {shown} evenly spaced ones are drawn in a panel; the errors written in it are those of all labels."
    caption = f"{parity_plots.reading(kinds)} {drawn}"
    origin = stage_origin(facts, stage, *(each["path"] for each in stage.outputs if str(each.get("role")).startswith("parity")))
    svg = parity_plots.parity(sample, metrics, most)
    return Block(picture=Picture(title, f"Parity plots. {errors}.", svg, caption, origin))


def _errors(found: Mapping[str, Any]) -> str:
    """Return the errors of energies and forces, or of what a task labels instead, in words."""
    if found.get("kind") == "class":
        return f"ROC-AUC {number(found.get('roc_auc'))}"
    if found.get("kind") == "scalar":
        return f"MAE {number(found.get('target_mae'))} {found.get('unit', '')}"
    energy, force = found.get("energy_mae_mev_per_atom"), found.get("force_mae_mev_per_angstrom")
    told = [f"{number(energy)} meV/atom"] if energy is not None else []
    return "MAE " + " and ".join([*told, *([f"{number(force)} meV/Å"] if force is not None else [])]) if told or force else "none"


def _points(facts: Facts) -> int:
    """Return how many points a panel may have, so that all parity plots together leave the page small."""
    panels = sum(2 * len(sample["branches"]) for stage in facts.stages for sample in stage.parity.values())
    return max(100, min(1000, _ALL_POINTS // max(1, panels)))


def _screening(facts: Facts, stage: StageFacts) -> list[Block]:
    result, blocks = stage.result, list[Block]()
    histogram, score = result.get("histogram") or {}, str(result.get("score", "score"))
    flagged = f"{number(result.get('flagged') or 0)} flagged and not ranked"
    count = int(result.get("count") or 0)
    scored = f"{number(count - int(result.get('flagged') or 0))} of {number(count)} structures scored by {score}"
    text = f"{scored}, {flagged}. {result.get('meaning', '')}"
    origin = stage_origin(facts, stage, _receipt(stage), *(each["path"] for each in stage.outputs if each.get("role") == "top"))
    edges, counts = list(histogram.get("edges") or ()), list(histogram.get("counts") or ())
    if counts and len(edges) == len(counts) + 1:
        label = f"{score}{' (' + histogram['unit'] + ')' if histogram.get('unit') else ''}"
        top = max(range(len(counts)), key=counts.__getitem__)
        alternative = (
            f"Histogram of {sum(counts):,.0f} scores from {edges[0]:.3g} to {edges[-1]:.3g}; most lie near {edges[top]:.3g}."
        )
        svg = plots.histogram(f"scores {stage.key}", edges, counts, label)
        blocks.append(Block(title=_titled(stage), picture=Picture(f"Scores of {stage.key}", alternative, svg, text, origin)))
    else:
        blocks.append(Block(title=_titled(stage), text=text))
    return [*blocks, Block(table=tables.ranking_table(stage), origin=origin)]


def _trials_text(stage: StageFacts) -> str:
    done = sum(row.get("status") == "done" for row in stage.trials)
    causes: dict[str, int] = {}
    for row in stage.trials:
        if row.get("status") == "failed":
            causes[str(row.get("cause"))] = causes.get(str(row.get("cause")), 0) + 1
    failed = ", ".join(f"{count} {cause}" for cause, count in sorted(causes.items())) or "none"
    resumed = sum(bool(row.get("interrupted")) for row in stage.trials)
    stopped = sum(row.get("status") == "stopped" for row in stage.trials)
    early = f" {stopped} stopped early (their objective is that of fewer epochs);" if stopped else ""
    return f"{len(stage.trials)} trials: {done} done;{early} failed: {failed}; {resumed} interrupted and resumed."


def _remark(stage: StageFacts) -> str:
    """Return what a stage that is done says of itself: links that ran out, a test for which no time was left."""
    message = stage.message
    return f"{message[0].upper()}{message[1:]}." if message and stage.status.state == "done" else ""


def _backbone(stage: StageFacts) -> str:
    backbone: Any = stage.result.get("backbone") or stage.spec.get("backbone")
    return str(backbone.get("name", "")) if isinstance(backbone, dict) else str(backbone or "")


def _titled(stage: StageFacts) -> str:
    name = _backbone(stage)
    unfinished = "" if stage.status.state == "done" else f" ({stage.status.state})"
    return f"{stage.key}{f', {name}' if name and name != stage.key else ''}{unfinished}"


def _receipt(stage: StageFacts) -> str:
    return f"stages/{stage.key.replace('/', '-')}/receipt.json"
