"""The promises R1 to R11, held against what a history left: files, and what its maker knows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from promises import decisions_follow, ends_are_told, is_approved, outputs_stand

from seeds.ends import cut_down, left_alone, mistold, needless
from workflow import budget
from workflow.errors import JournalError
from workflow.journal import read_events
from workflow.ledger import Ledger
from workflow.rundir import RunDir

if TYPE_CHECKING:
    from seeds.world import World
    from workflow.simulation.job import Job

IDLE_S = 300.0


def broken(world: World) -> list[str]:
    """Return the promises that a history broke, each with what shows it."""
    rundir = RunDir(world.folder)
    if not rundir.journal.is_dir():
        return list(world.truth.broken)
    try:
        events = read_events(rundir)
    except JournalError as error:
        return [*world.truth.broken, f"R3 the record is lost: {error.what}"]
    checks = (_r1, _r2, _r3, _r4, _r6, _r9, _r10, _r11, _liveness, left_alone, cut_down, mistold, needless)
    of_files = [*outputs_stand(world.folder, events), *decisions_follow(world.campaign, events)]
    return [*world.truth.broken, *of_files, *(each for check in checks for each in check(world, events))]


def _r1(world: World, events: list[dict[str, Any]]) -> Iterator[str]:
    """At most one execution of a link has effect, and what one has made to stand no other undoes or overtakes."""
    stages = {effect.stage for effect in world.truth.effects}
    for stage in stages:
        runs = [name for name, _ in groupby(e.run for e in world.truth.effects if e.stage == stage)]
        if len(runs) != len(set(runs)):
            yield f"R1 executions of {stage} had effect by turns: {runs}"
    for folder, jobs in world.truth.agents.items():
        if len(jobs) > 1:
            yield f"R1 {len(jobs)} agents began {Path(folder).relative_to(world.folder)}: jobs {jobs}"


def _r2(world: World, events: list[dict[str, Any]]) -> Iterator[str]:
    """No accepted job is lost: it has ended, and if an agent of it began, the journal knows it as the attempt's."""
    ledger = Ledger(events)
    for job in world.truth.jobs:
        if not job.state.is_final and job.id not in world.truth.vanished:
            yield f"R2 job {job.id} still {job.state.value} long after the end"
    for folder, jobs in world.truth.agents.items():
        entry = next((e for e in ledger.by_token.values() if str(_folder(world, e)) == folder), None)
        if entry is None:
            yield f"R2 an agent began in {folder}, of which the journal knows nothing"
        elif world.code is not None and not entry.is_open and entry.job_id not in jobs and entry.counts:
            yield f"R2 job {jobs} ran as {entry.stage}, but the journal has {entry.job_id}"


def _r3(world: World, events: list[dict[str, Any]]) -> Iterator[str]:
    """A dead driver loses no finished unit of work and no place in the queue."""
    for (stage, unit), times in Counter((e.stage, e.unit) for e in world.truth.effects).items():
        if times > 1:
            yield f"R3 unit {unit} of {stage} was done {times} times"
    for token, jobs in Counter(job.ask.name for job in world.truth.jobs).items():
        gone = sum(job.ask.name == token and job.id in world.truth.vanished for job in world.truth.jobs)
        if jobs - gone > 1 and token not in world.truth.fooled:
            yield f"R3 {jobs} jobs of one token were submitted though the batch system hid none of them for long"


def _r4(world: World, events: list[dict[str, Any]]) -> Iterator[str]:
    """An allocation with nothing to do ends within five minutes."""
    for job in world.truth.jobs:
        stage = _stage_of(events, job.ask.name)
        done, run = world.truth.done.get(stage), world.runs.get(job.id)
        if done is None or job.started is None or job.ended is None or run is None or run.is_silent or run.was_slow:
            continue
        worked = max((e.t for e in world.truth.effects if e.run == run.name), default=0.0)
        idle_s = job.ended - max(done, job.started, worked)
        if idle_s > IDLE_S and not run.lingered and job.id not in world.truth.endless:
            yield f"R4 job {job.id} held its nodes for {idle_s:.0f} s though {stage} was done"


def _r6(world: World, events: list[dict[str, Any]]) -> Iterator[str]:
    """While the batch system does not answer, only files change what is known: a receipt, or a person's wish."""
    begin, end = world.batch.outage
    for t, _, line in world.truth.events:
        if not begin <= t < end:
            continue
        by_file = line.get("evidence", {}).get("by") == "receipt" or line.get("adopted")  # its agent has written its id down
        cancelled = line.get("token") in _unwanted(events)
        if line["event"] in ("submitted", "submit_unknown", "revoked", "settled") and not by_file and not cancelled:
            yield f"R6 {line['event']} of {line.get('token')} in the outage: {line}"


