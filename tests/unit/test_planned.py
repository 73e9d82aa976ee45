"""A plan on a terminal: figures that add up, the order of release in few lines, nothing that cannot be meant."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import pytest
import yaml
from rich.console import Console
from rich.table import Table

from workflow.draft import load_campaign
from workflow.plan import make_plan
from workflow.report.planned import print_plan
from workflow.report.screen import print_table, screen

HEADER = {"name": "p", "branches": {"x": {"reader": "extxyz", "path": "x"}}}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path


def printed(home: Path, stages: dict[str, object], **header: object) -> str:
    (home / "c.yaml").write_text(yaml.safe_dump({**HEADER, **header, "stages": stages}))
    console = Console(file=io.StringIO(), width=80, highlight=False)
    print_plan(make_plan(load_campaign(home / "c.yaml")), console)
    return console.file.getvalue()  # type: ignore[attr-defined]


def train(links: int, **keys: object) -> dict[str, object]:
    return {"kind": "train", "backbone": "painn", "nodes": 2, "walltime": "00:00:30", "links": links, **keys}


def test_node_hours_of_a_small_campaign_are_not_rounded_to_none(home: Path) -> None:
    text = printed(home, {"a": train(1), "b": train(3)}, budget={"node_hours": 2})
    assert "00:00:30      0.0167  local" in text and "00:00:30        0.05  local" in text
    assert "at most 0.0667 of a budget of 2 node-hours" in text


def test_a_total_just_over_its_budget_does_not_look_like_it(home: Path) -> None:
    text = printed(home, {"a": train(1, walltime="30:00"), "b": train(1, walltime="20:06")}, budget={"node_hours": 100.1})
    assert "at most 100.2 of a budget of 100.1 node-hours" in text and "over budget: b would be held" in text


def test_links_of_the_same_chains_share_a_line(home: Path) -> None:
    text = printed(home, {"a": train(7), "b": train(2)})
    assert "  1  a 1/7, b 1/2\n  2  a 2/7, b 2/2\n  3-7  a 3/7 to a 7/7, one after the other\n" in text


def test_no_order_is_told_of_what_is_refused(home: Path) -> None:
    text = printed(home, {"a": train(2), "b": train(2, nodes=9)})
    assert "order of release: not before every stage fits" in text and " a 1/2" not in text


def test_own_files_are_not_counted_as_the_published_set(home: Path) -> None:
    sources = {"branches": {"a": {"reader": "mptrj", "path": "a"}, "b": {"reader": "ani1x", "path": "b.h5"}}}
    stages = {"data": {"kind": "convert"}}
    assert "at most 6.5 M unique structures, as published or limited" in printed(home, stages, **sources)
    (home / "a" / "below").mkdir(parents=True)
    (home / "a" / "below" / "few.json").write_bytes(b"x" * 1000)
    text = printed(home, stages, **sources)
    assert "at most 5.0 M unique structures, as published or limited (your files may hold fewer), not counting a" in text
    with open(home / "a" / "below" / "many.json", "wb") as file:
        file.truncate(1_600_000 * 8)
    assert "6.5 M unique structures" in printed(home, stages, **sources)


def test_what_a_trial_has_leaves_out_the_end_of_each_job(home: Path) -> None:
    search = {"kind": "hpo", "backbone": "painn", "nodes": 2, "walltime": "01:00", "evaluations": 4}
    text = " ".join(printed(home, {"find": search}).split())
    assert "00:29:57 for each of 4 (the last 00:00:06 of a job are for stopping)" in text


def test_the_number_of_trainings_is_told_with_what_it_is_the_product_of(home: Path) -> None:
    branches = {name: {"reader": "extxyz", "path": name} for name in ("x", "y")}
    stages = {
        "data": {"kind": "convert"},
        "pair": {"kind": "compare", "needs": ["data"], "backbone": "painn", "seeds": 4},
        "train": train(1, needs=["data"]),
        "tune": {"kind": "finetune", "needs": ["train"], "task": ["x", "y"], "precisions": ["fp64", "fp32"], "repeats": 3},
    }
    text = " ".join(printed(home, stages, branches=branches).split())
    assert "; 16 trainings: (2 apart + 1 one_head + 1 two_level) × 4 seeds" in text
    assert "; 36 trainings: 2 tasks × 3 strategies × 2 precisions × 3 seeds or folds" in text


def test_a_narrow_terminal_gets_every_figure_and_a_pipe_whole_lines(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "c.yaml").write_text(yaml.safe_dump({**HEADER, "stages": {"a-stage-of-a-long-name": train(3)}}))
    made = make_plan(load_campaign(home / "c.yaml"))
    narrow = Console(file=io.StringIO(), width=20, highlight=False)
    print_plan(made, narrow)
    lines = narrow.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert "a-stage-of-a-long-name" in lines and "  walltime 00:00:30" in lines and "  queue local" in lines
    assert not any("…" in line for line in lines)
    monkeypatch.delenv("COLUMNS", raising=False)
    with (home / "out").open("w") as file, contextlib.redirect_stdout(file):
        print_plan(made)
        long = Table("what", box=None)
        long.add_row("word " * 60)
        print_table(long, screen())
    text = (home / "out").read_text()
    assert f"{made.site.name}: {made.site.description}\n" in text and ("word " * 60).strip() in text
    monkeypatch.setenv("COLUMNS", "33")
    assert screen().width == 33
