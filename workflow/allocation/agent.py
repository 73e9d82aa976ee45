"""The story of one attempt, on the first node of its allocation: fence, health check, the stage's work, receipt.

`python -m workflow.allocation.agent ATTEMPT_FOLDER`, started by the batch script with `exec` after it has made `run/`.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
import traceback
from dataclasses import replace
from pathlib import Path
from typing import Any

from model.outcome import Cause, Status, read_json, write_json
from workflow.allocation.allocation import AgentAllocation, Machinery, RevokedError, local_folder, require_right
from workflow.allocation.deadline import Deadline
from workflow.allocation.executor import Kernel, NodePoolExecutor
from workflow.allocation.guard import adopt_orphans, kill_descendants
from workflow.allocation.health import Probe
from workflow.allocation.heartbeat import Heartbeat
from workflow.allocation.launch import setting_of
from workflow.allocation.nodes import NodePool
from workflow.allocation.record import StageRecord
from workflow.allocation.staging import StageInError, Staging
from workflow.allocation.takeover import take_over
from workflow.allocation.task import TaskRunner
from workflow.batch import fence
from workflow.batch.scheduler import JobInfo, this_job
from workflow.campaign import stage_kind
from workflow.environment import packed
from workflow.errors import CampaignError, SchedulerError, is_of_storage
from workflow.process import ProcessId
from workflow.receipt import Receipt, read_receipt, write_receipt
from workflow.request import Request, read_request
from workflow.rundir import AttemptDir
from workflow.site import Site
from workflow.stages.base import StageResult

logger = logging.getLogger(__name__)
EXIT_REVOKED, EXIT_STORAGE = 3, 74  # EX_IOERR of sysexits.h; `workflow/batch/causes.py` knows it


def main(argv: list[str]) -> int:
    """Carry out one attempt; 0 for done or partial, 1 for failed, 3 for revoked, 74 where not even that can be written."""
    try:
        return _carry_out(argv)
    except OSError as error:
        if not is_of_storage(error):
            raise
        logger.exception("the campaign's folder cannot be written")
        return EXIT_STORAGE


def _carry_out(argv: list[str]) -> int:
    attempt = AttemptDir(Path(argv[1]).resolve())
    request = read_request(attempt.request)
    try:
        require_fence(attempt)
        began = time.time()
        result, num_nodes = attempt_result(attempt, request)
        require_right(attempt)
    except RevokedError as error:
        logger.warning("%s", error)
        return EXIT_REVOKED
    write_receipt(attempt.receipt, _receipt(request, result, num_nodes, began))
    return 1 if result.status is Status.FAILED else 0


def require_fence(attempt: AttemptDir) -> None:
    """Check that this agent may begin the attempt.

    Raises:
        RevokedError: The driver has taken the fence, or another agent is or was at work here.
    """
    require_right(attempt)
    if not attempt.run.is_dir():
        raise RevokedError("the fence was not taken", str(attempt.run), "Attempts are started by their batch script.")
    if attempt.start.exists():
        raise RevokedError("another agent has started this attempt", str(attempt.start), "An attempt runs once.")


def attempt_result(attempt: AttemptDir, request: Request) -> tuple[StageResult, int]:
    """Do the attempt's work, whatever happens; give the result and the number of nodes."""
    try:
        site = Site.model_validate(request.site)
        job = this_job(site)
    except Exception as error:
        return failure(attempt, request, error), 0
    write_json(attempt.start, _start_facts(job))
    try:
        result = inherited_result(request) or Agent(attempt, request, site, job).work()
    except RevokedError:
        raise
    except Exception as error:
        result = failure(attempt, request, error)
    return result, len(job.nodes)


