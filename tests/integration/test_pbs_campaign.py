"""Whole campaigns on the stand-in for PBS, as Aurora: the driver on the login node, agents in the jobs, ranks on the nodes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from login import Login, wait
from pbs.cluster import Pbs
from pbs.settings import NODES
from pbs.world import jobs_below

from model.outcome import Cause, read_outcome
from workflow.receipt import read_receipt
from workflow.rundir import AttemptDir

pytestmark = [pytest.mark.xdist_group("pbs"), pytest.mark.timeout(400)]

TRAIN: dict[str, Any] = {
    "kind": "train",
    "needs": ["data"],
    "nodes": 2,
    "walltime": "00:10:00",
    "epochs": 2,
    "backbone": {"name": "egnn", "hidden": 8, "layers": 1},
    "training": {"batch": 16, "layout": "branch", "checkpoint_every_s": 1},
}

SEARCH: dict[str, Any] = {
    "kind": "hpo",
    "needs": ["data"],
    "nodes": 2,
    "walltime": "00:10:00",
    "backbone": "egnn",
    "evaluations": 2,
    "trial": {"nodes": 1, "epochs": 12},
    "keep": 1,
    "training": {"batch": 16},
    "space": {"hidden": 8, "layers": 1, "learning_rate": {"low": 0.001, "high": 0.002}},
}


def require_ranks(task: Path, world: int, nodes: int) -> None:
    outcome = read_outcome(task)
    assert outcome is not None
    assert outcome.world_size == world
    assert len(set(outcome.hosts)) == nodes
    assert set(outcome.hosts) <= set(NODES)


def test_a_training_on_two_nodes_beside_a_search_with_two_trials_side_by_side(aurora: Login, pbs: Pbs) -> None:
    aurora("run", aurora.write({"train": TRAIN, "search": SEARCH}), "--plain", timeout=300)
    assert aurora.receipt("train").result["epochs"] == 2
    require_ranks(aurora.rundir.attempt("train", 1, 1).tasks / "train", 4, 2)
    jobs = jobs_below(pbs, aurora.folder)
    told = [(job["queue"], job["Variable_List"]["PBS_O_QUEUE"], job["Exit_status"]) for job in jobs.values()]
    assert told == [("capacity", "capacity", 0), *[("small", "prod", 0)] * 2]
    left = {path.name for node in NODES for path in pbs.node_local(node).iterdir()}
    assert not left & set(jobs), "node-local copies are gone"

    done = aurora.receipt("search")
    attempt = aurora.rundir.attempt("search", 1, 1)
    assert [trial["status"] for trial in done.result["trials"]] == ["done", "done"]
    tasks = sorted(attempt.tasks.glob("trial-*"))
    assert len(tasks) == 2
    for task in tasks:
        require_ranks(task, 2, 1)
    places = [(task / "hosts.txt").read_text().split() for task in tasks]
    assert not set(places[0]) & set(places[1]), "on nodes of their own"
    times = [[json.loads(line)["t"] for line in (task / "metrics.jsonl").read_text().splitlines()] for task in tasks]
    assert max(each[0] for each in times) < min(each[-1] for each in times), "at the same time"


def test_a_job_that_somebody_deletes_is_replaced_and_its_training_goes_on(aurora: Login, pbs: Pbs) -> None:
    file = aurora.write({"train": {**TRAIN, "nodes": 1, "epochs": 24}}, ("a",))
    driver, first = aurora.start("run", file, "--plain"), aurora.rundir.attempt("train", 1, 1)
    last = first.tasks / "train" / "checkpoints" / "last"
    wait((last / "meta.json").exists, 200)
    pbs.run("qdel", json.loads(first.start.read_text())["job_id"])
    assert driver.wait(200) == 0, aurora.said
    done = aurora.receipt("train")
    again = aurora.rundir.attempt("train", done.link, done.attempt)
    assert again != first
    assert done.result["epochs"] == 24
    assert yaml.safe_load((again.tasks / "train" / "config.yaml").read_text())["resume"] == str(last)
    causes = [event["cause"] for event in aurora.events("settled", stage="train")]
    assert causes in ([Cause.PREEMPTED, None], [Cause.SCHEDULER, None])
    codes = [job["Exit_status"] for job in jobs_below(pbs, aurora.rundir.stage("train")).values()]
    assert codes == [271, 0]


@pytest.mark.parametrize("aurora", [{"periods": {"stop_margin_s": 12}}], indirect=True)
def test_the_agents_own_timer_ends_a_link_before_its_walltime_does(pbs: Pbs, aurora: Login) -> None:
    stage = {**TRAIN, "nodes": 1, "epochs": 100_000, "walltime": "00:00:45", "links": 6}
    aurora.start("run", aurora.write({"train": stage}, ("a",)), "--plain")
    folder = aurora.rundir

    def checkpointed() -> list[AttemptDir]:
        """Return the attempts that ended with a checkpoint, of those that have one after them at work."""
        done = [each for each in folder.attempts("train") if each.receipt.exists()]
        return [each for each in done if (each.tasks / "train" / "checkpoints" / "last" / "meta.json").exists()]

    def resumed() -> list[str]:
        paths = [each.tasks / "train" / "config.yaml" for each in folder.attempts("train")]
        texts = [path.read_text() for path in paths if path.exists()]
        return [resume for text in texts if (resume := (yaml.safe_load(text) or {}).get("resume"))]

    wait(lambda: bool(checkpointed() and resumed()), 300)
    first = checkpointed()[0]
    stopped = read_receipt(first.receipt)
    assert stopped is not None
    assert (stopped.status, stopped.cause) == ("partial", None), stopped
    assert resumed()[0] == str(first.tasks / "train" / "checkpoints" / "last")
    job = pbs.jobs()[json.loads(first.start.read_text())["job_id"]]
    assert (job["job_state"], job["Exit_status"]) == ("F", 0), "no walltime ended it"


def test_a_submission_whose_answer_never_comes_is_found(aurora: Login, pbs: Pbs) -> None:
    pbs.change(freezes_at="qsub")
    driver = aurora.start("run", aurora.write({}, ("a",)), "--plain")
    wait(lambda: bool(aurora.events("submit_unknown")), 90)
    assert pbs.is_frozen
    pbs.change()
    pbs.thaw()
    assert driver.wait(120) == 0, aurora.said
    aurora.require_one_job()


def test_a_job_that_routing_refuses_late_is_barred_and_replaced(aurora: Login, pbs: Pbs) -> None:
    pbs.change(routes=False)
    file = aurora.write({"data": {"kind": "convert", "nodes": 2, "walltime": "00:10:00"}}, ("a",))
    driver = aurora.start("run", file, "--plain")
    wait(lambda: bool(aurora.events("submitted")), 60)
    pbs.change()  # it takes the next one; of this one `routes` has decided
    assert driver.wait(200) == 0, aurora.said
    settled = aurora.events("settled", stage="data")
    assert [(event["cause"], event["evidence"]["by"]) for event in settled] == [("scheduler", "fence"), (None, "receipt")]
    (job,) = jobs_below(pbs, aurora.folder).values()
    assert job["Exit_status"] == 0, "nothing is left of the first"


def test_silence_and_nonsense_change_nothing(aurora: Login, pbs: Pbs) -> None:
    release = fill(pbs, aurora)
    driver = aurora.start("run", aurora.write({}, ("a",)), "--plain")
    wait(lambda: bool(aurora.events("submitted")), 60)
    known = aurora.events()
    pbs.down()
    wait(lambda: bool(aurora.events("scheduler_silent")), 60)
    pbs.up()
    wait(lambda: bool(aurora.events("scheduler_answers")), 60)
    pbs.change(garbage='{"timestamp": 1, "Jobs": {')
    wait(lambda: len(aurora.events("scheduler_silent")) == 2, 60)
    assert [event for event in aurora.events() if not event["event"].startswith("scheduler_")] == known
    pbs.change()
    release()
    assert driver.wait(120) == 0, aurora.said
    aurora.require_one_job()


def fill(pbs: Pbs, command: Login) -> Callable[[], None]:
    """Take all nodes by a job of somebody else; give what sets them free."""
    script = command.folder / "fills.sh"
    script.write_text("#!/bin/sh\nsleep 600\n")
    needs = f"-A p -q prod -l select={len(NODES)},walltime=900,filesystems=flare -j oe -o {command.folder}"
    filling = pbs.run("qsub", *needs.split(), str(script)).strip()
    return lambda: pbs.run("qdel", filling) and None
