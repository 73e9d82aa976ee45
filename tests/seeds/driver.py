"""The real driver without threads: Parsl's part is done at once, and death comes at a named instruction."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any
from unittest import mock

import workflow.driver
import workflow.journal
from workflow.batch.executor import BatchExecutor
from workflow.driver import FAILED, Driver
from workflow.errors import JournalError, LeaseHeld
from workflow.journal import Journal
from workflow.segments import segment_path

if TYPE_CHECKING:
    from seeds.world import World


class Died(BaseException):
    """Kill -9: no code of the driver may hear of it."""


class Life:
    """One driver process, from taking the lease to its end.

    Args:
        world: The history.
        skew: How wrong its host's wall clock is.

    Attributes:
        is_over: It has ended, or was killed.
        is_frozen: It stands between two instructions.
        has_slept: It stood so during the step that it is at.
        code: How it ended, if in order.
    """

    def __init__(self, world: World, skew: float) -> None:
        self._world, self.skew = world, skew
        self.is_over = self.is_frozen = self.has_slept = False
        self.code: int | None = None
        self.beats: list[Any] = []
        self._count = 0
        self._journal: Journal | None = None
        self._driver = Driver(world.campaign, passing=self._pass)

    def begin(self) -> bool:
        """Take the lease and lay the campaign out; say whether this driver lives now."""
        return self._lively(self._begin)

    def step(self) -> None:
        """Ask the batch system once, and do all that follows."""
        self._lively(self._step)

    def beat(self) -> None:
        """Let its heartbeat go on, unless it is dead or frozen."""
        if not self.is_over and not self.is_frozen:
            self._count += 1
            for each in self.beats:
                each._write(self._count)

    def die(self) -> None:
        """Leave everything as it stands, perhaps in the middle of a line."""
        self.is_over = True
        if self._journal is not None:
            path = self._journal._file.path
            with contextlib.suppress(OSError):  # it may have died while it closed it
                self._journal._file.close()
            if self._world.rng.random() < 0.3:
                with open(path, "ab") as file:
                    file.write(b'{"seq":')

    def go_on(self) -> None:
        """Be the one that acts from now on."""
        self._world.actor, self._world.clock.skew = self, self.skew

    @property
    def is_displaced(self) -> bool:
        """Whether another driver has taken the lease over."""
        journal = self._journal
        return journal is not None and segment_path(journal._file.path.parent, journal.epoch + 1).exists()

    @property
    def newest(self) -> dict[str, Any]:
        """The newest line of its journal."""
        assert self._journal is not None
        return self._journal.events[-1]

    def _lively(self, act: Callable[[], None]) -> bool:
        self.go_on()
        self.has_slept = False
        try:
            act()
        except Died:
            self.die()
        except LeaseHeld:
            self._world.truth.displaced += 1
            self._drop()
        except OSError:  # of a disk that fails: it leaves as `Driver` does
            self._leave()
        except JournalError as error:
            self._world.truth.broken.append(f"R3 the record is lost: {error.what}")
            self._world.code = FAILED
            self._drop()
        return not self.is_over

    def _begin(self) -> None:
        driver, world = self._driver, self._world
        driver._rundir.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        _TAKING.append(self)
        try:
            self._journal = journal = Journal.take(driver._rundir, world.campaign.site.periods)
        finally:
            _TAKING.pop()
        driver._passing("lease")
        driver._batch = BatchExecutor("batch", world.batch, journal, driver._on_batch, self._pass)
        driver._open(journal, self, False)  # type: ignore[arg-type]
        world.truth.watch(journal)
        driver._adopt(list(driver._ledger.stages))
        driver._lay_out(self)  # type: ignore[arg-type]
        self._settle()

    def _step(self) -> None:
        world, journal = self._world, self._journal
        assert journal is not None
        world.batch.shown = []
        self._driver._batch._pass()
        if not (self.has_slept or self.is_displaced):
            world.truth.looked(journal.epoch, world.batch.shown)
        self._settle()
        if self._driver._is_over():
            self.code = self._driver._code()
            journal.close()
            self.is_over = True

    def _settle(self) -> None:
        """Handle events until none is left, as the driver's own loop does one by one."""
        driver = self._driver
        driver._step()
        while not driver._events.empty() or driver._has_news:
            driver._step()

    def _pass(self, point: str) -> None:
        self._world.passing(self, point)

    def _leave(self) -> None:
        self.is_over = True
        if self._journal is not None:
            with contextlib.suppress(LeaseHeld, OSError):
                self._journal.close()

    def _drop(self) -> None:
        self.is_over = True
        if self._journal is not None:
            with contextlib.suppress(OSError):
                self._journal._file.close()

    @property
    def batch(self) -> BatchExecutor:
        """Its executor."""
        return self._driver._batch


_TAKING: list[Life] = []
"""The life that is taking a lease right now: its heartbeat's."""


def _start(beat: Any) -> None:
    beat._write(0)
    _TAKING[-1].beats.append(beat)


def _stop(_: Any) -> None:
    """No thread runs."""


@contextlib.contextmanager
def without_threads() -> Iterator[None]:
    """Let Parsl's part be done at once, and heartbeats when the history says so."""
    with (
        mock.patch.object(workflow.driver, "python_app", _python_app),
        mock.patch.object(workflow.driver, "join_app", _join_app),
        mock.patch.object(workflow.driver, "_LOOK_S", 0.0),
        mock.patch.object(workflow.journal._Beat, "start", _start),
        mock.patch.object(workflow.journal._Beat, "stop", _stop),
    ):
        yield


def _python_app(function: Callable[..., Any], *, data_flow_kernel: Life, executors: list[str]) -> Callable[..., Future[Any]]:
    def app(argument: Any) -> Future[Any]:
        if executors == ["batch"]:
            return data_flow_kernel.batch.submit(function, {}, argument)
        future: Future[Any] = Future()
        try:
            future.set_result(function(argument))
        except Exception as error:
            future.set_exception(error)
        return future

    return app


def _join_app(function: Callable[..., Future[Any]], *, data_flow_kernel: Life) -> Callable[..., Future[Any]]:
    def app(key: str, needs: list[Future[Any]]) -> Future[Any]:
        outer: Future[Any] = Future()

        def look(_: Future[Any]) -> None:
            if outer.done() or not all(need.done() for need in needs):
                return
            faults = [need.exception() for need in needs if need.exception() is not None]
            if faults:
                outer.set_exception(faults[0])
                return
            function(key, [need.result() for need in needs]).add_done_callback(lambda inner: _copy(inner, outer))

        for need in needs:
            need.add_done_callback(look)
        if not needs:
            look(outer)
        return outer

    return app


def _copy(inner: Future[Any], outer: Future[Any]) -> None:
    error = inner.exception()
    if error is None:
        outer.set_result(inner.result())
    else:
        outer.set_exception(error)
