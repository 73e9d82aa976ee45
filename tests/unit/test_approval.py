"""What is held for its cost, and what a person's approval lets go on; real jobs of the local batch system."""

from __future__ import annotations

import re
import threading
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from login import wait
from toy.world import campaign_of, drive, events, executions, killed_at, site_file, states

from workflow.approval import leave, read_approval, waiting
from workflow.books import Books
from workflow.cancel import cancel
from workflow.cli import campaign as commands
from workflow.driver import Driver
from workflow.errors import ConfigError
from workflow.rundir import RunDir

HOUR: dict[str, Any] = {"walltime": "01:00"}
BUDGET = {"node_hours": 1.5}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CAMPAIGN_SITES", str(site_file(tmp_path)))
    return tmp_path


def approve_all(home: Path) -> None:
    books = Books(home / "run")
    for each in books.held:
        books.approve(each)


def test_what_is_over_budget_is_held_and_everything_else_goes_on(home: Path) -> None:
    stages = {"big": {**HOUR, "nodes": 2}, "rest": {"needs": ["big"]}, "free": HOUR, "last": {"needs": ["free"]}}
    campaign = campaign_of(home, stages, budget=BUDGET)
    assert drive(campaign) == 3
    assert states(home) == {"big": "held", "free": "done", "last": "done"}
    held = events(home, "stage")[0]
    assert (held["stage"], held["cause"]) == ("big", "approval")
    assert "2 node-hours; 0 of 1.5 are used or reserved" in held["message"]
    assert drive(campaign) == 3, "it is said once, and asked again at each run"
    assert [line["state"] for line in events(home, "stage")].count("held") == 1
    approve_all(home)
    assert drive(campaign) == 0
    assert executions(home) == {(name, 1): 1 for name in stages}


def test_a_driver_that_lives_takes_an_approval_in_and_goes_on(home: Path) -> None:
    stages = {"long": {"plan": ["wait go+done"]}, "big": {**HOUR, "nodes": 2, "needs": []}, "after": {"needs": ["big"]}}
    codes: list[int] = []
    campaign = campaign_of(home, stages, budget=BUDGET)
    driver = threading.Thread(target=lambda: codes.append(drive(campaign)))
    driver.start()
    wait(lambda: states(home).get("big") == "held")
    books = Books(home / "run")
    assert [(each.key, each.jobs, each.node_hours) for each in books.held] == [("big", 1, 2.0)]
    books.approve(books.held[0])
    assert not books.held, "what was left but not yet taken in counts"
    (home / "run" / "go").touch()  # both nodes are asked for
    driver.join()
    assert codes == [0]
    assert [(line["stage"], line["node_hours"]) for line in events(home, "approved")] == [("big", 2.0)]


def test_what_a_job_did_not_use_lets_the_held_go_on_without_asking(home: Path) -> None:
    stages = {"a": {**HOUR, "plan": ["wait go+done"]}, "b": HOUR}
    campaign = campaign_of(home, stages, budget=BUDGET)

    def tell(event: dict[str, Any]) -> None:
        if event["event"] == "stage" and event["state"] == "held":
            (home / "run" / "go").touch()

    assert Driver(campaign, on_event=tell).run() == 0
    assert [(line["stage"], line["state"]) for line in events(home, "stage")] == [("b", "held"), ("a", "done"), ("b", "done")]


@pytest.mark.parametrize("point", ["before approval", "after approval"])
def test_an_approval_outlives_a_driver_killed_around_its_line(home: Path, point: str) -> None:
    campaign = campaign_of(home, {"big": {**HOUR, "nodes": 2}}, budget=BUDGET)
    assert drive(campaign) == 3
    approve_all(home)
    assert killed_at(home, point)
    assert len(events(home, "approved")) == (point == "after approval")
    assert drive(campaign) == 0
    assert len(events(home, "approved")) == 1
    assert executions(home) == {("big", 1): 1}


def test_the_total_may_be_raised_instead_and_is_taken_in_once(home: Path) -> None:
    campaign = campaign_of(home, {"a": {**HOUR, "nodes": 2}, "b": {**HOUR, "nodes": 2}}, budget=BUDGET)
    assert drive(campaign) == 3
    Books(home / "run").raise_to(2.5, None)
    assert Books(home / "run").total == 2.5
    assert drive(campaign) == 0, "each uses seconds of its hour, so that both fit one after the other"
    assert drive(campaign) == 0
    assert len(events(home, "approved")) == 1


def test_a_raise_for_one_stage_is_its_own(home: Path) -> None:
    stages = {"a": {**HOUR, "nodes": 2, "plan": ["wait go+done"]}, "b": {**HOUR, "nodes": 2}}
    campaign = campaign_of(home, stages, budget=BUDGET)
    assert drive(campaign) == 3
    Books(home / "run").raise_to(3.5, "b")
    assert drive(campaign) == 3
    assert states(home) == {"a": "held", "b": "done"}


