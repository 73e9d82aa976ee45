"""Decide how a stage's chain of links goes on; pure."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from model.outcome import Cause, Status
from workflow.ledger import AttemptEntry, StageEntry

if TYPE_CHECKING:
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


def link_ahead(stage: StageEntry, spec: StageSpec) -> tuple[int, tuple[str, ...]] | None:
    """Return the link to submit now behind those that are submitted, and the jobs that it comes after.

    The whole chain is submitted at once, not each link when the one before starts: then it runs to its end though the
    driver dies in its first minute, and there is no moment between two links at which somebody must be awake. It costs
    nothing: a link behind the end ends in seconds, and jobs that wait for others are not eligible, so limits such as
    "four eligible jobs a user" do not count them. Each comes after all open ones before it: when one is cancelled by hand,
    those behind it still wait for the one that runs.
    """
    if stage.cancelled or stage.state or not stage.open:
        return None
    if any(each.job_id is None or each.resumed != stage.resumed for each in stage.open):
        return None
    link = 1 + max(each.link for each in stage.open)
    if link > most_links(stage, spec) or any(each.resumed == stage.resumed for each in stage.at(link)):
        return None
    return link, tuple(str(each.job_id) for each in stage.open)


def most_links(stage: StageEntry, spec: StageSpec) -> int:
    """Return how many links the chain may have.

    A resumed one may always have one more than before. One that was lost through no fault of its own is made up for, as
    often as one link may be tried again: the link behind it took its place, for that one stood in the queue already.
    """
    links = max(spec.links, stage.links_before + 1) if stage.resumed else spec.links
    return links + min(len(_lost_links(stage)), spec.attempts - 1)


def next_number(stage: StageEntry, link: int) -> int:
    """Return the number of the next attempt at a link."""
    return 1 + max((each.number for each in stage.at(link)), default=0)


def token(campaign_id: str, stage: str, link: int, attempt: int) -> str:
    """Return an attempt's token: 14 characters, legal as a job name everywhere."""
    text = "\0".join([campaign_id, stage, str(link), str(attempt)])
    return "c" + base64.b32encode(hashlib.sha256(text.encode()).digest()).decode().lower()[:_TOKEN_LETTERS]


def _lost_links(stage: StageEntry) -> set[int]:
    """Return the links of this round whose place another one has taken."""
    told = [each for each in stage.attempts if each.resumed == stage.resumed and (each.is_open or each.counts)]
    last = max((each.link for each in told), default=0)
    return {each.link for each in told if each.link < last} - {each.link for each in told if each.status is not Status.FAILED}


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