class Agent:
    """Rules one allocation while its stage works.

    Args:
        attempt: The attempt.
        request: What is asked.
        site: The site.
        job: What the running job knows of itself.
    """

    def __init__(self, attempt: AttemptDir, request: Request, site: Site, job: JobInfo) -> None:
        self._attempt, self._request, self._site, self._job = attempt, request, site, job
        periods = site.periods
        self._phase = "starting"
        self._allocation: AgentAllocation | None = None
        self._pool = NodePool(job.nodes, int(request.spec.get("spares", 0)))
        self._deadline = Deadline(job.end_time, periods.margin_s(request.walltime_s), periods.kill_after_s)
        self._setting = setting_of(site, self._local(job.job_id), job.job_id)
        self._probe = Probe(self._setting, attempt.run / "probes", periods.ttl_s, lambda: self._deadline.is_due)
        self._runner = TaskRunner(self._setting, periods, self._pool, self._deadline, self._probe)
        local, logs = self._local(job.job_id), attempt.run / "staging"
        self._staging = Staging(self._setting, Path(request.campaign), local, logs, self._deadline)
        self._heartbeat = Heartbeat(attempt.heartbeat, periods.heartbeat_s, self._facts, self._watch)

    def work(self) -> StageResult:
        """Tell the story."""
        signal.signal(signal.SIGTERM, lambda number, _: self._deadline.advance(f"signal {number}", from_outside=True))
        signal.signal(signal.SIGUSR1, lambda number, _: self._deadline.warn(f"signal {number}"))  # we have it sent at the end
        adopt_orphans()
        self._heartbeat.start()
        try:
            result = self._left_meanwhile() or self._work_on(self._healthy_nodes())
            return self._with_evidence(cut_short(result, self._deadline) if self._deadline.is_preempted else result)
        finally:
            self._phase = "ended"
            self._heartbeat.stop()

    def _left_meanwhile(self) -> StageResult | None:
        """End what earlier agents may still do, and return the result that one has left until then."""
        self._phase = "taking over"
        found = take_over(self._request, self._site.periods.ttl_s, lambda: self._deadline.is_due)
        return inherited_result(self._request) if found else None

    def _healthy_nodes(self) -> tuple[str, ...]:
        self._phase = "health check"
        silent = self._probe(self._job.nodes)
        self._pool.exclude(silent)
        return tuple(node for node in self._job.nodes if node not in silent)

    def _work_on(self, nodes: tuple[str, ...]) -> StageResult:
        if not nodes:
            return StageResult(Status.FAILED, Cause.NODE_FAILURE, "no node of the allocation answers")
        record = StageRecord(self._attempt, Path(self._request.campaign), self._request.previous)
        kernel = Kernel(NodePoolExecutor(self._pool, self._runner), self._attempt.run / "parsl")
        machinery = Machinery(self._site, self._setting, self._pool, self._deadline, kernel, self._staging, record)
        try:
            allocation = self._allocation = AgentAllocation(self._request, self._attempt, machinery, nodes)
            if self._site.archive:
                self._phase = "unpacking the environment"
                self._staging.unpack(nodes, packed(Path(self._site.archive)))
            self._phase = "working"
            return stage_kind(self._request.kind).work(allocation)
        finally:
            self._phase = "ending"
            self._staging.end()
            kernel.close()
            if left := kill_descendants():  # of a guard that was killed itself
                logger.warning("processes left behind were killed: %s", left)
            self._staging.clean(nodes, self._left_behind())
            record.close()

    def _watch(self) -> None:
        """Look for the files that ask this attempt to stop or to vanish."""
        if self._attempt.revoked.exists():
            self._runner.revoked.set()
            self._deadline.advance("the attempt was revoked")
        if self._attempt.stop.exists():
            self._deadline.advance("cancelled")

    def _facts(self) -> dict[str, Any]:
        of_stage = self._allocation.facts() if self._allocation else {"progress": {}, "tasks": {}}
        time_left = round(self._deadline.time_left(), 1)
        return {"phase": self._phase, "time_left_s": time_left, "nodes": self._pool.counts.as_dict(), **of_stage}

    def _with_evidence(self, result: StageResult) -> StageResult:
        aside = self._pool.quarantined
        evidence = {**result.evidence, **({"quarantined": aside} if aside else {})}
        return StageResult(result.status, result.cause, result.message, result.outputs, result.result, evidence)

    def _local(self, job_id: str) -> str:
        return local_folder(self._site.node.local, job_id, self._request.token)

    def _left_behind(self) -> list[str]:
        """Return node-local folders of earlier attempts that were killed; on virtual nodes nobody else removes them."""
        if not self._setting.launcher.node_variable or "{job}" not in self._site.node.local:
            return []
        starts = [AttemptDir(Path(self._request.campaign) / folder) for folder in self._request.previous]
        killed = [read_json(each.start) for each in starts if each.start.exists() and not each.receipt.exists()]
        return [self._local(start["job_id"]) for start in killed if start]


