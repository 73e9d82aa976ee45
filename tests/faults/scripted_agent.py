"""The real agent with a stage of the test's own: `python scripted_agent.py ATTEMPT`; the request's `kind` names the stage."""

from __future__ import annotations

import json
import logging
import os
import sys
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

from model.config import ConvertConfig
from model.outcome import Cause, Status
from workflow.allocation import agent
from workflow.allocation.allocation import AgentAllocation
from workflow.allocation.task import TaskLaunch
from workflow.errors import StageError
from workflow.search.loop import Plan, Search
from workflow.search.space import make_space
from workflow.search.trials import Trials
from workflow.stages.base import StageResult, TaskResult

RANK = Path(__file__).with_name("rank.py")


def start(allocation: AgentAllocation, name: str, behaviour: str, nodes: int = 2) -> Future[TaskResult]:
    folder = allocation._new_folder(name)
    facts = {
        "heartbeat": str(allocation.folder.heartbeat),
        "revoked": str(allocation.folder.revoked),
        "ttl_s": allocation._of.site.periods.ttl_s,
        "stop": str(folder / "stop"),
    }
    launch = TaskLaunch(name, folder, (sys.executable, str(RANK), behaviour, json.dumps(facts)), nodes=nodes)
    future = allocation._of.kernel.task(launch, [])
    allocation._futures[name] = future
    return future


def as_result(results: list[TaskResult]) -> StageResult:
    facts = [
        {"name": r.name, "status": r.status, "cause": r.cause, "message": r.message, "nodes": list(r.nodes)} for r in results
    ]
    failed = [r for r in results if r.status is Status.FAILED]
    if failed:
        return StageResult(Status.FAILED, failed[0].cause, failed[0].message, result={"tasks": facts})
    status = Status.PARTIAL if any(r.status is Status.PARTIAL for r in results) else Status.DONE
    return StageResult(status, result={"tasks": facts})


class Scripted:
    """A stage whose kind says what it does: behaviours of tasks, joined by `+`, or one of the names below."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def work(self, allocation: AgentAllocation) -> StageResult:
        if self.kind == "raises":
            raise ZeroDivisionError("a defect in a stage")
        if self.kind == "refuses":
            raise StageError("a stage cannot go on", "here", "Do something.")
        if self.kind == "stage-in":
            return self._stage_in(allocation)
        if self.kind == "stage-in-wrong":
            [output] = allocation.vouch("store:a", allocation.campaign / "stages" / "data")
            allocation.stage_in([replace(output, sha256="0" * 64)]).result()
        if self.kind == "record":
            allocation.record.append("asked", number=len(allocation.record.events()))
            return StageResult(Status.DONE, result={"events": allocation.record.events()})
        if self.kind == "convert":
            return self._convert(allocation)
        if self.kind == "search":
            return self._search(allocation)
        nodes = 1 if "+" in self.kind else allocation.num_nodes
        futures = [start(allocation, f"{each}-{i}", each, nodes) for i, each in enumerate(self.kind.split("+"))]
        return as_result([future.result() for future in futures])

    def _stage_in(self, allocation: AgentAllocation) -> StageResult:
        outputs = allocation.vouch("store:a", allocation.campaign / "stages" / "data")
        folder = allocation.stage_in(outputs).result()
        here = [str(folder).replace("{node}", node) for node in allocation._nodes]
        found = {node: sorted(str(p.relative_to(node)) for p in Path(node).rglob("*") if p.is_file()) for node in here}
        allocation.stage_in(outputs).result()
        facts: dict[str, Any] = {"found": found, "progress": allocation.facts()["progress"]["stage_in"]}
        return StageResult(Status.DONE, result=facts)

    def _convert(self, allocation: AgentAllocation) -> StageResult:
        """Run a real command of the model, through the allocation's own `task`."""
        source, store = allocation.campaign / "{node}.xyz", allocation.campaign / "store"
        config = ConvertConfig(name="a", reader={"name": "extxyz"}, sources=(source,), store=store)
        result = allocation.task("convert", "convert", config, nodes=2).result()
        hosts = result.outcome.hosts if result.outcome else ()
        return StageResult(result.status, result.cause, result.message, result={"hosts": hosts})

    def _search(self, allocation: AgentAllocation) -> StageResult:
        """Run the real loop of a search whose trials take all nodes; none of them can succeed."""
        from workflow.search.optimizer import Optimizer  # its import costs seconds, and this stage alone needs it

        source = ConvertConfig(name="a", reader={"name": "extxyz"}, sources=(Path("a.xyz"),), store=Path("store"))
        plan = Plan(50, allocation.num_nodes, 3, lambda point, resume: source, lambda config: "")  # type: ignore[arg-type, return-value]
        space = make_space("painn", {})
        settings: dict[str, Any] = {"seed": 1, "initial": [], "num_initial": 3}
        optimizer = Optimizer(space, allocation.record, settings, allocation.folder.run)
        search = Search(allocation, plan, optimizer, Trials(allocation.record))
        search.run()
        trials = [{"status": each.status, "cause": each.cause, "message": each.message} for each in search.trials]
        return StageResult(Status.FAILED, Cause.NODE_FAILURE, "no trial succeeded", result={"trials": trials})


agent.stage_kind = Scripted  # type: ignore[assignment]
if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    os._exit(agent.main(sys.argv))
