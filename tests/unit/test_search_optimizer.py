"""The optimizer: the same record gives the same suggestions, whatever process reads it."""

from __future__ import annotations

import json
import math
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from stage_allocation import MemoryRecord

from workflow.search import optimizer
from workflow.search.optimizer import Optimizer
from workflow.search.space import Dimension, Point, Space

ROOT = Path(__file__).parents[2]
SPACE = Space(
    "painn",
    (
        Dimension("charge", choices=(None, "some", True)),
        Dimension("hidden", choices=(16, 32, 64)),
        Dimension("layers", 2, 6, integer=True),
        Dimension("learning_rate", 1e-5, 1e-1, log=True),
    ),
)
SETTINGS: dict[str, Any] = {"seed": 7, "initial": [SPACE.fill({"layers": 3})], "num_initial": 4}


def open_(record: MemoryRecord, tmp_path: Path, space: Space = SPACE) -> Optimizer:
    return Optimizer(space, record, SETTINGS, tmp_path)


def objective(point: Point) -> float:
    return abs(math.log10(point["learning_rate"]) + 3) + abs(point["layers"] - 4) + point["hidden"] / 64


def drive(opened: Optimizer, steps: int) -> int:
    """Ask and tell in random order, with failures and trials in flight; return the next trial's number."""
    flight: dict[int, Point] = {}
    rng, count = random.Random(0), 0
    for step in range(steps):
        for point in opened.ask(3 if step % 4 == 0 else 1, count + 1):
            count += 1
            flight[count] = point
        trial = rng.choice(sorted(flight))
        point = flight.pop(trial)
        opened.tell(trial, point, "oom" if rng.random() < 0.2 else float("nan") if step == 3 else objective(point))
    return count + 1


def test_the_first_points_are_the_given_ones_and_all_differ(tmp_path: Path) -> None:
    record = MemoryRecord()
    drive(open_(record, tmp_path), 12)
    points = [each["point"] for event in record.lines if event["event"] == "ask" for each in event["trials"]]
    assert points[0] == SETTINGS["initial"][0]
    assert len({json.dumps(point, sort_keys=True) for point in points}) == len(points) == 18
    assert all(SPACE.problems(point) == [] for point in points)


def test_asking_one_by_one_without_a_tell_gives_different_points(tmp_path: Path) -> None:
    opened = open_(MemoryRecord(), tmp_path)
    next_trial = drive(opened, 8)
    points = [opened.ask(1, next_trial + i)[0] for i in range(5)]
    assert len({json.dumps(point, sort_keys=True) for point in points}) == 5


def test_a_replay_in_another_process_with_another_hash_seed_suggests_the_same(tmp_path: Path) -> None:
    record = MemoryRecord()
    opened = open_(record, tmp_path)
    following = drive(opened, 12)
    (tmp_path / "record.json").write_text(json.dumps(record.lines))
    expected = opened.ask(3, following)
    code = (
        "import json, sys; from pathlib import Path; from test_search_optimizer import *;"
        f"o = open_(MemoryRecord(json.loads(Path({str(tmp_path / 'record.json')!r}).read_text())), Path({str(tmp_path)!r}));"
        f"print(json.dumps([o.note, o.ask(3, {following})]))"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "4711", "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}:{Path(__file__).parent}"}
    out = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert json.loads(out.stdout.splitlines()[-1]) == ["", expected]


def test_a_lost_ask_is_asked_again(tmp_path: Path) -> None:
    """The agent died between the ask and its line: nobody saw the points, so they are suggested again."""
    record = MemoryRecord()
    opened = open_(record, tmp_path)
    following = drive(opened, 8)
    lines = list(record.lines)
    lost = opened.ask(2, following)
    assert open_(MemoryRecord(lines), tmp_path).ask(2, following) == lost


def test_not_a_number_is_told_as_divergence(tmp_path: Path) -> None:
    record = MemoryRecord()
    opened = open_(record, tmp_path)
    (point,) = opened.ask(1, 1)
    opened.tell(1, point, float("nan"))
    assert record.lines[-1]["value"] == "diverged"


def test_more_than_a_hundred_failures_do_not_end_the_search(tmp_path: Path) -> None:
    opened = open_(MemoryRecord(), tmp_path)
    for trial in range(1, 106):
        (point,) = opened.ask(1, trial)
        opened.tell(trial, point, "oom")
    assert opened.ask(1, 106)


def test_other_versions_start_afresh_with_all_that_was_told_and_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = MemoryRecord()
    following = drive(open_(record, tmp_path), 10)
    asked = [each["point"] for event in record.lines if event["event"] == "ask" for each in event["trials"]]
    told = sum(event["event"] == "tell" for event in record.lines)
    monkeypatch.setattr(optimizer, "_versions", lambda: {"deephyper": "99"})
    opened = open_(record, tmp_path)
    start = record.lines[-1]
    assert "99" in opened.note and start["event"] == "search" and start["note"] == opened.note
    assert len(start["history"]) == told == 10
    assert start["seed"] != SETTINGS["seed"]
    fresh = opened.ask(4, following)
    assert all(point not in asked for point in fresh)
    again = open_(MemoryRecord(record.lines), tmp_path)
    assert again.note == "" and again.ask(1, following + 4) == opened.ask(1, following + 4)


def test_a_record_that_does_not_replay_is_not_followed(tmp_path: Path) -> None:
    record = MemoryRecord()
    drive(open_(record, tmp_path), 6)
    asks = [event for event in record.lines if event["event"] == "ask"]
    asks[2]["trials"][0]["point"]["layers"] = 7 - asks[2]["trials"][0]["point"]["layers"] % 2
    assert "other points" in open_(record, tmp_path).note


def test_a_small_space_ends(tmp_path: Path) -> None:
    space = Space("painn", (Dimension("hidden", choices=(16, 32)), Dimension("layers", 2, 3, integer=True)))
    opened = Optimizer(space, MemoryRecord(), {"seed": 1, "initial": [], "num_initial": 2}, tmp_path)
    seen: list[Point] = []
    while points := opened.ask(1, len(seen) + 1):
        seen += points
        opened.tell(len(seen), points[0], float(points[0]["hidden"]))
    assert len(seen) == 4


def test_a_space_without_dimensions_has_one_point(tmp_path: Path) -> None:
    opened = Optimizer(Space("painn", ()), MemoryRecord(), {"seed": 1, "initial": [], "num_initial": 1}, tmp_path)
    assert opened.ask(2, 1) == [{}]
    opened.tell(1, {}, 1.0)
    assert opened.ask(1, 2) == []


def test_the_search_finds_better_points_than_chance(tmp_path: Path) -> None:
    opened = open_(MemoryRecord(), tmp_path)
    values = []
    for trial in range(1, 26):
        (point,) = opened.ask(1, trial)
        values.append(objective(point))
        opened.tell(trial, point, values[-1])
    assert sum(values[15:]) / 10 < 0.5 * sum(values[:5]) / 5