@pytest.mark.parametrize(
    ("total", "stage", "message"),
    [
        (1.5, None, "1.5 is not more than the 1.5 node-hours approved now"),
        (float("inf"), None, "inf is more than the 17,568 node-hours that all of"),
        (1e30, None, r"1e\+30 is more than the"),
        (0.0, None, "0 is not more than"),
        (-1.0, None, "-1 is not more than"),
        (float("nan"), None, "is not more than"),
        (1.9, "big", "1.9 leaves 'big' held"),
        (9.0, "free", "stage 'free' waits for no approval"),
        (9.0, "bigg", "no stage 'bigg'"),
    ],
)
def test_a_raise_that_is_none_is_refused(home: Path, total: float, stage: str | None, message: str) -> None:
    assert drive(campaign_of(home, {"big": {**HOUR, "nodes": 2}, "free": {}}, budget=BUDGET)) == 3
    with pytest.raises(ConfigError, match=message):
        Books(home / "run").raise_to(total, stage)
    assert not waiting(RunDir(home / "run"), ())


def test_books_need_a_campaign_that_has_begun_and_has_a_budget(home: Path) -> None:
    with pytest.raises(ConfigError, match="no campaign has begun here"):
        Books(home / "run")
    assert drive(campaign_of(home, {"a": {}})) == 0
    with pytest.raises(ConfigError, match="has no budget"):
        Books(home / "run")


def test_all_links_of_a_held_chain_are_approved_together_but_no_repetition(home: Path) -> None:
    stage = {**HOUR, "nodes": 2, "links": 2, "plan": ["partial", "fail stalled", "done"], "attempts": 2}
    campaign = campaign_of(home, {"a": stage}, budget=BUDGET)
    assert drive(campaign) == 3
    books = Books(home / "run")
    assert [(each.jobs, each.job_node_hours, each.node_hours) for each in books.held] == [(2, 2.0, 4.0)]
    books.approve(books.held[0])
    assert drive(campaign) == 0, "what the first jobs did not use is enough for the third"
    assert books.total == 5.5
    assert executions(home) == {("a", 1): 1, ("a", 2): 2}


def test_a_held_stage_can_be_cancelled(home: Path) -> None:
    campaign = campaign_of(home, {"big": {**HOUR, "nodes": 2}}, budget=BUDGET)
    assert drive(campaign) == 3
    cancel(home / "run", "big")
    assert states(home) == {"big": "cancelled"}
    assert drive(campaign) == 1


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        '{"id": "x"}',
        '{"id": "other", "stage": null, "node_hours": 1}',
        '{"id": "bad", "stage": 3, "node_hours": 1}',
        *(f'{{"id": "bad", "stage": null, "node_hours": {amount}}}' for amount in ('"much"', "-1", "0", "NaN", "1e999")),
    ],
)
def test_a_file_that_is_no_approval_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "bad.json"
    path.write_text(content)
    with pytest.raises(ConfigError, match="not an approval"):
        read_approval(path)


def test_a_damaged_approval_stops_no_driver(home: Path) -> None:
    campaign = campaign_of(home, {"big": {**HOUR, "nodes": 2}}, budget=BUDGET)
    assert drive(campaign) == 3
    rundir = RunDir(home / "run")
    leave(rundir, "big", 2.0)
    (rundir.approvals / "0.json").write_text("{")
    told: list[str] = []
    assert Driver(campaign, on_event=lambda event: told.append(str(event.get("message")))).run() == 0
    assert sum("not an approval" in line for line in told) == 1


def command(*args: str, code: int = 0, answer: str = "") -> str:
    result = CliRunner().invoke(commands, ["approve", *args], input=answer)
    assert result.exit_code == code, result.output + repr(result.exception)
    return result.output


def test_the_command_lists_asks_and_approves(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)
    stages = {"big": {**HOUR, "nodes": 2, "links": 2}, "wide": {**HOUR, "nodes": 2}, "small": {}}
    campaign = campaign_of(home, stages, budget=BUDGET)
    assert drive(campaign) == 3
    listed = command("-c", "toy.yaml", code=1, answer="n\n")
    assert re.search(r"big +2 +2 +4\nwide +1 +2 +2\n", listed), listed
    assert "of 1.5 approved node-hours are used or reserved" in listed
    assert not waiting(RunDir(home / "run"), ())
    assert "Aborted" in command("-c", "toy.yaml", code=1), "nobody there to answer"
    text = command("wide", "-c", "toy.yaml")
    assert "of 3.5 approved" in text and "held still: big" in text
    assert "no driver is at work; go on with: campaign run toy.yaml" in text
    assert "stage 'wide' waits for no approval" in command("wide", code=2)
    assert "held still" not in command("--yes")
    assert drive(campaign) == 0
    assert command().endswith("nothing is held\n")


def test_the_command_raises_the_total(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)
    assert drive(campaign_of(home, {"big": {**HOUR, "nodes": 2}}, budget=BUDGET)) == 3
    assert "1 is not more than the 1.5 node-hours approved now" in command("--node-hours", "1", code=2)
    assert "of 1.9 approved node-hours are used or reserved\nheld still: big" in command("--node-hours", "1.9")
    assert "held still" not in command("big", "--node-hours", "4")
