"""Agents of a history: they take the fence, work unit by unit on real files, and leave receipts; or die of what strikes them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model.outcome import Cause, Status, read_json, write_json
from workflow.allocation.agent import inherited_result, require_fence
from workflow.allocation.allocation import RevokedError, require_right
from workflow.allocation.heartbeat import replace_json
from workflow.allocation.nodes import NodePool
from workflow.batch import fence
from workflow.batch.scheduler import JobState
from workflow.errors import StageError
from workflow.receipt import Receipt, verify, vouch, write_receipt
from workflow.request import Request, read_request
from workflow.rundir import AttemptDir
from workflow.simulation.job import Job

if TYPE_CHECKING:
    from seeds.world import World

UNIT_S = 300.0
UNITS = "units.json"
_DELAY_S = 2.0


class Run:
    """One execution of a job's script.

    Attributes:
        name: Which one it is: job and run.
        is_over: Nothing of it is left.
        is_silent: Its heartbeat stands still, and so does its work.
        is_cut_off: The batch system cannot reach it: it goes on though its job has ended.
        is_warned: It was asked to end.
        works: Its agent has begun.
        was_slow: Its script began long after its job, or it stood still with everything else.
        lingered: Its job did not leave its last state for long.
    """

    def __init__(self, world: World, job: Job) -> None:
        self._world, self._job = world, job
        self._number = job.runs
        self.name = f"{job.id}.{job.runs}"
        self.folder = AttemptDir(Path(job.ask.facts["workdir"]))
        self.is_over = self.is_silent = self.is_cut_off = self.is_warned = self.works = False
        self.was_slow = self.lingered = False
        self._request: Request | None = None
        self._done: list[int] = []
        self._began = 0.0
        self._is_deaf = False
        skews = world.weather.strikes("clock skew of a node", world.now)
        self._skew_s = world.rng.uniform(-900.0, 900.0) if skews else 0.0

    @property
    def key(self) -> str:
        """The stage instance."""
        return self._request.stage if self._request else ""

    @property
    def is_well(self) -> bool:
        """Whether its agent is at work, or will go on by itself."""
        return self.works and not self.is_over and not self.is_silent

    def script(self) -> None:
        """Do what a batch script does: take the fence, become the agent."""
        if self.is_over or self._hangs(self.script):
            return
        try:
            self.folder.run.mkdir(mode=0o700)
        except FileExistsError:
            self.exit(0)
            return
        self.agent()

    def agent(self) -> None:
        """Do what an agent does before its stage's work."""
        world, self._request = self._world, read_request(self.folder.request)
        request = self._request
        try:
            require_fence(self.folder)
        except RevokedError:
            self.exit(3)
            return
        self.works, self._began = True, world.now
        write_json(self.folder.start, {"job_id": self._job.id})
        world.truth.started(self._job, self)
        world.truth.read(request, self._faulty_inputs(request))
        if self._inherits(request):
            return
        revoked = fence.revoke_earlier(Path(request.campaign), request.previous)
        world.at(world.now + _DELAY_S + (world.campaign.site.periods.ttl_s if revoked else 0.0), self.work)

    def work(self) -> None:
        """Begin the stage's work where the attempts before have left it."""
        if self.is_over or self._request is None or self._hangs(self.work) or self._inherits(self._request):
            return
        self._done = self._inherited(self._request)
        self._is_deaf = self._world.weather.strikes("ignores the wish to stop", self._world.now)
        is_done = len(self._done) == int(self._request.spec["plan"][0])
        self._world.at(self._world.now + (0.0 if is_done else UNIT_S), self.unit)

    def unit(self) -> None:
        """Finish one unit of work, if there is still a right to it, and go on or end."""
        request, world = self._request, self._world
        if not self.is_well or request is None or self._hangs(self.unit):
            return
        try:
            require_right(self.folder)
        except RevokedError:
            self.exit(3)
            return
        wanted = [unit for unit in range(int(request.spec["plan"][0])) if unit not in self._done]
        if wanted:
            self._commit(wanted[0])
        if len(wanted) <= 1:
            self.leave(Status.DONE, None)
        elif not self._meets_with_a_fault() and not self._must_stop():
            world.at(world.now + UNIT_S, self.unit)

    def asked_to_end(self) -> None:
        """Hear TERM: stop in order, with what is done."""
        if self.is_silent or self.is_over or self.is_warned:
            return
        self.is_warned = True
        if self.works:
            self._world.at(self._world.now + _DELAY_S, self._stop_early)
        else:
            self.exit(143)

    def killed(self) -> None:
        """End at once, but for an agent that the batch system cannot reach."""
        if not self.is_cut_off:
            self.exit(137)

    def exit(self, code: int) -> None:
        """End with this code."""
        if self.is_over:
            return
        self.is_over = True
        self._world.at(self._world.now + 1.0, lambda: self._finish(code))

    def leave(self, status: Status, cause: Cause | None, outputs: Any = ()) -> None:
        """Leave a receipt, if there is still a right to, and end; a parallel file system may show it late."""
        world, request = self._world, self._request
        assert request is not None
        try:
            require_right(self.folder)
        except RevokedError:
            self.exit(3)
            return
        where = (request.token, request.stage, request.link, request.attempt, status, cause)
        receipt = Receipt(*where, "", {"units": len(self._done)}, tuple(outputs), {}, request.nodes, self._began, world.now)
        self.works = False
        if world.weather.strikes("hangs at its end", world.now):
            self.lingered = True
        else:
            self.exit(1 if status is Status.FAILED else 0)
        if world.weather.strikes("late receipt", world.now):
            world.at(world.now + world.rng.uniform(1, 90), lambda: self._show(receipt))
        else:
            self._show(receipt)

    def beat(self) -> None:
        """Write the heartbeat as it stands now."""
        if self.is_well and self._world.now >= self._world.hangs_until:
            count = int((self._world.now - self._began) / self._world.campaign.site.periods.heartbeat_s)
            replace_json(self.folder.heartbeat, {"count": count})

    def _hangs(self, act: Callable[[], None]) -> bool:
        """Put off an act to when everything that hangs goes on; say whether it hangs."""
        hangs = self._world.now < self._world.hangs_until
        if hangs:
            self._world.at(self._world.hangs_until, act)
        return hangs

    def _finish(self, code: int) -> None:
        if self._job.runs == self._number:  # else the site has started it anew meanwhile
            self._world.model.finish(self._job, code)

    def _show(self, receipt: Receipt) -> None:
        if receipt.status is Status.DONE and not receipt.outputs:
            product = self.folder.run / "product.txt"
            product.write_text(f"{receipt.stage} {receipt.token}\n")
            receipt = replace(receipt, outputs=tuple(vouch(self._world.campaign.folder, "product", product)))
        write_receipt(self.folder.receipt, receipt)
        self._world.truth.left(self, receipt)

    def _inherits(self, request: Request) -> bool:
        """End at once where an earlier attempt has left nothing to do."""
        result = inherited_result(request)
        if result is not None:
            self.leave(result.status, result.cause, result.outputs)
        return result is not None

    def _inherited(self, request: Request) -> list[int]:
        found: set[int] = set()
        for folder in request.previous:
            found.update(read_json(AttemptDir(Path(request.campaign) / folder).run / UNITS) or ())
        return sorted(found)

    def _commit(self, unit: int) -> None:
        """Make a unit's result stand: the effect that only one execution of a link may have."""
        self._done.append(unit)
        write_json(self.folder.run / UNITS, self._done)
        try:
            self._lend_nodes()
        except StageError as error:
            self._world.truth.broken.append(f"R8 {error.what}")
        self._world.truth.committed(self.key, self, unit)

    def _lend_nodes(self) -> None:
        """Let tasks of all sizes pass over the allocation's nodes, one of which may fail on the way."""
        rng, nodes = self._world.rng, [*self._job.nodes, "spare1", "spare2"]
        pool = NodePool(nodes, 2, clock=lambda: self._world.now)
        for name in ("a", "b", "c"):
            pool.ask(name, rng.randint(1, len(self._job.nodes)))
        while granted := pool.grant(3):
            for name, lent in granted:
                if rng.random() < 0.2:
                    pool.condemn(lent[:1])
                pool.release(name)
                self._world.truth.counted(pool.counts, len(nodes))

    def _must_stop(self) -> bool:
        """Stop in order where the walltime or somebody asks for it."""
        if (self.folder.stop.exists() and not self._is_deaf) or self._left_s < UNIT_S:
            self.leave(Status.PARTIAL, None)
            return True
        return False

    def _stop_early(self) -> None:
        """Stop as an agent does that got TERM: preempted, if that came long before its own time."""
        if self.is_well and not self._hangs(self._stop_early):
            is_early = self._left_s > self._margin_s
            self.leave(*((Status.FAILED, Cause.PREEMPTED) if is_early else (Status.PARTIAL, None)))

    @property
    def _margin_s(self) -> float:
        return self._world.campaign.site.periods.margin_s(self._job.ask.walltime_s)

    @property
    def _left_s(self) -> float:
        """Seconds to the time at which its own timer would stop it, by its node's clock."""
        return self._job.limit_at - self._margin_s - self._world.now - self._skew_s

    def _meets_with_a_fault(self) -> bool:
        world = self._world
        if world.weather.strikes("agent killed", world.now):
            self.exit(137)
        elif world.weather.strikes("out of memory", world.now):
            self._job.ending = JobState.OUT_OF_MEMORY
            self.exit(137)
        elif world.weather.strikes("agent silent", world.now):
            self.is_silent = True
        elif world.weather.strikes("storage fault", world.now):
            self.leave(Status.FAILED, Cause.STORAGE)
        elif world.weather.strikes("own fault", world.now):
            self.leave(Status.FAILED, world.rng.choice((Cause.DIVERGED, Cause.BUG)))
        else:
            return False
        return True

    def _faulty_inputs(self, request: Request) -> list[str]:
        faults = []
        for key, receipt in request.inputs.items():
            try:
                verify(Path(request.campaign), receipt.outputs)
            except StageError as error:
                faults.append(f"{key}: {error.what}")
        return faults
