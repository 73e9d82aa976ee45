"""Suggest what to try next: DeepHyper by ask and tell, rebuilt exactly from a stage's record."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import platform
import warnings
from collections.abc import Iterable
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from deephyper.hpo import CBO, HpProblem

from workflow.search.space import Dimension, Point, Space
from workflow.stages.base import Record

logger = logging.getLogger(__name__)
logging.getLogger("deephyper").setLevel(logging.WARNING)  # it tells of every fit

PACKAGES = ("deephyper", "ConfigSpace", "numpy", "scipy", "scikit-learn")
"""Packages whose versions decide the suggestions; another one voids the replay."""
_EXTRA = (0, 2, 8, 32)
"""How many more than needed are asked for, try by try, where DeepHyper repeats itself (it does until it is told something)."""
_ACQUISITION = {"max_total_failures": -1, "filter_failures": "min"}
# `sampling` instead of DeepHyper's default `mixedga`: 0.1 s instead of 5 s for an ask, of which
# nodes wait each one; `max_total_failures` is 100 by default and would end the search there.


class Optimizer:
    """Bayesian optimization of a minimum whose every ask and tell stands in a record.

    The same record gives the same suggestions: opening replays the asks and tells in their order and
    compares. Where that cannot be exact (other package versions, another space) a new seed is drawn,
    all results are told to a fresh search, and the record says so.

    Attributes:
        space: What varies.
        note: Why the search could not be replayed exactly; empty where it was.
    """

    def __init__(self, space: Space, record: Record, settings: dict[str, Any], folder: Path) -> None:
        """Open the search that `record` holds, or start one.

        Args:
            space: What varies.
            record: The stage's record; asks and tells are appended to it.
            settings: `seed`, `initial` (points to try first) and `num_initial` (random ones included).
            folder: Where DeepHyper may make its log folder.
        """
        self.space, self.note = space, ""
        self._record, self._settings, self._folder = record, settings, folder
        self._known: set[str] = set()
        events = record.events()
        starts = [i for i, each in enumerate(events) if each["event"] == "search"]
        if not starts:
            self._start(settings["seed"], [])
        elif not self._replayed(events[starts[-1]], events[starts[-1] + 1 :]):
            logger.warning("search starts afresh: %s", self.note)
            self._start(settings["seed"] + len(starts), _told(events))
        self._known |= {_key(each["point"]) for event in events if event["event"] == "ask" for each in event["trials"]}

    def ask(self, count: int, first: int) -> list[Point]:
        """Suggest up to `count` new points, and record them as trials `first`, `first` + 1, ….

        Fewer come back where the space holds no more points that were not tried.
        """
        calls: list[int] = []
        fresh: list[Point] = []
        for extra in _EXTRA:
            if len(fresh) < count and len(self._known) < self.space.num_points:
                calls.append(count - len(fresh) + extra)
                fresh += self._take(self._ask(calls[-1]), count - len(fresh))
        trials = [{"trial": first + i, "point": point} for i, point in enumerate(fresh)]
        self._record.append("ask", calls=calls, trials=trials)
        return fresh

    def tell(self, trial: int, point: Point, value: float | str) -> None:
        """Record and tell a result: an objective to be minimized, or a cause of failure."""
        shown: float | str = value if isinstance(value, str) or math.isfinite(value) else "diverged"
        self._record.append("tell", trial=trial, point=point, value=shown)
        self._tell(point, shown)

    def _take(self, points: Iterable[Point], count: int) -> list[Point]:
        taken: list[Point] = []
        for point in points:
            if len(taken) < count and _key(point) not in self._known:
                self._known.add(_key(point))
                taken.append(point)
        return taken

    def _start(self, seed: int, history: list[dict[str, Any]]) -> None:
        start = {**self._settings, "seed": seed, "history": history, "note": self.note}
        self._record.append("search", versions=_versions(), space=_digest(self.space), **start)
        self._open(start)

    def _open(self, start: dict[str, Any]) -> None:
        self._known = set()
        self._search = _search(self.space, start, self._folder) if self.space.dimensions else None
        for each in start["history"]:
            self._tell(each["point"], each["value"])

    def _replayed(self, start: dict[str, Any], events: list[dict[str, Any]]) -> bool:
        if start["versions"] != _versions():
            self.note = f"the record was made with {start['versions']}, this is {_versions()}"
        elif start["space"] != _digest(self.space):
            self.note = "the space of the search has changed"
        else:
            self._open(start)
            self.note = self._follow(events)
        return not self.note

    def _follow(self, events: list[dict[str, Any]]) -> str:
        for event in events:
            if event["event"] == "tell":
                self._tell(event["point"], event["value"])
            elif event["event"] == "ask":
                again = self._again(event["calls"], len(event["trials"]))
                if again != [each["point"] for each in event["trials"]]:
                    trials = ", ".join(str(each["trial"]) for each in event["trials"])
                    return f"the replay suggested other points than the record holds for trials {trials}"
        return ""

    def _again(self, calls: list[int], count: int) -> list[Point]:
        points: list[Point] = []
        for call in calls:
            points += self._take(self._ask(call), count - len(points))
        return points

    def _ask(self, count: int) -> list[Point]:
        if self._search is None:
            return [{}]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            points = self._search.ask(count)
        return [{d.name: _decoded(d, point[d.name]) for d in self.space.dimensions} for point in points]

    def _tell(self, point: Point, value: float | str) -> None:
        if self._search is None:
            return
        coded = {d.name: _coded(d, point[d.name]) for d in self.space.dimensions}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._search.tell([(coded, f"F_{value}" if isinstance(value, str) else -value)])


def _search(space: Space, start: dict[str, Any], folder: Path) -> CBO:
    problem = HpProblem(seed=start["seed"])
    for each in space.dimensions:
        problem.add_hyperparameter(_hyperparameter(each), each.name)
    return CBO(
        problem,
        random_state=start["seed"],
        log_dir=str(folder),
        checkpoint_history_to_csv=False,
        acq_optimizer="sampling",
        acq_optimizer_kwargs=_ACQUISITION,
        n_initial_points=max(start["num_initial"], len(start["initial"]), 1),
        initial_points=[{d.name: _coded(d, point[d.name]) for d in space.dimensions} for point in start["initial"]],
    )


def _hyperparameter(dimension: Dimension) -> Any:
    if dimension.choices:
        # Positions instead of values: numpy would turn mixed lists into one type and None into a fault.
        return (0, len(dimension.choices) - 1) if _is_ordered(dimension) else [str(i) for i in range(len(dimension.choices))]
    scale = "log-uniform" if dimension.log else "uniform"
    kind = int if dimension.integer else float
    return (kind(dimension.low), kind(dimension.high), scale)


def _is_ordered(dimension: Dimension) -> bool:
    return all(isinstance(each, int | float) and not isinstance(each, bool) for each in dimension.choices)


def _coded(dimension: Dimension, value: Any) -> Any:
    if not dimension.choices:
        return value
    place = dimension.choices.index(value)
    return place if _is_ordered(dimension) else str(place)


def _decoded(dimension: Dimension, value: Any) -> Any:
    if dimension.choices:
        return dimension.choices[int(value)]
    return int(value) if dimension.integer else float(value)


def _told(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"point": each["point"], "value": each["value"]} for each in events if each["event"] == "tell"]


def _key(point: Point) -> str:
    return json.dumps(point, sort_keys=True)


def _digest(space: Space) -> str:
    return hashlib.sha256(json.dumps(asdict(space), sort_keys=True).encode()).hexdigest()


def _versions() -> dict[str, str]:
    return {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}