def _r9(world: World, events: list[dict[str, Any]]) -> Iterator[str]:
    """Cost never exceeds what is approved without asking: neither by the journal, nor by what was really used."""
    limit, ledger = world.campaign.header.budget, Ledger(events)
    yield from is_approved(world.campaign, events)
    if limit is None:
        return
    # What never leaves its last state holds no nodes: a facility does not charge it.
    known = sum(_really_used(job) for job in world.truth.jobs if job.id not in world.truth.endless)
    beyond = _cost_of_twins(world) + _cost_of_overrun(world)
    total = budget.approved(limit, ledger) or 0.0
    if known > total + beyond + 1e-6:
        yield f"R9 {known:.2f} node-hours were really used of {total:.2f}, and {beyond:.2f} by jobs nobody could know of"


def _r10(world: World, events: list[dict[str, Any]]) -> Iterator[str]:
    """Every end has a cause class and the evidence for it, and the evidence is true."""
    yield from ends_are_told(events)
    for line in (each for each in events if each["event"] == "settled"):
        told = line["evidence"].get("state")
        job = next((job for job in world.truth.jobs if job.id == line["evidence"].get("job_id")), None)
        if told is not None and job is not None and job.state.value != told and job.runs <= 1 and not job.lingers:
            yield f"R10 {line['token']} ended as {told} by accounting, but was {job.state.value}"


def _r11(world: World, events: list[dict[str, Any]]) -> Iterator[str]:
    """What was submitted runs to its end without a driver: a chain submitted in calm weather completes its stage."""
    begin, end = world.absence
    others = set(world.weather.hits) - {"long absence", "clock skew", "two drivers"}
    if begin < 0 or others:
        return
    submitted = {line["token"] for t, _, line in world.truth.events if line["event"] == "submitted" and t < begin}
    for instance in world.campaign.instances():
        intents = {line["link"] for line in events if line["event"] == "intent" and line["stage"] == instance.key
                   and line["token"] in submitted}  # fmt: skip
        enough = len(intents) == instance.spec.links and not instance.needs
        done = world.truth.done.get(instance.key)
        if enough and end - begin > 6 * 3600 and (done is None or done > end):
            yield f"R11 {instance.key} was submitted whole, and did not complete while no driver lived"
        begun = any(line["event"] == "intent" and line["stage"] == instance.key for t, _, line in world.truth.events if t < begin)
        passes = sum(t < begin for t in world.truth.passes)
        if begun and passes > instance.spec.links and not enough and not instance.needs:  # each pass hands in a link
            yield f"R11 of the chain of {instance.key} only links {sorted(intents)} were submitted in {passes} passes"


def _liveness(world: World, events: list[dict[str, Any]]) -> Iterator[str]:
    """Everything comes to an end, once nothing goes wrong any more."""
    if world.code is None:
        states = {key: (entry.state, len(entry.open)) for key, entry in Ledger(events).stages.items()}
        yield f"it does not end: {states}"


def _folder(world: World, entry: Any) -> Path:
    return RunDir(world.folder).attempt(entry.stage, entry.link, entry.number).root


def _stage_of(events: list[dict[str, Any]], token: str) -> str:
    return next((str(line["stage"]) for line in events if line["event"] == "intent" and line["token"] == token), "")


def _unwanted(events: list[dict[str, Any]]) -> set[str]:
    """Return the tokens of stages whose end a person, or a final fault, asked for."""
    keys = {line["stage"] for line in events if line["event"] == "cancel_requested"}
    keys |= {line["stage"] for line in events if line["event"] == "stage" and line["state"] in ("failed", "cancelled", "done")}
    return {line["token"] for line in events if line["event"] == "intent" and line["stage"] in keys}


def _really_used(job: Job) -> float:
    """Return the node-hours of a job's last run."""
    return 0.0 if job.started is None else job.ask.nodes * ((job.ended or job.limit_at) - job.started) / 3600


def _cost_of_twins(world: World) -> float:
    """Return the node-hours of jobs that were submitted again, or given up, because nothing was seen of the first."""
    seen: set[str] = set()
    cost = 0.0
    for job in world.truth.jobs:
        if job.ask.name in seen or job.ask.name in world.truth.fooled:
            cost += _really_used(job)
        seen.add(job.ask.name)
    return cost


def _cost_of_overrun(world: World) -> float:
    """Return the node-hours that jobs ran beyond their walltime, or in a second run that the site gave them."""
    cost = 0.0
    for job in world.truth.jobs:
        if job.started is not None:
            cost += job.ask.nodes * max(0.0, (job.ended or job.limit_at) - job.started - job.ask.walltime_s) / 3600
            cost += job.ask.nodes * (job.runs - 1) * job.ask.walltime_s / 3600
    return cost
