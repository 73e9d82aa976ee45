"""What the journal tells of each stage: its attempts and its verdict."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Try:
    """One attempt at one link.

    Attributes:
        link: Link number.
        attempt: Attempt number.
        token: Its token.
        nodes: Nodes asked for.
        state: submitting, queued, running, done, partial, failed, unneeded, or revoked.
        cause: Cause class of a failure.
        message: The same in a sentence.
        job_id: The batch system's id.
        node_hours: Used.
        asked: Unix time of its intent, by the driver's clock.
        started: Unix time at which the driver saw it run.
        ended: Unix time at which the driver settled it.
    """

    link: int
    attempt: int
    token: str
    nodes: int = 0
    state: str = "submitting"
    cause: str = ""
    message: str = ""
    job_id: str = ""
    node_hours: float = 0.0
    asked: float = 0.0
    started: float | None = None
    ended: float | None = None


@dataclass
class History:
    """One stage instance.

    Attributes:
        kind: Stage kind.
        tries: Attempts in the order of their intents.
        state: done, failed, held or cancelled once the driver has said so, else empty.
        cause: Why.
        message: The same in a sentence.
        judged: Unix time of that verdict, by the driver's clock.
    """

    kind: str = ""
    tries: list[Try] = field(default_factory=list)
    state: str = ""
    cause: str = ""
    message: str = ""
    judged: float | None = None

    def reopen(self) -> None:
        """Forget the verdict: the stage is at work again."""
        self.state = self.cause = self.message = ""


def histories(events: list[dict[str, Any]]) -> dict[str, History]:
    """Fold the journal into one history for each stage instance; unknown events are passed over."""
    told: dict[str, History] = {}
    by_token: dict[str, Try] = {}
    for event in events:
        name = event.get("event")
        if name == "intent":
            _intend(told, by_token, event)
        elif name == "stage":
            _judge(told, event)
        elif name == "resumed":
            told.setdefault(str(event["stage"]), History()).reopen()
        elif event.get("token") in by_token:
            _follow(by_token[event["token"]], str(name), event)
    return told


def _intend(told: dict[str, History], by_token: dict[str, Try], event: dict[str, Any]) -> None:
    history = told.setdefault(str(event["stage"]), History())
    history.kind = str(event.get("kind", history.kind))
    if history.state == "held":
        history.reopen()
    each = Try(
        int(event["link"]), int(event["attempt"]), str(event["token"]), int(event.get("nodes") or 0), asked=float(event["t"])
    )
    history.tries.append(each)
    by_token[each.token] = each


def _judge(told: dict[str, History], event: dict[str, Any]) -> None:
    history = told.setdefault(str(event["stage"]), History())
    history.state, history.judged = str(event.get("state") or ""), float(event["t"]) if "t" in event else None
    history.cause, history.message = str(event.get("cause") or ""), str(event.get("message") or "")


def _follow(each: Try, name: str, event: dict[str, Any]) -> None:
    if name == "submitted":
        each.state, each.job_id = "queued", str(event.get("job_id", ""))
    elif name == "started":
        each.state, each.started = "running", float(event["t"])
    elif name == "revoked":
        each.state = "revoked"
    elif name in ("submit_unknown", "submit_rejected"):
        each.message = str(event.get("message") or "")
    elif name == "settled":
        each.state, each.ended = str(event.get("status")), float(event["t"])
        each.cause, each.message = str(event.get("cause") or ""), str(event.get("message") or "")
        if each.state == "failed" and not each.cause:
            each.state = "unneeded"  # ended by the driver itself: nothing is wrong
        each.node_hours = float(event.get("node_hours") or 0.0)
    elif name == "accounted":
        each.node_hours = float(event.get("node_hours") or 0.0)
