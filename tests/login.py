"""A user's place on a login node of a batch system under test, and what the batch system itself tells of the user's jobs."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from workflow.batch.scheduler import JobState, Scheduler
from workflow.journal import read_events
from workflow.receipt import Receipt, read_receipt, verify
from workflow.rundir import RunDir
from workflow.site import merge

ROOT = Path(__file__).parents[1]


@dataclass
class Command:
    """The `campaign` command in a world of its own: site files, spool, node-local folders, home."""

    folder: Path
    environment: dict[str, str]
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    def __call__(self, *args: str | Path, timeout: float = 300, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run to the end."""
        done = subprocess.run(
            self._argv(args), capture_output=True, text=True, timeout=timeout, env=self.environment, cwd=self.folder
        )
        if check:
            assert done.returncode == 0, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def start(self, *args: str | Path) -> subprocess.Popen[str]:
        """Start, in a session of its own, and go on."""
        with open(self.folder / "driver.log", "a") as log:
            process = subprocess.Popen(
                self._argv(args), stdout=log, stderr=log, text=True, env=self.environment, cwd=self.folder, start_new_session=True
            )
        self.started.append(process)
        return process

    def _argv(self, args: tuple[str | Path, ...]) -> list[str]:
        return [sys.executable, "-m", "workflow", *map(str, args)]


@dataclass(frozen=True)
class Account:
    """What the batch system's own books say of a job.

    Attributes:
        job_id: Its id.
        token: Its name.
        folder: Where it was handed in.
        state: `open`, `done`, `failed`, or `cancelled`.
        nodes: Nodes given to it.
        started: Unix time, where it was given nodes.
        ended: Unix time, where it has ended.
    """

    job_id: str
    token: str
    folder: Path
    state: str
    nodes: int
    started: float | None
    ended: float | None

    @property
    def node_hours(self) -> float:
        """What it has used."""
        return self.nodes * ((self.ended or time.time()) - self.started) / 3600 if self.started else 0.0


@dataclass(frozen=True)
class System:
    """A batch system under test.

    Attributes:
        overlay: What a user of the tests writes over that facility's profile.
        environment: What makes its commands the ones on PATH.
        asks: Its command that tells of all jobs; the first, where there are several.
        submits: Its command that hands a job in.
        cancels: Its command that ends one.
        accounts: Tells all jobs handed in below a folder, oldest first.
        forget: Lets it forget a job that has ended, in every book.
    """

    overlay: Path
    environment: Mapping[str, str]
    asks: str
    submits: str
    cancels: str
    accounts: Callable[[Path], list[Account]]
    forget: Callable[[str], None]

    @property
    def site(self) -> str:
        """The facility that it stands for."""
        return self.overlay.stem

    def variables(self, folder: Path, **changes: dict[str, object]) -> dict[str, str]:
        """Return the environment in which the `campaign` command meets this system as its facility."""
        own = {
            "XDG_CONFIG_HOME": str(home_of(self.overlay, folder, **changes)),
            "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}",
            "OMP_NUM_THREADS": "1",
        }
        return {**os.environ, **self.environment, **own}

    @contextmanager
    def login(self, folder: Path, **changes: dict[str, object]) -> Iterator[Login]:
        """Give a place of a user's own; what was started there ends with it."""
        login = Login(folder, self.variables(folder, **changes), system=self)
        try:
            yield login
        finally:
            login.end()


