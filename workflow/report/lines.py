"""One line in human words for each event of the journal."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from workflow.errors import plain
from workflow.ledger import AttemptEntry, Ledger
from workflow.stages.base import hours_text, walltime_text

_TOLD = 5
"""Attempts that are named to a driver that comes back."""


class Narrator:
    """Tells events one by one; it remembers which attempt a token stands for."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}

    def tell(self, event: dict[str, Any]) -> str | None:
        """Return a line, or None for an event that is nothing to a person."""
        name = str(event.get("event"))
        if name == "intent":
            self._names[str(event["token"])] = _attempt_name(event)
        words = _WORDS.get(name)
        if words is None:
            return None
        subject = self._names.get(str(event.get("token")), str(event.get("stage", "")))
        when = datetime.fromtimestamp(float(event["t"])) if "t" in event else datetime.now()
        return f"{when:%H:%M:%S} {plain(words(subject, event), None)}"

    def going_on(self, ledger: Ledger) -> str | None:
        """Return what a driver that comes back finds under way, or None where nothing is."""
        told = [
            f"{self._names.get(each.token, key)} {_standing(each)}" for key, stage in ledger.stages.items() for each in stage.open
        ]
        more = f", and {len(told) - _TOLD} more" if len(told) > _TOLD else ""
        return plain(f"going on, as last seen: {', '.join(told[:_TOLD])}{more}", None) if told else None


def _standing(attempt: AttemptEntry) -> str:
    if attempt.job_id is None:
        return "is looked for in the batch system"
    return f"{'runs' if attempt.started else 'waits'} as job {attempt.job_id}"


def _attempt_name(event: dict[str, Any]) -> str:
    again = f", attempt {event['attempt']}" if int(event.get("attempt", 1)) > 1 else ""
    link = f" link {event['link']}" if int(event.get("link", 1)) > 1 or again else ""
    return f"{event['stage']}{link}{again}"


def _intent(subject: str, event: dict[str, Any]) -> str:
    nodes = int(event.get("nodes") or 0)
    return f"{subject}: asking for {nodes} node{'s' * (nodes != 1)} for {walltime_text(float(event.get('walltime_s') or 0))}"


def _settled(subject: str, event: dict[str, Any]) -> str:
    hours = f" ({hours_text(float(event.get('node_hours') or 0))} node-hours)"
    status = str(event.get("status"))
    if status == "partial":
        return f"{subject}: stopped in order, more remains{hours}"
    if status == "failed" and not event.get("cause"):
        return f"{subject}: not needed any more, {event.get('message')}{hours}"
    if status == "failed":
        return f"{subject}: failed, {event.get('cause')}: {event.get('message')}{hours}"
    return f"{subject}: {status}{hours}"


def _approved(_: str, event: dict[str, Any]) -> str:
    hours = f"{hours_text(float(event.get('node_hours') or 0))} node-hours"
    return f"approved: {hours} more for {event['stage']}" if event.get("stage") else f"approved: {hours} for all stages together"


def _found_beside(subject: str, event: dict[str, Any]) -> str:
    used = event.get("node_hours")
    if used is None:
        return f"{subject}: one more job of it was found, {event.get('job_id')}; it counts until it has ended"
    return f"{subject}: job {event.get('job_id')} beside it has ended ({hours_text(float(used))} node-hours)"


def _stage(_: str, event: dict[str, Any]) -> str:
    why = ", ".join(str(event[key]) for key in ("cause", "message") if event.get(key))
    return f"stage {event.get('stage')}: {event.get('state')}{f' ({why})' if why else ''}"


_WORDS: dict[str, Callable[[str, dict[str, Any]], str]] = {
    "created": lambda _, e: f"campaign {e.get('name')} begins",
    "intent": _intent,
    "submitted": lambda s, e: f"{s}: queued as job {e.get('job_id')}",
    "submit_unknown": lambda s, e: f"{s}: the batch system did not answer, looking for the job ({e.get('message')})",
    "submit_rejected": lambda s, e: f"{s}: refused by the batch system ({e.get('message')})",
    "scheduler_silent": lambda _, e: f"the batch system does not answer; it is asked again and again ({e.get('message')})",
    "scheduler_answers": lambda *_: "the batch system answers again",
    "started": lambda s, _: f"{s}: running",
    "settled": _settled,
    "found_beside": _found_beside,
    "approved": _approved,
    "revoked": lambda s, _: f"{s}: revoked, it can have no effect any more",
    "cancel_requested": lambda _, e: f"cancel asked for: {e.get('stage') or 'every stage'}",
    "stage": _stage,
    "resumed": lambda _, e: f"stage {e.get('stage')}: tried again",
    "notice": lambda _, e: str(e.get("message")),
}
