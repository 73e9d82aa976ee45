"""What the journal says about stages and attempts, folded event by event; and what has been spent."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from model.outcome import Cause, Status
from workflow.errors import JournalError, plain


@dataclass
class AttemptEntry:
    """One attempt.

    Attributes:
        token: Its identity.
        stage: Stage instance.
        link: Link number.
        number: Attempt number at this link.
        intent: The journal's line of the intent: nodes, walltime_s, node_hours reserved, after.
        job_id: Its job, where known.
        started: Its job was seen running.
        status: Set when settled.
        cause: Set when settled as failed, but for one that was not wanted any more.
        message: One sentence about its end.
        reserved: Node-hours of its job at full walltime.
        used: Node-hours by accounting, once its job has ended.
        beside: Further jobs of its token that were found: node-hours used, or None while that is unproven.
        resumed: How often its stage had been resumed when it was written down.
        is_approved: It was written down after its stage had been approved.
    """

    token: str
    stage: str
    link: int
    number: int
    intent: dict[str, Any]
    job_id: str | None = None
    started: bool = False
    status: Status | None = None
    cause: Cause | None = None
    message: str = ""
    reserved: float = 0.0
    used: float | None = None
    beside: dict[str, float | None] = field(default_factory=dict)
    resumed: int = 0
    is_approved: bool = False

    @property
    def node_hours(self) -> float:
        """What all its jobs have cost; one that is submitted, unknown or duplicated counts in full until proven otherwise."""
        return sum(self.reserved if used is None else used for used in self._jobs)

    @property
    def proven(self) -> float:
        """What those of its jobs have cost whose end is known."""
        return self.node_hours - self.reserved * sum(used is None for used in self._jobs)

    @property
    def _jobs(self) -> list[float | None]:
        return [self.used, *(used for job_id, used in self.beside.items() if job_id != self.job_id)]

    @property
    def is_open(self) -> bool:
        """Whether its end is not yet known."""
        return self.status is None

    @property
    def counts(self) -> bool:
        """Whether its end says something about the stage: it was not ended by us."""
        return self.status is not None and (self.status is not Status.FAILED or self.cause is not None)


@dataclass
class StageEntry:
    """One stage instance.

    Attributes:
        key: The instance.
        attempts: In the order of their intents.
        state: done, failed, held or cancelled; empty while it may go on.
        message: Why.
        cause: Why, as a class.
        resumed: How often it was resumed.
        links_before: Links that had ended in order when it was last resumed.
        cancelled: Its end was asked for.
        allowance: Node-hours approved for it alone, beyond what all may use.
    """

    key: str
    attempts: list[AttemptEntry] = field(default_factory=list)
    state: str = ""
    message: str = ""
    cause: str = ""
    resumed: int = 0
    links_before: int = 0
    cancelled: bool = False
    allowance: float = 0.0

    @property
    def open(self) -> list[AttemptEntry]:
        """Attempts whose end is not yet known."""
        return [each for each in self.attempts if each.is_open]

    @property
    def has_begun(self) -> bool:
        """Whether anything was done for it: then it keeps its resolved keys."""
        return bool(self.attempts) or self.state in ("done", "failed")

    @property
    def links_ended(self) -> int:
        """Links that have ended in order; the one that failed last is not among them."""
        last = max((each for each in self.attempts if each.counts), key=lambda each: (each.link, each.number), default=None)
        return 0 if last is None else last.link - (last.status is not Status.PARTIAL)

    @property
    def charged(self) -> float:
        """Node-hours of its allowance that are used or reserved."""
        return min(self.allowance, sum(each.node_hours for each in self.attempts if each.is_approved))

    def at(self, link: int) -> list[AttemptEntry]:
        """Return the attempts at a link."""
        return [each for each in self.attempts if each.link == link]


class Ledger:
    """The fold of a journal.

    Args:
        events: Its lines so far. One that is not understood raises a `JournalError`.

    Attributes:
        campaign_id: The campaign's identity; empty before its first line.
        stages: Entries by key.
        by_token: Attempts by token.
        approvals: Identities of the approvals taken in.
        raised_to: Node-hours that all stages together may use, where a person has raised that.
    """

    def __init__(self, events: Iterable[dict[str, Any]]) -> None:
        self.campaign_id = ""
        self.stages: dict[str, StageEntry] = {}
        self.by_token: dict[str, AttemptEntry] = {}
        self.approvals: set[str] = set()
        self.raised_to = 0.0
        for event in events:
            try:
                _require_shape(event)
                self.apply(event)
            except (KeyError, TypeError, ValueError) as error:  # whole by its hash: another program wrote it
                name, why = plain(event.get("event"), 40), plain(error)
                what = f"line {plain(event.get('seq'), 20)} of the journal, '{name}', is not understood: {why}"
                raise JournalError(what, "journal", "Use the version of campaign that wrote it.") from error

    def stage(self, key: str) -> StageEntry:
        """Return a stage instance's entry."""
        return self.stages.setdefault(key, StageEntry(key))

    @property
    def node_hours(self) -> float:
        """Node-hours used by ended attempts and reserved by open ones."""
        return sum(each.node_hours for each in self.by_token.values())

    def apply(self, event: dict[str, Any]) -> None:
        """Take one line in; lines without a meaning here are passed over."""
        name = event["event"]
        if name == "created":
            self.campaign_id = event["campaign_id"]
        elif name == "intent":
            self._intend(event)
        elif name == "approved":
            self._approve(event)
        elif name in _OF_STAGE:
            _OF_STAGE[name](self.stage(event["stage"]), event)
        elif name in _OF_ATTEMPT and event["token"] in self.by_token:
            _OF_ATTEMPT[name](self.by_token[event["token"]], event)

    def _intend(self, event: dict[str, Any]) -> None:
        stage = self.stage(event["stage"])
        entry = AttemptEntry(event["token"], event["stage"], event["link"], event["attempt"], event)
        entry.reserved, entry.resumed, entry.is_approved = event["node_hours"], stage.resumed, stage.allowance > 0
        if stage.state == "held":
            stage.state = ""
        stage.attempts.append(entry)
        self.by_token[entry.token] = entry

    def _approve(self, event: dict[str, Any]) -> None:
        if event["id"] in self.approvals:
            return
        self.approvals.add(event["id"])
        if event["stage"] is None:
            self.raised_to = max(self.raised_to, event["node_hours"])
        else:
            self.stage(event["stage"]).allowance += event["node_hours"]