@dataclass
class Login(Command):
    """The `campaign` command on a login node, and the files of its one campaign.

    Attributes:
        system: The batch system.
        name: The campaign.
    """

    system: System = None  # type: ignore[assignment]
    name: str = "pair"

    @property
    def rundir(self) -> RunDir:
        """The campaign's folder."""
        return RunDir(self.folder / "runs" / self.name)

    @property
    def said(self) -> str:
        """What drivers that were started have said at last."""
        return (self.folder / "driver.log").read_text()[-3000:]

    def write(self, stages: dict[str, dict[str, Any]], branches: tuple[str, ...] = ("a", "b")) -> Path:
        """Write a campaign of small branches, their conversion and `stages`; give its file."""
        for each in branches:
            (self.folder / f"{each}.xyz").write_text(molecules(48))
        sources = {each: {"reader": "extxyz", "path": f"{each}.xyz", "options": {"identity": "molecule"}} for each in branches}
        data = {"kind": "convert", "nodes": 1, "walltime": "00:10:00"}
        file = self.folder / f"{self.name}.yaml"
        fields = {"name": self.name, "site": self.system.site, "branches": sources, "stages": {"data": data, **stages}}
        file.write_text(yaml.safe_dump(fields, sort_keys=False))
        return file

    def events(self, *names: str, stage: str = "") -> list[dict[str, Any]]:
        """Return the journal's lines of these names, of one stage or of all."""
        lines = read_events(self.rundir) if self.rundir.journal.is_dir() else []
        return [each for each in lines if (not names or each["event"] in names) and stage in ("", each.get("stage"))]

    def receipt(self, stage: str) -> Receipt:
        """Return the receipt of a stage that is done."""
        receipt = read_receipt(self.rundir.stage_receipt(stage))
        assert receipt is not None, stage
        assert receipt.status == "done", receipt.message
        return receipt

    def accounts(self, below: Path | None = None) -> list[Account]:
        """Return what the batch system tells of this campaign's jobs, or of those below a folder."""
        return self.system.accounts(below or self.folder)

    def require_one_job(self, stage: str = "data") -> str:
        """Check from files and accounting alone that a stage was done once, by one job that the journal knows."""
        (intent,) = self.events("intent", stage=stage)
        (settled,) = self.events("settled", stage=stage)
        assert settled["token"] == intent["token"] and settled["status"] == "done", settled
        (job_id,) = {line["job_id"] for line in self.events("submitted") if line["token"] == intent["token"]}
        wait(lambda: [(each.job_id, each.state) for each in self.accounts(self.rundir.stage(stage))] == [(job_id, "done")])
        assert (self.receipt(stage).link, self.receipt(stage).attempt) == (1, 1)
        verify(self.rundir.root, self.receipt(stage).outputs)
        return str(job_id)

    def end(self) -> None:
        """End what was started and still lives."""
        for process in self.started:
            if process.poll() is None:
                process.kill()
            process.wait()


def home_of(overlay: Path, folder: Path, **changes: dict[str, object]) -> Path:
    """Write a site's overlay as a user would, with further `changes` by section; give the folder for `XDG_CONFIG_HOME`."""
    sites = folder / "config" / "campaign" / "sites"
    sites.mkdir(parents=True)
    (sites / overlay.name).write_text(yaml.safe_dump(merge(yaml.safe_load(overlay.read_text()), changes)))
    return folder / "config"


def wait(condition: Callable[[], bool], seconds: float = 60.0, every: float = 0.3) -> None:
    """Wait for something to come to pass."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(every)


def end_by_name(batch: Scheduler, tokens: Mapping[str, str], others: Mapping[str, str]) -> None:
    """Ask for the end of jobs, by id: under `others`, which are not their names, to no effect, and then under their own."""

    def states() -> list[JobState]:
        rows = {row.job_id: row.state for row in batch.snapshot().rows}
        return [rows[job_id] for job_id in tokens]

    before = states()
    for job_id, token in others.items():
        batch.cancel(job_id, token)
    time.sleep(2.0)
    assert states() == before, "of other names"
    for job_id, token in tokens.items():
        batch.cancel(job_id, token)


def molecules(count: int) -> str:
    """Return hydrogen molecules of different lengths, each a molecule of its own for the splits."""
    header = 'Lattice="9 0 0 0 9 0 0 0 9" Properties=species:S:1:pos:R:3:forces:R:3 energy={} pbc="F F F" molecule=m{}'
    lines = []
    for number in range(count):
        length = 0.6 + 0.4 * number / count
        pull = 3.0 * (length - 0.75)
        lines += [
            "2",
            header.format(-1 + 1.5 * (length - 0.75) ** 2, number),
            f"H 0 0 0 0 0 {pull}",
            f"H 0 0 {length} 0 0 {-pull}",
        ]
    return "\n".join(lines) + "\n"
