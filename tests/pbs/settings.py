"""What a test may change about the server, where its files are, and the names on which server and commands agree."""

from __future__ import annotations

import json
import math
import os
import pwd
from dataclasses import asdict, dataclass
from pathlib import Path

from workflow.site import Limit

SERVER, LOGIN, VERSION = "aurora-pbs", "aurora-uan", "23.06.06"
NODES = tuple(f"x4415c{chassis}s{slot}b0n0" for chassis in (0, 1) for slot in range(4))
NETWORK = ".hsn.cm.aurora.alcf.anl.gov"
NCPUS = 208
USER = pwd.getpwuid(os.getuid()).pw_name
"""Whose jobs all are: the user of the process, whatever `LOGNAME` says."""


@dataclass(frozen=True)
class Settings:
    """How the server behaves; times in seconds, and the defaults those of a real one.

    The first two are read when it starts, the others all the time: a test changes them while it runs.

    Attributes:
        notice_s: How late it notices the end of a walltime.
        kill_delay_s: From TERM to KILL.
        session_s: How long after the start a job's session becomes known.
        ending_s: How long a job whose script is over is still ending.
        vanish_s: How long after its submission a job is gone that no destination of the routing queue takes.
        history_s: How long ended jobs are told of.
        name_limit: Longest job name; older releases stop at 15.
        cgroups: Whether KILL reaches processes in sessions of their own.
        raw_variables: Whether users' variables stand in JSON as they are, as older releases write them.
        garbage: What `qstat` prints instead of an answer; empty: an answer.
        routes: Whether any destination of the routing queue takes jobs.
        freezes_at: Command that is carried out and not answered: the server stands still (SIGSTOP) until it is sent on.
    """

    notice_s: float = 11.0
    kill_delay_s: float = 10.0
    session_s: float = 1.0
    ending_s: float = 0.5
    vanish_s: float = 5.0
    history_s: float = 14 * 86400.0
    name_limit: int = 230
    cgroups: bool = False
    raw_variables: bool = False
    garbage: str = ""
    routes: bool = True
    freezes_at: str = ""


@dataclass(frozen=True)
class Queue:
    """One queue.

    Attributes:
        name: Its name.
        min_nodes: Smallest job.
        max_nodes: Largest job.
        max_s: Longest walltime.
        routed: Only jobs of the routing queue get there.
        enabled: It takes jobs.
    """

    name: str
    min_nodes: int = 1
    max_nodes: int = len(NODES)
    max_s: float = 3600.0
    routed: bool = False
    enabled: bool = True

    def takes(self, nodes: int, walltime_s: float) -> bool:
        """Say whether a job fits."""
        return self.min_nodes <= nodes <= self.max_nodes and walltime_s <= self.max_s


ROUTE = "prod"
QUEUES = {
    each.name: each
    for each in (
        Queue("debug", max_nodes=2),
        Queue("debug-scaling", min_nodes=2),
        Queue("capacity", max_nodes=2, max_s=168 * 3600),
        Queue("visualization", enabled=False),
        Queue("tiny", max_nodes=1, max_s=12 * 3600, routed=True),
        Queue("small", min_nodes=2, max_nodes=4, max_s=12 * 3600, routed=True),
        Queue("medium", min_nodes=5, max_nodes=6, max_s=18 * 3600, routed=True),
        Queue("large", min_nodes=7, max_s=24 * 3600, routed=True),
    )
}
"""Aurora's queues for eight nodes."""

LIMITS = (
    Limit(queues=("debug-scaling",), submitted=1),
    Limit(queues=("capacity",), running=2, submitted=5),
    *(Limit(queues=(name,), running=10, submitted=100) for name in ("tiny", "small", "medium", "large")),
)


@dataclass(frozen=True)
class Files:
    """Everything that belongs to one server.

    Attributes:
        root: Its folder.
    """

    root: Path

    @property
    def conf(self) -> Path:
        """What `PBS_CONF_FILE` names: how commands find the server."""
        return self.root / "pbs.conf"

    @property
    def requests(self) -> Path:
        return self.root / "requests"

    @property
    def answers(self) -> Path:
        return self.root / "answers"

    @property
    def down(self) -> Path:
        """Stands while nobody listens: commands are refused."""
        return self.root / "down"

    @property
    def programs(self) -> Path:
        return self.root / "bin"

    @property
    def home(self) -> Path:
        return self.root / "home"

    @property
    def settings(self) -> Path:
        return self.root / "settings.json"

    @property
    def aux(self) -> Path:
        """Where each node has its own node files; on the login node it is empty."""
        return self.root / "aux"

    def jobs(self, name: str) -> Path:
        """Return a file of a job."""
        return self.root / "jobs" / name

    def read_settings(self) -> Settings:
        return Settings(**json.loads(self.settings.read_text()))

    def write_settings(self, settings: Settings) -> None:
        part = self.settings.with_suffix(".part")
        part.write_text(json.dumps(asdict(settings)))
        part.rename(self.settings)


def seconds(text: str) -> float:
    """Return a walltime in seconds; not a number where it is none."""
    parts = text.split(":")
    if not 1 <= len(parts) <= 3 or not all(part.isdigit() for part in parts):
        return math.nan
    return float(sum(int(part) * 60**place for place, part in enumerate(reversed(parts))))
