"""The trials of a search as its record and its receipt tell them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

Line = dict[str, Any]


def fold_trials(events: Iterable[Line]) -> list[Line]:
    """Return a search's trials as its record tells them, in the form of the receipt's, with the times of both ends."""
    trials: dict[int, Line] = {}
    for event in events:
        if event.get("event") == "ask":
            for each in event.get("trials", []):
                trials[each["trial"]] = _fresh(each, event)
        elif event.get("trial") in trials:
            _follow(trials[event["trial"]], event)
    return list(trials.values())


def joined(receipt: Sequence[Line], recorded: Sequence[Line]) -> tuple[Line, ...]:
    """Return the receipt's trials with what only the record knows of them: times and parameters; without a receipt, its own."""
    if not receipt:
        return tuple(recorded)
    known = {row["id"]: row for row in recorded}
    added = ("asked", "ended", "parameters")
    return tuple({**{key: known.get(row["id"], {}).get(key) for key in added}, **row} for row in receipt)


def _fresh(asked: Line, event: Line) -> Line:
    row = {"id": asked["trial"], "config": asked.get("point", {}), "status": "waiting", "interrupted": 0}
    return {**row, "asked": event.get("t")}


def _follow(trial: Line, event: Line) -> None:
    name = event["event"]
    if name == "task":
        trial["status"] = "running"
    elif name == "refused":
        trial |= {"status": "failed", "cause": event.get("cause"), "message": event.get("message")}
    elif name == "end":
        _end(trial, event)
    elif name == "rung":
        reached = {"objective": event.get("objective"), "epochs": event.get("epochs")}
        trial |= {"is_out": not event.get("goes_on"), "rung": reached}
    elif name == "lost" and trial.get("is_out"):
        trial |= {"status": "stopped", **trial["rung"]}
    elif name in ("lost", "again"):
        trial["status"] = "interrupted"
    trial["interrupted"] += trial["status"] == "interrupted" and name in ("end", "lost")
    if trial["status"] in ("done", "stopped", "failed") and name in ("refused", "end", "lost"):
        trial["ended"] = event.get("t")


def _end(trial: Line, event: Line) -> None:
    seconds = trial.get("seconds", 0.0) + (event.get("seconds") or 0.0)
    told = {key: event.get(key) for key in ("status", "cause", "message", "objective", "epochs")}
    parameters = (event.get("result") or {}).get("parameters") or trial.get("parameters")
    trial |= {**told, "seconds": seconds, "parameters": parameters}
