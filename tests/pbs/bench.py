"""Speak to whatever PBS is on PATH, by its commands alone: submit, look, wait, compare with records of a real server."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


class Left(Exception):  # noqa: N818 it is no fault
    """A check cannot be made here; its words say why."""


@dataclass(frozen=True)
class Place:
    """What the PBS at hand calls things.

    Attributes:
        queue: An execution queue that takes two nodes for some minutes.
        route: The routing queue.
        routed: A queue that only the routing queue reaches.
        disabled: A queue that takes no jobs; empty: none is known.
        limited: A queue that takes one job of a user; empty: none is known.
        account: What is charged.
        filesystems: File systems that a job names.
        nodes: Nodes of the machine, all of them free.
        walltime_s: Of the job whose end is awaited.
        patience_s: How long anything may take.
        stop: Command that stops the server; empty: there is no right to.
        start: Command that starts it again.
        records: Folder of records of a real server; none: they are not here.
    """

    queue: str = "debug"
    route: str = "prod"
    routed: str = "small"
    disabled: str = ""
    limited: str = ""
    account: str = "p"
    filesystems: str = "flare"
    nodes: int = 8
    walltime_s: int = 15
    patience_s: float = 240.0
    stop: str = ""
    start: str = ""
    records: Path | None = None


@dataclass(frozen=True)
class Done:
    """What a command said."""

    code: int
    out: str
    err: str


@dataclass
class Bench:
    """One check's own folder, and the PBS.

    Attributes:
        place: See `Place`.
        folder: Where scripts are written and handed in.
        ids: Jobs handed in, to be deleted in the end.
    """

    place: Place
    folder: Path
    ids: list[str] = field(default_factory=list)

    def run(self, *command: str) -> Done:
        """Run a command to its end."""
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=self.folder, stdin=subprocess.DEVNULL)
        return Done(done.returncode, done.stdout, done.stderr)

    def hand_in(self, text: str, *options: str, name: str = "job.sh", plain: bool = False) -> Done:
        """Write a script and submit it, with what the site makes mandatory unless `plain`; it works where it was handed in."""
        directives = "".join(f"{line}\n" for line in text.splitlines() if line.startswith("#PBS "))
        (self.folder / name).write_text(f'#!/bin/sh\n{directives}cd "$PBS_O_WORKDIR"\n{text}\n')
        (self.folder / name).chmod(0o755)
        place = self.place
        usual = ("-A", place.account, "-q", place.queue, "-l", f"select=1,walltime=60,filesystems={place.filesystems}")
        done = self.run("qsub", *(() if plain else usual), *options, name)
        if done.code == 0:
            self.ids.append(done.out.strip())
        return done

    def submit(self, text: str, *options: str) -> str:
        """Submit a script that is taken; return its id."""
        done = self.hand_in(text, *options)
        assert (done.code, done.err) == (0, ""), done
        assert re.fullmatch(r"\d+\.[\w.-]+\n", done.out), done
        return done.out.strip()

    def answer(self, *arguments: str) -> dict[str, Any]:
        """Return the JSON of a query that succeeds."""
        done = self.run("qstat", *arguments, "-f", "-F", "json")
        assert done.code == 0, done
        fields = json.loads(done.out)
        assert list(fields)[:3] == ["timestamp", "pbs_version", "pbs_server"], fields
        assert isinstance(fields["timestamp"], int)
        return fields

    def job(self, job_id: str) -> dict[str, Any]:
        """Return a job, ended or not."""
        return self.answer("-x", job_id)["Jobs"][job_id]

    def wait(self, condition: Callable[[], Any], what: str) -> None:
        """Wait for something to come to pass."""
        end = time.monotonic() + self.place.patience_s
        while not condition():
            assert time.monotonic() < end, f"{what}: it did not come to pass"
            time.sleep(0.1)

    def reached(self, job_id: str, *states: str) -> dict[str, Any]:
        """Wait until a job is in one of these states; return it."""
        self.wait(lambda: self.job(job_id)["job_state"] in states, f"{job_id} in {'/'.join(states)}")
        return self.job(job_id)

    def delete_all(self) -> None:
        """Delete what is left."""
        for job_id in self.ids:
            self.run("qdel", job_id)

    def compare(self, name: str, seen: dict[str, Any]) -> None:
        """Compare a job with the record of the same case on a real server: keys and their order, types, words."""
        if self.place.records is None:
            raise Left("records of a real server are not here")
        path = self.place.records / f"{name}.json"
        (record,) = json.loads(path.read_text())["Jobs"].values()
        assert _kept(record, seen) == _kept(seen, record), name
        for key in _kept(record, seen):
            if key == "Variable_List":
                ours = {each for each in record[key] if each not in _OF_THE_SHELL}
                assert ours <= set(seen[key]), (name, key)
            elif key == "Resource_List":
                assert list(record[key]) == list(seen[key]), (name, key)
            else:
                assert _kind(record[key]) == _kind(seen[key]), (name, key, record[key], seen[key])
        for key in ("job_state", "substate", "Exit_status"):
            assert record.get(key) == seen.get(key), (name, key)
        assert _words(record.get("comment", "")) == _words(seen.get("comment", "")), name


_OF_THE_SHELL = ("PBS_O_HOME", "PBS_O_LANG", "PBS_O_PATH", "PBS_O_SHELL")
_LATE = ("session_id", "resources_used", "jobdir")
"""Keys that come some seconds after the start, and may be missing at the end."""


def _kept(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """Return the keys of `one` but for those that come late and are not in both."""
    late = [key for key in _LATE if "Exit_status" in one and (key not in one or key not in other)]
    return [key for key in one if key not in late]


def _kind(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _kind(each) for key, each in value.items()}
    is_time = isinstance(value, str) and re.fullmatch(r"\w{3} \w{3} +\d+ [\d:]{8} \d{4}", value)
    return "time" if is_time else "number" if isinstance(value, int | float) else type(value).__name__


def _words(comment: str) -> str:
    """Return a comment without date, nodes and names."""
    text = re.sub(r"at \w{3} \w{3} +\d+ at [\d:]{5} on \(\S+\)", "at TIME on NODES", comment)
    return re.sub(r"by \S+@\S+", "by USER", text)