def cut_short(result: StageResult, deadline: Deadline) -> StageResult:
    """Return the result of a preempted attempt: what is not done is the fault neither of the stage nor of its walltime.

    So it uses up no link: another attempt at the same one goes on. A fault that trying again cannot mend stays one.
    """
    if result.status is Status.DONE or (result.cause is not None and not result.cause.is_transient):
        return result
    message = f"stopped from outside by {deadline.reason}, with {deadline.taken_s:.0f} s left to work in"
    evidence = {**result.evidence, "stopped_by": deadline.reason, "taken_s": round(deadline.taken_s, 1), "said": result.message}
    return replace(result, status=Status.FAILED, cause=Cause.PREEMPTED, message=message, evidence=evidence)


def inherited_result(request: Request) -> StageResult | None:
    """Return the result that an earlier attempt leaves nothing to add to, or None where there is work.

    A stage that is done stays done. A link whose chain broke by a fault that trying again cannot mend does not try;
    a person who resumes the campaign gets a new attempt, and that does.
    """
    folders = [AttemptDir(Path(request.campaign) / folder) for folder in reversed(request.previous)]
    receipts = [read_receipt(each.receipt) for each in folders if fence.has_results(each)]
    for receipt in receipts:
        if receipt is not None and receipt.status is Status.DONE:
            message = f"done by link {receipt.link}, attempt {receipt.attempt}"
            return StageResult(Status.DONE, None, message, receipt.outputs, receipt.result)
    last = next(iter(receipts), None)  # of the newest that has started; a link that never did proves nothing
    is_final = last is not None and last.cause is not None and not last.cause.is_transient
    if last is not None and is_final and last.link < request.link and request.attempt == 1:
        return StageResult(Status.FAILED, last.cause, f"link {last.link} failed: {last.message}", evidence=last.evidence)
    return None


def failure(attempt: AttemptDir, request: Request, error: Exception) -> StageResult:
    """Make a result of an exception: whose fault it is, and where its traceback stands."""
    path = attempt.run / "traceback.log"
    try:
        path.write_text("".join(traceback.format_exception(error)))
    except OSError:
        logger.exception("no room for the traceback of %r", error)
    logger.error("the stage failed", exc_info=error)
    evidence = {"error": type(error).__name__, "traceback": os.path.relpath(path, request.campaign)}
    return StageResult(Status.FAILED, _cause_of(error), str(error) or repr(error), evidence=evidence)


def _cause_of(error: Exception) -> Cause:
    if isinstance(error, StageInError):
        return error.cause
    if is_of_storage(error):
        return Cause.STORAGE
    if isinstance(error, SchedulerError):  # its server was away just when the job started: the stage is not to blame
        return Cause.SCHEDULER
    return Cause.BAD_CONFIG if isinstance(error, CampaignError) else Cause.BUG


def _start_facts(job: JobInfo) -> dict[str, Any]:
    own = ProcessId.own().fields()
    return {**own, "job_id": job.job_id, "nodes": list(job.nodes), "end_time": job.end_time, "t": time.time()}


def _receipt(request: Request, result: StageResult, num_nodes: int, began: float) -> Receipt:
    return Receipt(
        token=request.token,
        stage=request.stage,
        link=request.link,
        attempt=request.attempt,
        status=result.status,
        cause=result.cause,
        message=result.message,
        evidence=result.evidence,
        outputs=result.outputs,
        result=result.result,
        nodes=num_nodes,
        started=began,
        ended=time.time(),
    )


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    logging.getLogger("parsl").setLevel(logging.WARNING)
    exit_code = main(sys.argv)
    logging.shutdown()
    sys.stdout.flush()
    os._exit(exit_code)  # the receipt stands: no thread of a library may hold the allocation any longer
