"""The figures of a report: what they say, and that they stay small."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from made_campaign import MadeCampaign, errors, parity, training_result, trials

from workflow.report.facts import gather
from workflow.report.finetuned import finetuning_tables
from workflow.report.html import render
from workflow.report.parity_plots import parity as draw_parity
from workflow.report.parity_plots import roc, thinned
from workflow.report.search_plots import front, pareto, trajectory
from workflow.report.timings import PHASES, TaskFacts, checkpoints, phases
from workflow.report.training_plots import curves
from workflow.report.trials import fold_trials, joined


def texts(svg: str) -> list[str]:
    return re.findall(r"<text[^>]*>([^<]*)</text>", svg)


def test_the_front_is_what_nothing_beats_in_both() -> None:
    points = [(3.0, 0.5), (1.0, 0.9), (2.0, 0.9), (4.0, 0.6), (5.0, 0.1), (1.0, 1.2)]
    assert front(points) == [(1.0, 0.9), (3.0, 0.5), (5.0, 0.1)]
    assert front([]) == []


def test_numbers_in_a_figure_keep_their_digits() -> None:
    rows = [{"id": n, "status": "done", "objective": 0.21 + n / 1000} for n in range(1, 6)]
    assert [each for each in texts(trajectory("digits", rows)) if re.fullmatch(r"0\.21\d\d?", each)]


@pytest.mark.parametrize("timed", [True, False], ids=["with times", "without"])
def test_a_search_is_drawn_by_evaluation_and_where_known_by_time(timed: bool) -> None:
    rows = [{**row, **({"asked": 60.0 * row["id"], "ended": 60.0 * row["id"] + 90} if timed else {})} for row in trials(24)]
    words = texts(trajectory("search", rows))
    assert ("minutes since the search began" in words) == timed
    assert {"evaluation, in the order of suggestion", "best so far", "failed: oom", "failed: diverged", "stopped early"} <= {
        *words
    }


def test_a_search_without_any_success_is_drawn_too() -> None:
    assert "failed: oom" in texts(trajectory("none", [{"id": 1, "status": "failed", "cause": "oom"}]))
    assert trajectory("waiting", [{"id": 1, "status": "waiting"}]).startswith("<svg")


def test_costs_are_drawn_by_backbone() -> None:
    rows = [{**row, "parameters": 1000 * row["id"]} for row in trials(24)]
    words = texts(pareto({"painn": rows, "egnn": rows[:5]}, {"painn": 4, "egnn": 1}))
    assert {"painn, front", "egnn, front", "parameters", "node-seconds of training"} <= {*words}
    assert "10k" in words


def test_what_only_the_record_knows_joins_the_receipt() -> None:
    told = [
        {"event": "ask", "t": 5.0, "trials": [{"trial": 1, "point": {}}]},
        {"event": "end", "t": 9.0, "trial": 1, "status": "done", "objective": 0.5, "seconds": 3, "result": {"parameters": 7}},
    ]
    receipt = [{"id": 1, "status": "done", "objective": 0.5}, {"id": 2, "status": "failed"}]  # fmt: skip
    one, two = joined(receipt, fold_trials(told))
    assert (one["asked"], one["ended"], one["parameters"], one["objective"]) == (5.0, 9.0, 7, 0.5)
    assert two["ended"] is None and joined([], fold_trials(told))[0]["ended"] == 9.0


def test_panels_tell_the_errors_of_all_labels() -> None:
    sample = parity(*"abcde")["branches"]
    words = texts(draw_parity(sample, {name: errors(0, 9) for name in sample}, 50))
    assert sum(word.startswith("MAE") for word in words) == 10
    assert {"a: energies", "e: forces", "label (eV/atom)", "label (eV/Å)"} <= {*words}
    assert any("N = 2,700" in word for word in words)


def test_a_perfect_order_fills_the_square_and_ties_count_half() -> None:
    assert roc([(1.0, 0.9), (0.0, 0.2), (1.0, 0.8)]) == [(0.0, 0.0), (0.0, 0.5), (0.0, 1.0), (1.0, 1.0)]
    assert roc([(1.0, 0.5), (0.0, 0.5)]) == [(0.0, 0.0), (1.0, 1.0)]
    assert roc([(0.0, 0.3)])[-1] == (1.0, 0.0)


def test_scalars_and_classes_have_panels_of_their_own() -> None:
    sample = {"gap": {"targets": [[0.5, 0.6], [1.5, 1.4]]}, "metal": {"probabilities": [[1.0, 0.9], [0.0, 0.1]]}}
    scalar = {"kind": "scalar", "unit": "eV", "target_mae": 0.1, "target_rmse": 0.1, "num_targets": 2}
    words = texts(draw_parity(sample, {"gap": scalar, "metal": {"kind": "class", "roc_auc": 1.0, "num_targets": 2}}, 9))
    assert {"gap: targets", "label (eV)", "MAE 0.1 eV", "RMSE 0.1", "metal: ROC curve", "ROC-AUC 1", "N = 2"} <= {*words}


def test_each_kind_of_task_has_a_table_with_units_and_numbers(tmp_path: Path) -> None:
    made = MadeCampaign(tmp_path)
    made.begin("tune")
    best = {"split": "test", "epochs": 3, "seconds_to_best": 1.5}
    gap = {"kind": "scalar", "unit": "eV", "target_mae": 0.25, "target_mean_baseline": 1.5, "num_targets": 40}
    metal = {"kind": "class", "roc_auc": 0.875, "f1": 0.5, "num_targets": 30, "num_positives": 12}
    rows = [
        {"task": "gap", "strategy": "frozen", **best, **gap},
        {"task": "metal", "strategy": "frozen", **best, **metal},
        {"task": "gap", "strategy": "scratch", "failed": "diverged", "message": "the loss is not finite"},
        {"task": "scarce", "strategy": "frozen", **best, **errors(0, 9)},
    ]
    made.end("tune", "done", result={"tasks": ["gap", "metal", "scarce"], "table": rows})
    (stage,) = [stage for stage in gather(tmp_path).stages if stage.key == "tune"]
    scalars, classes, energies = finetuning_tables(stage)
    assert scalars.rows[0][2:6] == ("0.25 eV (N = 40)", "", "1.5 eV (N = 40)", "")
    assert scalars.rows[1][-1] == "diverged: the loss is not finite" and "on the test split" in scalars.caption
    assert classes.rows[0][2:4] == ("0.875 (N = 30)", "0.5 (N = 30)") and "12 of 30 labels" in classes.rows[0]
    assert energies.columns[2:4] == (">energy MAE", ">linear fit") and energies.rows[0][2].endswith("meV/atom (N = 100)")


def test_thinning_is_even_and_keeps_what_is_few() -> None:
    assert thinned([1, 2, 3], 5) == [1, 2, 3]
    assert thinned(list(range(10)), 5) == [0, 2, 4, 6, 8]


def test_many_branches_have_their_own_line_each() -> None:
    names = [f"branch{number}" for number in range(16)]
    lines = [{"epoch": n, "validation": {name: errors(i, n) for i, name in enumerate(names)}} for n in (1, 2, 3)]
    svg = curves("many", lines, {})
    assert {*names} <= {*texts(svg)}


def test_phases_add_up_to_the_time_of_the_tasks(tmp_path: Path) -> None:
    spent = {"assemble": 1.0, "restore": 0.5, "forward": 4.0, "update": 0.25, "checkpoint": 2.0, "command": 10.0}
    tasks = [
        TaskFacts("t", tmp_path, {"timings_s": spent, "result": {"checkpoints": {"count": 4, "seconds": 2, "longest_s": 1}}})
    ]
    found = phases(tasks * 2)
    assert list(found) == list(PHASES)
    assert sum(found.values()) == pytest.approx(20.0)
    assert (found["load"], found["checkpoint"], found["other"]) == (3.0, 4.0, pytest.approx(5.0))
    assert checkpoints(tasks * 2) == {"count": 8, "seconds": 4, "longest_s": 1, "command": 20.0}


def test_a_report_of_the_largest_campaign_stays_under_five_megabytes(tmp_path: Path) -> None:
    """Four trainings of sixteen branches, twelve tasks fine-tuned three ways, searches of 200 trials, a thousand candidates."""
    names, tasks, ways = [f"branch{n}" for n in range(16)], [f"task{n}" for n in range(12)], ("scratch", "frozen", "unfrozen")
    made = MadeCampaign(tmp_path)
    for stage in ("painn", "egnn"):
        made.begin(stage)
        made.record(stage, trials(200))
        made.end(stage, "done", result={"backbone": stage, "trials": trials(200)})
    for number in (1, 2):
        stage = f"train/{number}"
        made.begin(stage)
        made.metrics(stage, "train", 100)
        result = training_result(0.4) | {"test": {"metrics": {name: errors(3, 9) for name in names}}}
        made.end(stage, "done", result=result, files={"parity": parity(*names, count=1000)})
    made.begin("tune")
    rows = [{"task": task, "strategy": way, "split": "test", **errors(2, 9)} for task in tasks for way in ways]
    files = {f"parity:{task}:{way}": parity(task, count=1000) for task in tasks for way in ways}
    made.end("tune", "done", result={"tasks": tasks, "table": rows}, files=files)
    made.begin("screen")
    top = [
        {"place": n, "id": f"candidate-{n:09d}", "formula": "C12H22O11", "num_atoms": 45, "score": 0.001 * n} for n in range(2000)
    ]
    made.end("screen", "done", result={"score": "score", "count": 10**9, "top": top[:20]}, files={"top": {"top": top}})
    facts = gather(tmp_path)
    once = len(render(facts).encode())
    assert once < 4_000_000, "two trainings here, four there"
