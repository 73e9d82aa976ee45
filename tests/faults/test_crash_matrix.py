"""Kill -9 at K1 to K20 on Slurm and on PBS: the same cases, campaigns beside each other, the same checker.

| | death | |
|---|---|---|
| K1 | after the plan is locked, before the intent | K11 | amid the renaming of a receipt, of agent and driver |
| K2 | after the intent, before the submission | K12 | amid a promotion: chosen, not submitted |
| K3 | amid the submission: accepted, no answer | K13 | agent: amid a trial |
| K4 | after the answer, before the id is written down | K14 | agent: between a suggestion and its line |
| K5 | after the id | K15 | agent: between a result and its line |
| K6 | amid a poll | K16 | the journal's last line is torn |
| K7 | the job starts while no driver lives | K17 | two drivers on two login nodes |
| K8 | the job ends while no driver lives | K18 | the lease's holder frozen past expiry, then sent on |
| K9 | all history is purged before the driver returns | K19 | amid a cancel |
| K10 | between a receipt and the stage's end | K20 | amid an upgrade: old journal, new code |

Each exists on both systems. Jobs are real ones of the batch system, with the real agent; stages of a line or two stand for
long work, but for the search, whose trials are trainings.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from login import Login, System
from matrix.cases import CASES
from matrix.checker import broken
from matrix.play import NAME, Play

AT_ONCE = 4
PERIODS = {"heartbeat_s": 0.5, "ttl_s": 6, "stop_margin_s": 5, "kill_after_s": 2}
NODE = {"devices": 1, "cores": 1}
SYSTEMS = [pytest.param(name, marks=pytest.mark.xdist_group(name)) for name in ("slurm", "pbs")]
pytestmark = pytest.mark.timeout(1000)  # of what never comes; other work may share the machine


@dataclass
class Stage:
    """Where all cases of one system are played, some at a time."""

    system: System
    folder: Path
    ends: ExitStack
    pool: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(AT_ONCE))
    plays: dict[str, Future[list[str]]] = field(default_factory=dict)

    def begin(self, name: str) -> None:
        """Let a case be played as soon as there is room."""
        folder = self.folder / re.sub(r"\W", "-", name)
        folder.mkdir()
        variables = self.system.variables(folder, periods=PERIODS, node=NODE)
        login = Login(folder, variables, system=self.system, name=NAME)
        self.ends.callback(login.end)
        self.plays[name] = self.pool.submit(_played, name, Play(login))


def _played(name: str, play: Play) -> list[str]:
    CASES[name].play(play)
    return broken(play)


@pytest.fixture(scope="module", params=SYSTEMS)
def stage(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Begin all cases that were asked for on one system; they are waited for one by one."""
    system = request.getfixturevalue(f"{request.param}_system")
    calls = [call.params for item in request.session.items if (call := getattr(item, "callspec", None)) is not None]
    with ExitStack() as ends:
        made = Stage(system, tmp_path_factory.mktemp(request.param), ends)
        ends.callback(made.pool.shutdown, cancel_futures=True)
        for params in calls:
            if params.get("stage") == request.param:
                made.begin(params["case"])
        yield made


@pytest.mark.parametrize("case", CASES)
def test_killed_and_run_again(stage: Stage, case: str) -> None:
    assert stage.plays[case].result() == []


def test_every_crash_point_has_its_case() -> None:
    assert {point for case in CASES.values() for point in case.points} == {f"K{number}" for number in range(1, 21)}
