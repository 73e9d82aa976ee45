"""Decide how a stage's chain of links goes on; pure."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from typing import Literal

from model.outcome import Cause, Status
from workflow.ledger import AttemptEntry, StageEntry
from workflow.stages.base import StageSpec

_TOKEN_LETTERS = 13


@dataclass(frozen=True)
class Step:
    """What to do next about a stage.

    Attributes:
        do: Launch an attempt, wait for open ones, or end the stage.
        link: Link to launch.
        attempt: Attempt to launch, or the one whose receipt is the stage's.
        cause: Cause of a failed stage.
        message: One sentence.
    """

    do: Literal["launch", "wait", "done", "failed", "cancelled"]
    link: int = 0
    attempt: int = 0
    cause: Cause | None = None
    message: str = ""


def next_step(stage: StageEntry, spec: StageSpec) -> Step:
    """Return the next step of a stage out of what the journal says about its attempts.

    A link that was submitted ahead takes over from one that failed through no fault of its own: it holds its place
    in the queue. Only the last link in the chain is tried again.
    """
    done = [each for each in stage.attempts if each.status is Status.DONE]
    if done:
        return Step("done", done[0].link, done[0].number)
    if stage.cancelled:
        return Step("wait") if stage.open else Step("cancelled", message="cancelled on request")
    ended = [each for each in stage.attempts if each.counts]
    last = max(ended, key=lambda each: (each.link, each.number), default=None)
    if last is not None and _is_final(last) and last.resumed == stage.resumed:
        return Step("failed", cause=last.cause, message=_of(last))
    if stage.open:
        return Step("wait")
    return _first(stage) if last is None else _after(stage, spec, last)


def link_ahead(stage: StageEntry, spec: StageSpec) -> tuple[int, AttemptEntry] | None:
    """Return the link to submit now behind a running one, and the attempt that it comes after."""
    running = [each for each in stage.open if each.started and each.job_id is not None]
    if stage.cancelled or stage.state or not running or len(stage.open) > 1:
        return None
    link = running[0].link + 1
    return (link, running[0]) if link <= most_links(stage, spec) and not stage.at(link) else None


def most_links(stage: StageEntry, spec: StageSpec) -> int:
    """Return how many links the chain may have; a resumed one may always have one more than before."""
    return max(spec.links, stage.links_before + 1) if stage.resumed else spec.links


def next_number(stage: StageEntry, link: int) -> int:
    """Return the number of the next attempt at a link."""
    return 1 + max((each.number for each in stage.at(link)), default=0)


def token(campaign_id: str, stage: str, link: int, attempt: int) -> str:
    """Return an attempt's token: 14 characters, legal as a job name everywhere."""
    text = "\0".join([campaign_id, stage, str(link), str(attempt)])
    return "c" + base64.b32encode(hashlib.sha256(text.encode()).digest()).decode().lower()[:_TOKEN_LETTERS]


def _first(stage: StageEntry) -> Step:
    return Step("launch", 1, next_number(stage, 1))


def _after(stage: StageEntry, spec: StageSpec, last: AttemptEntry) -> Step:
    if last.status is Status.PARTIAL:
        link = last.link + 1
        if link <= most_links(stage, spec):
            return Step("launch", link, next_number(stage, link))
        return Step("failed", cause=Cause.WALLTIME, message=f"it is not done after {last.link} link{'s' * (last.link > 1)}")
    tries = [each for each in stage.at(last.link) if each.counts and each.resumed == stage.resumed]
    if len(tries) >= spec.attempts:
        return Step("failed", cause=last.cause, message=f"{_of(last)} ({len(tries)} attempts)")
    return Step("launch", last.link, next_number(stage, last.link))


def _is_final(attempt: AttemptEntry) -> bool:
    return attempt.status is Status.FAILED and attempt.cause is not None and not attempt.cause.is_transient


def _of(attempt: AttemptEntry) -> str:
    return f"link {attempt.link}, attempt {attempt.number}: {attempt.message}"