def _require_shape(event: dict[str, Any]) -> None:
    for key, kind in _SHAPES.get(event["event"], {}).items():
        value = event.get(key.rstrip("?"))
        if value is None and key.endswith("?"):
            continue
        is_number = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _MOST
        if not (is_number if kind is float else isinstance(value, kind) and (kind is str or is_number)):
            raise ValueError(f"its {key.rstrip('?')} makes no sense")
    if "stage" in _SHAPES.get(event["event"], {}) and not _KEY.fullmatch(event["stage"]):
        raise ValueError("its stage is no name")


def _submitted(entry: AttemptEntry, event: dict[str, Any]) -> None:
    entry.job_id = str(event["job_id"])


def _started(entry: AttemptEntry, _: dict[str, Any]) -> None:
    entry.started = True


def _settled(entry: AttemptEntry, event: dict[str, Any]) -> None:
    entry.status = Status(event["status"])
    entry.cause = Cause(event["cause"]) if event["cause"] else None
    entry.message = event["message"]
    entry.used = event["node_hours"] if event.get("job_ended", True) else None


def _accounted(entry: AttemptEntry, event: dict[str, Any]) -> None:
    entry.used = event["node_hours"]


def _found_beside(entry: AttemptEntry, event: dict[str, Any]) -> None:
    entry.beside[event["job_id"]] = event["node_hours"]


def _judged(stage: StageEntry, event: dict[str, Any]) -> None:
    stage.state, stage.message, stage.cause = event["state"], event.get("message") or "", event.get("cause") or ""


def _resumed(stage: StageEntry, _: dict[str, Any]) -> None:
    stage.state = stage.message = stage.cause = ""
    stage.cancelled = False
    stage.resumed += 1
    stage.links_before = stage.links_ended


def _cancel_requested(stage: StageEntry, _: dict[str, Any]) -> None:
    stage.cancelled = True


_MOST = 1e15
_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*")
_TOKEN: dict[str, type] = {"token": str}
_SHAPES: dict[str, dict[str, type]] = {
    "created": {"campaign_id": str},
    "intent": {
        **_TOKEN,
        "stage": str,
        "link": int,
        "attempt": int,
        "nodes?": int,
        "walltime_s?": float,
        "node_hours": float,
        "queue?": str,
    },
    "submitted": {**_TOKEN, "job_id": str},
    "started": _TOKEN,
    "settled": {**_TOKEN, "status": str, "message": str, "node_hours?": float},
    "accounted": {**_TOKEN, "node_hours": float},
    "found_beside": {**_TOKEN, "job_id": str, "node_hours?": float},
    "stage": {"stage": str, "state": str, "message?": str, "cause?": str},
    "resumed": {"stage": str},
    "cancel_requested": {"stage": str},
    "approved": {"id": str, "stage?": str, "node_hours": float},
}
_OF_STAGE = {"stage": _judged, "resumed": _resumed, "cancel_requested": _cancel_requested}
_OF_ATTEMPT = {
    "submitted": _submitted,
    "started": _started,
    "settled": _settled,
    "accounted": _accounted,
    "found_beside": _found_beside,
}
