"""Kill -9 of an agent around every line of its search's record (K13 to K15): no trial is lost, no suggestion changes.

The search, its optimizer and its record are the real ones; trainings are functions that leave checkpoints. A killed agent is a
process of its own, so that nothing of it can clean up.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from dying import Fate, fated
from stage_allocation import FakeAllocation, data_receipt, following, request, trained

from model.config import TrainConfig
from model.outcome import Outcome, Status
from workflow.allocation.record import StageRecord
from workflow.campaign import stage_kind
from workflow.chained import read_chain
from workflow.rundir import AttemptDir
from workflow.search import feasibility
from workflow.stages.base import StageResult

SPEC: dict[str, Any] = {
    "backbone": "painn",
    "evaluations": 3,
    "trial": {"nodes": 1, "epochs": 2},
    "space": {
        "hidden": {"low": 8, "high": 64, "log": True},
        "learning_rate": {"low": 1e-4, "high": 1.0, "log": True},
        "layers": 2,
    },
    "seed": 5,
    "keep": 1,
}
MOMENTS = ("before", "within", "after")


@pytest.fixture(autouse=True)
def ample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feasibility, "needed_gb", lambda config, *_: float(config.model.backbone["hidden"]))


def train(name: str, config: TrainConfig, folder: Path) -> Outcome:
    return trained(folder, config, 1.0 + config.optimizer.learning_rate)


def search(made: FakeAllocation) -> StageResult:
    """Do one agent's part, with the record of all agents before it."""
    made.folder.run.mkdir(exist_ok=True)
    made.record = StageRecord(made.folder, made.campaign, made.request.previous)  # type: ignore[assignment]
    return stage_kind("hpo").work(made)


def first(folder: Path) -> FakeAllocation:
    folder.mkdir()
    return FakeAllocation(
        request(folder, "search", "hpo", SPEC, inputs={"data": data_receipt(folder, "gfn1", "emt")}), folder, train, 1
    )


def killed_at(made: FakeAllocation, number: int, moment: str) -> str:
    """Let a process search until it kills itself around the nth line of its record; return that line's event, if there is one."""
    told, tell = os.pipe()
    child = os.fork()
    if child == 0:
        _search_and_die(made, number, moment, lambda event: os.write(tell, event.encode()))
    os.close(tell)
    with os.fdopen(told) as pipe:
        event = pipe.read()
    ended = os.waitpid(child, 0)[1]
    assert os.waitstatus_to_exitcode(ended) == (-signal.SIGKILL if event else 0)
    return event


def _search_and_die(made: FakeAllocation, number: int, moment: str, tell: Callable[[str], Any]) -> None:
    fate = Fate(f"{moment} line *", number, last_words=lambda point: tell(point.rpartition(" ")[2]))
    try:
        with fated(fate):
            search(made)
        os._exit(0)
    except BaseException:
        traceback.print_exc(file=sys.__stderr__)
        os._exit(1)


def test_a_search_killed_at_any_line_of_its_record_goes_on_as_if_nothing_had_been(tmp_path: Path) -> None:
    whole = search(first(tmp_path / "whole"))
    assert whole.status is Status.DONE
    points = [trial["config"] for trial in whole.result["trials"]]
    seen = []
    for number in range(1, 100):
        moment = MOMENTS[number % 3]
        made = first(tmp_path / f"killed-{number}")
        event = killed_at(made, number, moment)
        if not event:
            break
        seen.append((event, moment))
        finished = ended_trials(made.folder)
        again = FakeAllocation(following(made), made.campaign, train, 1)
        result = search(again)
        assert result.status is Status.DONE, (event, moment, result.message)
        assert result.result["note"] == "", "the optimizer was replayed, not warmed up"
        assert [trial["config"] for trial in result.result["trials"]] == points, (event, moment)
        begun_again = {int(name.split("-")[1]) for name in again.configs if name.startswith("trial-")}
        assert not begun_again & finished, f"killed {moment} `{event}`: finished trials were trained again"
    assert {"ask", "task", "end", "tell"} <= {event for event, _ in seen}
    assert len({moment for _, moment in seen}) == 3


def ended_trials(attempt: AttemptDir) -> set[int]:
    """Return the trials whose end stands in the record of a killed agent."""
    lines = read_chain(attempt.record).events if attempt.record.exists() else []
    return {line["trial"] for line in lines if line["event"] == "end"}
