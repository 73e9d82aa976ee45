"""A campaign in miniature: every stage runs on made-up data in published containers, and a killed job resumes."""

from __future__ import annotations

import fcntl
import io
import json
import signal
import time
from pathlib import Path

import pytest
from login import Command
from rich.console import Console

from workflow.draft import load_campaign
from workflow.finetuning import load_task, task_names
from workflow.rehearsal.evidence import proofs
from workflow.rehearsal.miniature import left_out, small_fields
from workflow.rehearsal.rehearse import Rehearsal
from workflow.report.rehearsed import print_rehearsal

CAMPAIGN = """\
name: big
site: frontier
budget: {node_hours: 100000}
branches:
  ions: {reader: omol25, path: "{data}/omol25", options: {subset: charged_nonsinglet}}
  crystals: {reader: extxyz, path: "{data}/crystals", options: {id: id}}
sources:
  pool: {reader: extxyz, path: "{data}/pool", limit: 1000000, options: {id: id}}
stages:
  data: {kind: convert, nodes: 16, walltime: "02:00"}
  search:
    kind: hpo
    needs: [data]
    nodes: 1032
    spares: 8
    walltime: "06:00"
    evaluations: 200
    trial: {nodes: 256, epochs: 20, fraction: 0.1}
    space:
      layers: {low: 2, high: 6}
      hidden: {low: 100, high: 1000, log: true}
      learning_rate: {low: 0.0001, high: 0.01, log: true}
    variants: {painn: {backbone: painn}}
  best: {kind: promote, needs: [search], per: backbone, top: 2}
  train: {kind: train, each: best, nodes: 2056, spares: 8, walltime: "12:00", links: 3, epochs: 100}
  lead: {kind: promote, needs: [train]}
  screen: {kind: screen, needs: [lead], nodes: 9300, candidates: pool, top: 10000}
"""


def test_a_campaign_of_a_thousand_nodes_is_rehearsed_here(campaign: Command, tmp_path: Path) -> None:
    (tmp_path / "big.yaml").write_text(CAMPAIGN)
    began = time.monotonic()
    done = campaign("rehearse", "big.yaml", "--into", tmp_path / "r", timeout=550)
    waited = time.monotonic() - began
    result = json.loads((tmp_path / "r" / "rehearsal.json").read_text())
    assert all(proof["holds"] for proof in result["proofs"]), done.stdout
    what = {proof["what"]: proof["seen"] for proof in result["proofs"]}
    assert what["a killed job resumed from its checkpoint"].startswith("train/1: job 1 was killed")
    assert [row["key"] for row in result["rows"]] == ["data", "search/painn", "best", "train/1", "train/2", "lead", "screen"]
    assert "yes every stage done" in done.stdout
    assert max(row["seconds"] for row in result["rows"]) < result["seconds"] < waited
    assert "evaluations 2 of 200" in result["left_out"]["search/painn"]
    assert "left out of search/painn: evaluations 2 of 200" in done.stdout
    assert not any((tmp_path / "r" / "node-local").rglob("*.bp"))


def test_a_campaign_of_data_alone_is_rehearsed(tmp_path: Path, campaign: Command) -> None:
    (tmp_path / "one.yaml").write_text(
        'name: one\nsources: {a: {reader: extxyz, path: "{data}/a"}}\nstages: {data: {kind: convert}}\n'
    )
    done = campaign("rehearse", "one.yaml", "--into", tmp_path / "r")
    assert "yes every stage done" in done.stdout and "yes a killed job's work was taken up: data: job 1 was killed" in done.stdout


def test_what_was_not_shown_is_told(tmp_path: Path, campaign: Command) -> None:
    (tmp_path / "one.yaml").write_text(
        'name: one\nsources: {a: {reader: extxyz, path: "{data}/a"}}\nstages: {data: {kind: convert}}\n'
    )
    campaign("rehearse", "one.yaml", "--into", tmp_path / "r")
    assert [each.holds for each in proofs(tmp_path / "r" / "run", None)] == [True, False]


def test_nothing_of_somebody_else_is_overwritten(tmp_path: Path, campaign: Command) -> None:
    (tmp_path / "big.yaml").write_text(CAMPAIGN)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    done = campaign("rehearse", "big.yaml", "--into", tmp_path / "mine", check=False)
    assert done.returncode == 2 and "something else lies there" in done.stderr
    assert (tmp_path / "mine" / "thesis.tex").exists()


def test_a_wrong_file_is_told_before_anything_is_made(tmp_path: Path, campaign: Command) -> None:
    (tmp_path / "big.yaml").write_text(CAMPAIGN.replace("evaluations", "evaluatoins"))
    done = campaign("rehearse", "big.yaml", "--into", tmp_path / "r", check=False)
    assert done.returncode == 2 and "evaluatoins" in done.stderr and not (tmp_path / "r").exists()


