"""Fine-tunings under equal budgets: tasks that ship as data, their seeds and folds, and learning rates chosen on validation."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from made_campaign import MadeCampaign
from stage_allocation import FakeAllocation, data_receipt, following
from test_stage_training import given, promoted, request, run, trained

from model.config import FinetuneConfig
from model.outcome import Cause, Outcome, Status, write_json
from model.registry import reader
from workflow.campaign import stage_kind
from workflow.cli import campaign as cli
from workflow.draft import load_campaign
from workflow.errors import ConfigError
from workflow.finetuning import FinetuneTask, load_task, task_names
from workflow.report.facts import StageFacts, gather
from workflow.report.finetuned import _spread, finetuning_tables
from workflow.report.status import StageStatus
from workflow.report.written import write_tables
from workflow.stages.finetune import FinetuneSpec

CAMPAIGN = Path(__file__).parents[2] / "campaigns" / "twelve.yaml"


def test_there_are_twelve_and_each_says_all() -> None:
    tasks = {name: load_task(name) for name in task_names()}
    assert len(tasks) == 12
    for task in tasks.values():
        module = reader(task.reader)
        module.Config.model_validate(task.options)
        scalar = module.INFO.target in ("scalar", "class")
        assert task.targets == (module.INFO.target,) if scalar else "energy" in task.targets
        keys = {"model": {"backbone": {}}, "branches": {"a": {"store": "a"}}, "strategy": "scratch"}
        FinetuneConfig.model_validate({**keys, "batch": task.batch, "epochs": task.epochs, **task.training})
    assert {name for name, task in tasks.items() if task.num_folds == 5} == {"matbench_jdft2d", "matbench_is_metal"}
    assert tasks["matbench_is_metal"].division.seed == 18012019 and tasks["matbench_is_metal"].division.stratified


def test_a_metric_that_does_not_fit_the_target_is_refused() -> None:
    with pytest.raises(ValueError, match="energy cannot be measured by roc_auc"):
        FinetuneTask(title="x", group="x", reader="qm9", targets=("energy",), metrics=("roc_auc",), epochs=1, batch=1)


def compared(tmp_path: Path, behaviour: Any, **keys: Any) -> tuple[FakeAllocation, Any]:
    spec = {"needs": ["best"], "task": {"task": "wiggle150", "emt": "matbench_jdft2d"}, "strategies": ["scratch", "unfrozen"]}
    made = FakeAllocation(request(tmp_path, "tune", "finetune", spec | keys, **given(tmp_path)), tmp_path, behaviour, num_nodes=6)
    return made, run(made)


def behave(name: str, config: Any, folder: Path) -> Outcome | Cause:
    """Better with the middle rate; a rate of 1 diverges, whatever the seed."""
    rate, (task,) = config.optimizer.learning_rate, config.branches
    if rate == 1.0:
        return Outcome(Status.FAILED, Cause.DIVERGED, "the loss is not finite")
    outcome = trained(folder, config, abs(rate - 0.01) + 0.1, epochs=config.epochs)
    fold = config.division.fold if config.division else 0
    value = (
        10.0 + config.seed + fold + (2.0 if config.strategy == "scratch" else 0.0) + (0.5 if config.precision == "bf16" else 0)
    )
    found = {"energy_mae_mev_per_atom": value, "energy_rmse_mev_per_atom": value, "num_energies": 20}
    found["energy_max_error_mev_per_atom"] = 3 * value
    if task == "emt":
        found = {"kind": "scalar", "unit": "eV/atom", "target_mae": value, "target_rmse": value, "num_targets": 8}
    outcome.result.update({"validation": {task: {"num_structures": 6}}, "seconds_to_best": 7.5})
    outcome.result.update({"test": {task: found}, "shared": {"tested": 10, "identity_in_training": fold}})
    return outcome


def test_rates_are_chosen_on_validation_and_every_repeat_has_the_same_budget(tmp_path: Path) -> None:
    made, result = compared(tmp_path, behave, precisions=["fp64", "bf16"], learning_rates=[0.001, 0.01, 1.0])
    assert result.status is Status.DONE
    assert len(made.configs) == 2 * 2 * 2 * 3 + 4 * 2 + 4 * 4, "three rates each, then two more seeds, and four more folds"
    for task, epochs, batch in (("task", 200, 8), ("emt", 200, 32)):
        mine = [config for config in made.configs.values() if task in config.branches]
        assert {(config.epochs, config.batch) for config in mine} == {(epochs, batch)}
    rows = result.result["table"]
    assert {row["learning_rate"] for row in rows} == {0.01}
    assert {row["learning_rate"] for row in result.result["rates"] if row["chosen"]} == {0.01}
    assert sum(row["chosen"] for row in result.result["rates"]) == 2 * 2 * 2
    assert len(rows) == 4 * 3 + 4 * 5 and not any("failed" in row for row in rows)
    seeds = [config.seed for config in made.configs.values() if "task" in config.branches]
    assert sorted(set(seeds)) == [0, 1, 2]
    folds = {(config.division.fold, config.seed) for config in made.configs.values() if "emt" in config.branches}
    assert folds == {(fold, 0) for fold in range(5)}


def reported(tmp_path: Path) -> StageFacts:
    """Return what a report knows of a comparison that was carried out."""
    _, result = compared(tmp_path, behave, precisions=["fp64", "bf16"], learning_rates=[0.01, 1.0])
    campaign = MadeCampaign(tmp_path / "made")
    campaign.begin("tune")
    campaign.end("tune", "done", result=result.result)
    (facts,) = [stage for stage in gather(tmp_path / "made").stages if stage.key == "tune"]
    return facts


def test_tables_are_files_too_and_those_of_an_earlier_call_go(tmp_path: Path) -> None:
    tables = finetuning_tables(reported(tmp_path))
    folder = tmp_path / "made" / "tables"
    call = ["report", str(tmp_path / "made"), "--tables"]
    assert CliRunner().invoke(cli, call, catch_exceptions=False).output == f"wrote {folder}\n"
    (folder / "notes.txt").touch()
    index = json.loads((folder / "tables.json").read_text())
    assert index[0]["file"] == "01-wiggle150-errors-of-tune.csv"
    assert [(each["stage"], each["caption"]) for each in index] == [("tune", table.caption) for table in tables]
    for each, table in zip(index, tables, strict=True):
        with (folder / each["file"]).open(newline="") as file:
            head, *rows = csv.reader(file)
        assert head == each["columns"] == [column.lstrip(">") for column in table.columns]
        assert rows == each["rows"] == [list(row) for row in table.rows]
    stale = folder / "09-gone.csv"
    stale.touch()
    write_json(folder / "tables.json", [*index, {"file": stale.name}])
    write_tables(tmp_path / "made", None)
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        [each["file"] for each in index] + ["notes.txt", "tables.json"]
    )
    assert CliRunner().invoke(cli, [*call, "--ro-crate"]).exit_code == 2
    with pytest.raises(ConfigError, match="no such folder"):
        write_tables(tmp_path / "made", tmp_path / "nowhere" / "tables")


def test_without_results_there_are_no_tables(tmp_path: Path) -> None:
    MadeCampaign(tmp_path / "made").begin("tune")
    with pytest.raises(ConfigError, match="no stage has results in tables yet"):
        write_tables(tmp_path / "made", None)


def test_standard_errors_are_written_out() -> None:
    assert [_spread(values) for values in ([1e3, 1.26e3], [1.0, 1.1], [5.0])] == ["1130 ± 130", "1.05 ± 0.05", "5"]


def test_a_miniature_keeps_every_task_and_every_step_between_trainings() -> None:
    spec = load_campaign(CAMPAIGN, "local").stages["finetune"]
    small = FinetuneSpec.model_validate({**spec.model_dump(), **stage_kind("finetune").miniature(spec)})
    assert small.tasks == spec.tasks and len(small.strategies) == 2 and len(small.learning_rates) == 2
    assert {small.repeats_of(task) for task in small.tasks} == {2}
    assert small.num_runs == 12 * 2 * (2 + 1)


def test_each_group_of_tasks_has_a_table() -> None:
    groups = {load_task(name).group for name in task_names()}
    assert groups == {"QM9", "MD17", "Wiggle150", "MS25", "OQMD", "ABX3", "Matbench"}


def test_tables_have_mean_error_pairs_units_and_numbers(tmp_path: Path) -> None:
    energies, scalars, energy_pairs, scalar_pairs, rates, leaks, *into = finetuning_tables(reported(tmp_path))
    assert [table.rows for table in into] == [(("gfn1", *["0 of 0 structures"] * 4),)] * 2
    captions = ("Wiggle150: errors of tune", "Matbench: errors of scalars of tune", "Wiggle150: errors: paired differences")
    for table, caption in zip((energies, scalars, energy_pairs), captions, strict=True):
        assert table.caption.startswith(caption)
    assert energies.columns[:5] == ("task", "strategy", "precision", ">energy MAE", ">linear fit")
    assert not any("force" in column for column in energies.columns), "the task has none"
    assert energies.rows[0][:4] == (
        "task: Wiggle150, energies of strained conformers",
        "scratch",
        "fp64",
        "13 ± 0.58 meV/atom (N = 20)",
    )
    assert energies.rows[0][energies.columns.index(">largest energy error")] == "39 ± 1.7 meV/atom (N = 20)"
    assert scalars.rows[0][3] == "14 ± 0.71 eV/atom (N = 8)"
    found = {row[1:3]: row[3] for row in energy_pairs.rows}
    assert found["unfrozen − scratch", "fp64"] == "-2 ± 0 meV/atom (3 pairs, N = 20)"
    assert found["bf16 − fp64", "scratch"] == "0.5 ± 0 meV/atom (3 pairs, N = 20)"
    assert scalar_pairs.rows[0][3].endswith("eV/atom (5 pairs, N = 8)")
    assert rates.rows[0][3:] == ("0.1 (N = 6)", "", "0.01") and ">1" in rates.columns
    assert energies.rows[0][-3:-1] == ("200 ± 0 epochs (N = 3 runs)", "7.5 ± 0 s (N = 3 runs)")
    assert [row[1:] for row in leaks.rows] == [
        ("0 of 10 structures", "0.0%", "3"),
        ("0–4 of 10 structures, mean 2", "20.0%", "5"),
    ]


def test_each_task_is_compared_with_the_branches_as_it_is_divided(tmp_path: Path) -> None:
    made, _ = compared(tmp_path, behave, repeats=1)
    free, folded = made.compared["leakage-task"], made.compared["leakage-emt"]
    assert (free.division, folded.division) == (None, load_task("matbench_jdft2d").division)
    stores = {name: tmp_path / "stages" / "data" / "stores" / name for name in ("gfn1", "emt", "task")}
    assert free.against == folded.against == {name: stores[name] for name in ("gfn1", "emt")}
    assert (free.task, folded.task, free.splits.seed) == (stores["task"], stores["emt"], 3)
    again = FakeAllocation(following(made), tmp_path, behave, num_nodes=6)
    result = run(again)
    assert not again.compared, "what an earlier attempt found counts"
    assert set(result.result["leakage"]) == {"task", "emt"}


def test_tasks_are_trained_on_though_their_leakage_cannot_be_told(tmp_path: Path) -> None:
    spec = {"needs": ["best"], "task": {"task": "wiggle150"}, "strategies": ["scratch"], "repeats": 1}
    made = request(tmp_path, "tune", "finetune", spec, **given(tmp_path))
    result = run(FakeAllocation(made, tmp_path, behave, leaked=Cause.BUG))
    assert (result.status, result.result["leakage"]) == (Status.DONE, {})
    assert result.result["not_compared"] == {"task": "the comparison failed: it ended with bug"}
    status = StageStatus(key="tune", kind="finetune", state="done", needs=())
    table = finetuning_tables(StageFacts(status=status, result=result.result))[-1]
    assert table.caption == "Leakage that is not counted in tune"
    assert table.rows == (("task", "not compared: the comparison failed: it ended with bug"),)


def test_a_branch_of_another_conversion_is_told_as_not_compared(tmp_path: Path) -> None:
    inputs = {"data": data_receipt(tmp_path, "gfn1", "task"), "best": promoted(tmp_path, 1.0, 2.0)}
    spec = {"needs": ["best"], "task": {"task": "wiggle150"}, "strategies": ["scratch"], "repeats": 1}
    made = FakeAllocation(request(tmp_path, "tune", "finetune", spec, inputs=inputs), tmp_path, behave)
    result = run(made)
    assert list(made.compared["leakage-task"].against) == ["gfn1"]
    assert result.result["not_compared"] == {"emt": "not converted by a stage that this one needs"}


def test_a_link_that_ends_early_goes_on_where_it_was(tmp_path: Path) -> None:
    short = lambda n, c, f: trained(f, c, 0.5, epochs=1) if c.optimizer.learning_rate == 0.01 else behave(n, c, f)  # noqa: E731
    made, result = compared(tmp_path, short, learning_rates=[0.001, 0.01])
    assert result.status is Status.PARTIAL
    assert all("-rate" in name for name in made.configs), "no repeat begins before every rate has been tried"


@pytest.mark.parametrize(
    ("keys", "what"),
    [
        ({"task": {"task": "qm99"}}, "no fine-tuning task 'qm99'"),
        ({"task": {"task": "qm9"}}, "'QM9, energy of atomization at 0 K' takes another source: reader qm9"),
        ({"task": "task", "precisions": ["fp32", "fp32"]}, "a precision stands twice"),
        ({"task": "task", "training": {"division": {}}}, "'division' is set by the stage itself"),
    ],
)
def test_mistakes_are_told(keys: dict[str, Any], what: str, tmp_path: Path) -> None:
    (tmp_path / "a.xyz").touch()
    source = {"reader": "extxyz", "path": "a.xyz"}
    stages = {"data": {"kind": "convert"}, "train": {"kind": "train", "needs": ["data"], "backbone": "painn"}}
    stages["tune"] = {"kind": "finetune", "needs": ["train"], **keys}
    path = tmp_path / "campaign.yaml"
    path.write_text(yaml.safe_dump({"name": "t", "branches": {"b": source}, "sources": {"task": source}, "stages": stages}))
    made = load_campaign(path)
    found = stage_kind("finetune").problems(made.stages["tune"], made)
    assert any(what in each[0] for each in found), found


def test_the_campaign_of_all_twelve_is_sound_and_says_what_it_takes() -> None:
    made = load_campaign(CAMPAIGN, "local")
    spec = made.stages["finetune"]
    assert isinstance(spec, FinetuneSpec)
    assert sorted(spec.task.values()) == task_names()
    assert stage_kind("finetune").problems(spec, made) == []
    assert set(spec.precisions) == {"fp64", "fp32", "bf16"} and len(spec.strategies) == 3
    assert spec.num_runs == 9 * 12 * (len(spec.learning_rates) + 4)


def test_a_task_without_a_test_split_is_named(tmp_path: Path) -> None:
    def untested(name: str, config: Any, folder: Path) -> Outcome:
        outcome = trained(folder, config, 0.1)
        (task,) = config.branches
        outcome.result["test"] = {task: {"num_structures": 0 if task == "task" else 4}}
        return outcome

    _, result = compared(tmp_path, untested, repeats=1)
    assert (result.status, result.message) == (Status.DONE, "no structure of task to test on")
