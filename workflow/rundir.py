"""All paths inside a campaign's folder, in one place."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_ATTEMPT = re.compile(r"link-[0-9]+/attempt-[0-9]+")


@dataclass(frozen=True)
class AttemptDir:
    """One attempt's folder: what the driver wrote before, what the fenced run wrote after.

    Attributes:
        root: `<campaign>/stages/<key>/link-<l>/attempt-<a>`.
    """

    root: Path

    @property
    def request(self) -> Path:
        """What the driver asks of the agent (`Request`, JSON)."""
        return self.root / "request.json"

    @property
    def script(self) -> Path:
        """The batch script."""
        return self.root / "script.sh"

    @property
    def log(self) -> Path:
        """Standard output and error of the batch script; for people only."""
        return self.root / "job.log"

    @property
    def run(self) -> Path:
        """The fence: made by the script's first act, or by the driver that revokes."""
        return self.root / "run"

    @property
    def revoked(self) -> Path:
        """Stands when this attempt has lost its right to have effect."""
        return self.run / "revoked"

    @property
    def start(self) -> Path:
        """Job id, nodes, host, boot id and end time, written when the agent starts."""
        return self.run / "start.json"

    @property
    def heartbeat(self) -> Path:
        """`{"count": n, ...}`, grows while the agent lives; also carries live progress."""
        return self.run / "heartbeat.json"

    @property
    def receipt(self) -> Path:
        """The `Receipt` of the attempt."""
        return self.run / "receipt.json"

    @property
    def record(self) -> Path:
        """The stage's own append-only record (search history and the like), hash-chained JSONL."""
        return self.run / "record.jsonl"

    @property
    def tasks(self) -> Path:
        """Folders of the tasks, by name."""
        return self.run / "tasks"

    @property
    def stop(self) -> Path:
        """Asks the agent to end in order (cancel)."""
        return self.root / "stop"


@dataclass(frozen=True)
class RunDir:
    """A campaign's folder.

    Attributes:
        root: The folder itself.
    """

    root: Path

    @property
    def campaign(self) -> Path:
        """Resolved campaign, site and identity, written once by the first driver."""
        return self.root / "campaign.json"

    @property
    def journal(self) -> Path:
        """Journal segments, `<epoch>.jsonl`, and driver heartbeats, `<epoch>.beat`."""
        return self.root / "journal"

    @property
    def stages(self) -> Path:
        """One folder for each stage instance."""
        return self.root / "stages"

    @property
    def approvals(self) -> Path:
        """What a person has allowed beyond the budget, one file each."""
        return self.root / "approvals"

    @property
    def parsl(self) -> Path:
        """Parsl's own run folder."""
        return self.root / "parsl"

    @property
    def report(self) -> Path:
        """The HTML report."""
        return self.root / "report.html"

    @property
    def traceback(self) -> Path:
        """Tracebacks of errors whose message went to the terminal."""
        return self.root / "traceback.log"

    def stage(self, key: str) -> Path:
        """Folder of a stage instance; `key` is `train` or, fanned out by `each`, `train/1`."""
        return self.stages / key.replace("/", "-")

    def attempt(self, key: str, link: int, attempt: int) -> AttemptDir:
        """Folder of one attempt at one link of a stage instance."""
        return AttemptDir(self.stage(key) / f"link-{link}" / f"attempt-{attempt}")

    def attempts(self, key: str) -> list[AttemptDir]:
        """All attempts of a stage instance that have a folder, in the order (link, attempt)."""
        found = [
            path for path in self.stage(key).glob("link-*/attempt-*") if _ATTEMPT.fullmatch(f"{path.parent.name}/{path.name}")
        ]
        return [AttemptDir(path) for path in sorted(found, key=_order)]

    def stage_cancel(self, key: str) -> Path:
        """File whose appearance asks the driver to end a stage instance."""
        return self.stage(key) / "cancel"

    def stage_receipt(self, key: str) -> Path:
        """Receipt of a whole stage instance: the driver's copy of its last link's, or of its own work."""
        return self.stage(key) / "receipt.json"


def _order(path: Path) -> tuple[int, int]:
    return int(path.parent.name.split("-")[1]), int(path.name.split("-")[1])