def test_the_small_campaign_keeps_what_breaks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Readers, their options, backbones, the names in the space and the graph stay; sizes shrink."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    sc26 = load_campaign(Path(__file__).parents[2] / "campaigns" / "sc26.yaml", "local")
    names = [*sc26.header.branches, *sc26.header.sources]
    fields = small_fields(sc26, dict.fromkeys(names, "x"))
    for name, branch in sc26.header.branches.items():
        assert (fields["branches"][name]["reader"], fields["branches"][name].get("options", {})) == (
            branch.reader,
            branch.options,
        )
    searches = fields["stages"]["search"]["variants"]
    for name, spec in sc26.stages.items():
        if name.startswith("search/"):
            small = searches[name.partition("/")[2]]
            assert set(small["space"]) == set(spec.space) and small["backbone"] == spec.backbone
            assert small["evaluations"] == 2
    assert fields["stages"]["finetune"]["task"] == list(sc26.stages["finetune"].task)
    assert set(fields["stages"]) == {name.partition("/")[0] for name in sc26.stages}


def test_what_the_small_campaign_leaves_out_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    told = left_out(load_campaign(Path(__file__).parents[2] / "campaigns" / "sc26.yaml", "local"))
    assert {"strategies scratch"} <= set(told["finetune"])
    assert told["search/egnn"] == ["evaluations 2 of 200"]
    assert told["train"] == ["epochs 4 of 100"] and "data" not in told
    console = Console(file=io.StringIO(), width=80)
    print_rehearsal(Rehearsal(tmp_path, [], [], 1.0, told), console)
    printed = " ".join(console.file.getvalue().split())  # type: ignore[attr-defined]
    assert "left out of finetune: links 2 of 3; strategies scratch; epochs 2 of 200" in printed
    assert "left out of search/egnn, search/schnet" in printed and printed.count("evaluations 2 of 200") == 1


def test_a_small_training_asks_for_no_more_ranks_than_there_are(tmp_path: Path) -> None:
    train = "  train: {kind: train, needs: [data], backbone: painn, training: {width: 64}}"
    text = f"name: x\nbranches: {{a: {{reader: extxyz, path: a}}}}\nstages:\n  data: {{kind: convert}}\n{train}\n"
    (tmp_path / "wide.yaml").write_text(text)
    fields = small_fields(load_campaign(tmp_path / "wide.yaml", "local"), {"a": "x"})
    assert fields["stages"]["train"]["training"]["width"] is None


@pytest.mark.slow
def test_the_reference_campaign_is_rehearsed(campaign: Command, tmp_path: Path) -> None:
    file = Path(__file__).parents[2] / "campaigns" / "sc26.yaml"
    campaign("rehearse", file, "--into", tmp_path / "r", timeout=580)
    assert all(proof["holds"] for proof in json.loads((tmp_path / "r" / "rehearsal.json").read_text())["proofs"])


@pytest.mark.slow
@pytest.mark.timeout(1900)
def test_the_twelve_tasks_are_rehearsed_and_told_in_tables(campaign: Command, tmp_path: Path) -> None:
    file = Path(__file__).parents[2] / "campaigns" / "twelve.yaml"
    campaign("rehearse", file, "--into", tmp_path / "r", timeout=1800)
    assert all(proof["holds"] for proof in json.loads((tmp_path / "r" / "rehearsal.json").read_text())["proofs"])
    campaign("report", tmp_path / "r" / "run", "--tables", "--into", tmp_path / "tables")
    tables = json.loads((tmp_path / "tables" / "tables.json").read_text())
    errors = [each for each in tables if each["caption"].partition(", on the test split")[1] and each["columns"][0] == "task"]
    assert {each["caption"].partition(":")[0] for each in errors} == {load_task(name).group for name in task_names()}
    assert len({row[0] for each in errors for row in each["rows"]}) == 12


DATA = 'name: one\nsources: {a: {reader: extxyz, path: "{data}/a"}}\nstages: {data: {kind: convert}}\n'


def test_two_rehearsals_do_not_share_a_folder(tmp_path: Path, campaign: Command) -> None:
    (tmp_path / "one.yaml").write_text(DATA)
    (tmp_path / "r").mkdir()
    with open(tmp_path / "r" / "rehearsal.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = campaign("rehearse", "one.yaml", "--into", tmp_path / "r", check=False)
    assert done.returncode == 2 and "another rehearsal is at work there" in done.stderr


def test_a_folder_whose_name_would_be_filled_in_is_refused(tmp_path: Path, campaign: Command) -> None:
    (tmp_path / "one.yaml").write_text(DATA)
    done = campaign("rehearse", "one.yaml", "--into", tmp_path / "{user}", check=False)
    assert done.returncode == 2 and "braces in the name of a folder" in done.stderr and not (tmp_path / "{user}").exists()


def test_a_rehearsal_that_is_told_to_end_leaves_no_job(tmp_path: Path, campaign: Command) -> None:
    (tmp_path / "one.yaml").write_text(DATA)
    running, spool = campaign.start("rehearse", "one.yaml", "--into", tmp_path / "r"), tmp_path / "r" / "spool"
    while not list(spool.glob("*.job")):
        assert running.poll() is None
        time.sleep(0.1)
    running.terminate()
    assert running.wait(120) == 128 + signal.SIGTERM
    assert {path.stem for path in spool.glob("*.job")} == {path.stem for path in spool.glob("*.end")}
