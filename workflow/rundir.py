"""All paths inside a campaign's folder, in one place."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

_ATTEMPT = re.compile(r"link-[0-9]+/attempt-[0-9]+")


@dataclass(frozen=True)
class AttemptDir:
    """One attempt's folder: what the driver wrote before, what the fenced run wrote after.

    Attributes:
        root: `<campaign>/stages/<key>/link-<l>/attempt-<a>`.
    """

    root: Path

    @cached_property
    def request(self) -> Path:
        """What the driver asks of the agent (`Request`, JSON)."""
        return self.root / "request.json"

    @cached_property
    def script(self) -> Path:
        """The batch script."""
        return self.root / "script.sh"

    @cached_property
    def log(self) -> Path:
        """Standard output and error of the batch script; for people only."""
        return self.root / "job.log"

    @cached_property
    def run(self) -> Path:
        """The fence: made by the script's first act, or by the driver that revokes."""
        return self.root / "run"

    @cached_property
    def revoked(self) -> Path:
        """Stands when this attempt has lost its right to have effect."""
        return self.run / "revoked"

    @cached_property
    def start(self) -> Path:
        """Job id, nodes, host, boot id and end time, written when the agent starts."""
        return self.run / "start.json"

    @cached_property
    def heartbeat(self) -> Path:
        """`{"count": n, ...}`, grows while the agent lives; also carries live progress."""
        return self.run / "heartbeat.json"

    @cached_property
    def receipt(self) -> Path:
        """The `Receipt` of the attempt."""
        return self.run / "receipt.json"

    @cached_property
    def record(self) -> Path:
        """The stage's own append-only record (search history and the like), hash-chained JSONL."""
        return self.run / "record.jsonl"

    @cached_property
    def tasks(self) -> Path:
        """Folders of the tasks, by name."""
        return self.run / "tasks"

    @cached_property
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

    @cached_property
    def campaign(self) -> Path:
        """Resolved campaign, site and identity, written once by the first driver."""
        return self.root / "campaign.json"

    @cached_property
    def journal(self) -> Path:
        """Journal segments, `<epoch>.jsonl`, and driver heartbeats, `<epoch>.beat`."""
        return self.root / "journal"

    @cached_property
    def stages(self) -> Path:
        """One folder for each stage instance."""
        return self.root / "stages"

    @cached_property
    def approvals(self) -> Path:
        """What a person has allowed beyond the budget, one file each."""
        return self.root / "approvals"

    @cached_property
    def parsl(self) -> Path:
        """Parsl's own run folder."""
        return self.root / "parsl"

    @cached_property
    def report(self) -> Path:
        """The HTML report."""
        return self.root / "report.html"

    @cached_property
    def traceback(self) -> Path:
        """Tracebacks of errors whose message went to the terminal."""
        return self.root / "traceback.log"

    def stage(self, key: str) -> Path:
        """Folder of a stage instance; `key` is `train` or, fanned out by `each`, `train/1`."""
        known = self._of_stages.get(key)
        if known is None:
            known = self._of_stages[key] = self.stages / key.replace("/", "-")
        return known

    def attempt(self, key: str, link: int, attempt: int) -> AttemptDir:
        """Folder of one attempt at one link of a stage instance."""
        known = self._attempts.get((key, link, attempt))
        if known is None:
            known = self._attempts[key, link, attempt] = AttemptDir(self.stage(key) / f"link-{link}" / f"attempt-{attempt}")
        return known

    @cached_property
    def _of_stages(self) -> dict[str, Path]:
        return {}

    @cached_property
    def _attempts(self) -> dict[tuple[str, int, int], AttemptDir]:
        return {}

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
