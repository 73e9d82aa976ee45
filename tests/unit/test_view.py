"""The live view as text: whole lines at 80 and 60 columns, golden files for campaigns in every state.

`WRITE_GOLDEN=1 pytest tests/unit/test_view.py` writes the golden files anew; look at the difference before you commit it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import made_campaign
import pytest
from made_campaign import MadeCampaign, half, progress, whole
from rich.console import Console

from workflow.report.live import View, rest_s
from workflow.report.status import read_status

GOLDEN = Path(__file__).parents[1] / "golden" / "view"
MIDSUMMER = 1782050400.0  # 2026-06-21, 14:00 UTC


@pytest.fixture(autouse=True)
def at_midsummer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workflow.chained.time.time", lambda: MIDSUMMER)
    monkeypatch.setattr("workflow.report.live.time.monotonic", lambda: 0.0)
    monkeypatch.setattr("workflow.report.status.is_driven", lambda _: True)
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    monkeypatch.chdir(tmp_path)


def picture(folder: Path, width: int = 80, height: int | None = None) -> str:
    """Render a campaign; no line may be longer than the terminal is wide, so that none wraps or is cut."""
    with open(os.devnull, "w") as nowhere:
        console = Console(width=500, record=True, file=nowhere, highlight=False)
        console.print(View().render(read_status(folder, Path("gfm.yaml")), width, height))
        lines = [line.rstrip() for line in console.export_text().splitlines()]
    assert all(len(line) <= width for line in lines), "\n".join(lines)
    return "\n".join(lines) + "\n"


def compare(name: str, text: str) -> None:
    path = GOLDEN / f"{name}.txt"
    if os.environ.get("WRITE_GOLDEN"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert text == path.read_text()


def over_budget(folder: Path) -> None:
    made = MadeCampaign(folder)
    made.begin("data")
    made.end("data", "done", result={"branches": {}})
    for stage in ("painn", "egnn"):
        message = "its next job may cost 1 node-hours; 20 of 20 are used or reserved"
        made.journal.commit("stage", stage=stage, state="held", cause="approval", message=message)
    made.journal.commit("approved", id="1", stage=None, node_hours=25.0)


def failed(folder: Path) -> None:
    made = MadeCampaign(folder)
    made.begin("data")
    made.end("data", "done", result={"branches": {}})
    made.begin("egnn")
    made.end("egnn", "failed", cause="node_failure", message="node2 does not answer")
    made.begin("egnn", 1, 2, running=False)
    made.begin("painn")
    message = (
        "link 1, attempt 1: no such file: /lustre/orion/xyz123/proj-shared/data/ani1x-release.h5, which branch ani1x reads " * 3
    )
    made.end("painn", "failed", cause="bad_config", message=message)
    made.journal.commit("stage", stage="painn", state="failed", cause="bad_config", message=message)
    made.journal.commit("stage", stage="best", state="cancelled", cause=None, message="cancelled on request")


def training(folder: Path) -> None:
    """A fan-out at work: one copies its data in, one trains in its second job with a third behind."""
    made = MadeCampaign(folder)
    for stage in ("data", "painn", "egnn"):
        made.begin(stage)
        made.end(stage, "done", result={})
    made.decide("best", {"selected": [], "ranking": []})
    made.begin("train/1")
    staged = {"files": 4, "bytes": 8e9, "nodes": 2, "done_bytes": 6.4e9}
    made.beat("train/1", progress={"stage_in": staged}, tasks={}, time_left_s=39_000.0)
    made.begin("train/2")
    made.end("train/2", "partial", result={})
    made.begin("train/2", 2)
    tasks = {"train": {"status": "running", "nodes": ["node1", "node2"], "progress": progress(7, 12)}}
    made.beat("train/2", 2, tasks=tasks)
    made.begin("train/2", 3, running=False)


def between(folder: Path) -> None:
    """Between two jobs of a search: the next waits in the queue."""
    made = MadeCampaign(folder)
    made.begin("painn")
    made.end("painn", "partial", result={"trials": made_campaign.trials(9)})
    made.begin("painn", 2, running=False)


def many(folder: Path) -> None:
    made = MadeCampaign(folder)
    made.begin("painn")
    tasks = {f"trial-{n:05d}": {"status": "done", "nodes": ["n1"], "progress": progress(4, 4)} for n in range(20)}
    tasks |= {f"trial-{n}": {"status": "running", "nodes": ["n1"], "progress": progress(1, 4)} for n in range(10_000, 10_256)}
    counts = {"total": 20_000, "done": 7_000, "running": 256, "stopped": 940, "failed": {"oom": 2_050, "diverged": 10}}
    made.beat("painn", tasks=tasks, progress={"trials": counts, "best": {"trial": 8123, "objective": 0.0123}})


def converting(folder: Path) -> None:
    made = MadeCampaign(folder)
    made.begin("data")
    made.beat("data", progress={"sources": {"total": 16, "done": 5}}, tasks={})


MAKERS: dict[str, Callable[[Path], Any]] = {
    "half": half,
    "whole": whole,
    "held": over_budget,
    "failed": failed,
    "training": training,
    "between": between,
    "many": many,
    "converting": converting,
    "not-started": lambda folder: None,
}


@pytest.mark.parametrize("width", [80, 60])
@pytest.mark.parametrize("name", MAKERS)
def test_the_view_is_as_agreed(tmp_path: Path, name: str, width: int) -> None:
    MAKERS[name](tmp_path / "gfm")
    compare(f"{name}-{width}", picture(tmp_path / "gfm", width))


@pytest.mark.parametrize("width", [30, 40, 132])
@pytest.mark.parametrize("name", MAKERS)
def test_on_no_terminal_does_a_line_wrap(tmp_path: Path, name: str, width: int) -> None:
    MAKERS[name](tmp_path / "gfm")
    view = View().render(read_status(tmp_path / "gfm", Path("gfm.yaml")), width)
    with open(os.devnull, "w") as nowhere:
        narrow, wide = (Console(width=each, record=True, file=nowhere) for each in (width, 500))
        narrow.print(view)
        wide.print(view)
        assert len(narrow.export_text().splitlines()) == len(wide.export_text().splitlines())


def test_in_a_low_terminal_tasks_are_left_out_first_then_what_rests(tmp_path: Path) -> None:
    half(tmp_path / "gfm")
    full = picture(tmp_path / "gfm").splitlines()
    lower = picture(tmp_path / "gfm", height=len(full) - 1).splitlines()
    assert len(lower) < len(full) and not any("trial-0013" in line for line in lower)
    compare("half-low", picture(tmp_path / "gfm", height=12))


def test_variants_stand_under_their_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(12):
        monkeypatch.setitem(made_campaign._NEEDS, f"search/b{number:02d}", ("hpo", ("data",), 2, 1))
    made = MadeCampaign(tmp_path / "gfm")
    for number in range(9):
        made.begin(f"search/b{number:02d}")
        if number < 7:
            made.end(f"search/b{number:02d}", "done", result={"trials": made_campaign.trials(3)})
    compare("variants-80", picture(tmp_path / "gfm"))


def test_every_state_is_told_in_words_not_by_colour_alone(tmp_path: Path) -> None:
    for name, state in (("failed", "failed"), ("held", "held"), ("half", "running"), ("half", "queued"), ("whole", "done")):
        MAKERS[name](tmp_path / name / state)
        assert f" {state} " in picture(tmp_path / name / state) + " "


def test_what_a_person_can_do_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    half(tmp_path / "gfm")
    monkeypatch.setattr("workflow.report.status.is_driven", lambda _: False)
    assert "no driver is at work, submitted jobs go on; come back with:\n    campaign run gfm.yaml" in picture(tmp_path / "gfm")
    monkeypatch.setattr("workflow.report.status.is_driven", lambda _: None)
    assert "if no driver is at work on another host, come back with: campaign run gfm.yaml" in picture(tmp_path / "gfm", 90)


def test_a_large_campaign_is_looked_at_less_often() -> None:
    assert (rest_s(0.01), rest_s(3.0)) == (1.0, 30.0)


def test_a_remark_is_whole_on_a_narrow_terminal(tmp_path: Path) -> None:
    made = MadeCampaign(tmp_path / "gfm")
    made.begin("data")
    made.end("data", "done", result={"branches": {}})
    made.journal.commit("stage", stage="data", state="done", cause=None, message="nothing to validate on")
    with open(os.devnull, "w") as nowhere:
        console = Console(width=20, record=True, file=nowhere, highlight=False)
        console.print(View().render(read_status(tmp_path / "gfm"), 20))
    assert "nothing to validate on" in " ".join(console.export_text().replace("└──", " ").replace("│", " ").split())
