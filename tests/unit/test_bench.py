"""Each bench runs to its end in its small mode and leaves figures that a machine can read; their size is no test's business."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench import conversion, timing
from model import registry

ROOT = Path(__file__).parents[2]
PROMISED = {
    "orchestrator": {
        "resume_100k_events_cpu_s",
        "status_10k_trials_cpu_s",
        "node_pool_task_cpu_ms",
        "batch_task_cpu_ms",
        "scheduler_queries_per_hour",
        *("duplicated", "lost", "seeds"),
        *(f"lost_node_hours_share_{rate}_failures_a_day{policy}" for rate in (1, 5, 20) for policy in ("", "_rerun_stage")),
    },
    "data": {
        *("loader_vs_lmdb", "loader_vs_mmap", "graph_loader_vs_lists", "bytes_per_structure", "mptrj_1gb_peak_mb"),
        *("window_per_rank_2", "window_per_rank_4", "window_apart_per_rank_2"),
        *(f"conversion_{name}_per_cpu_s" for name in registry.readers()),
    },
    "train": {
        "train_fp64_vs_eager",
        "train_fp32_vs_eager",
        "fp64_per_cpu_s",
        "fp32_per_cpu_s",
        "eager_fp64_per_cpu_s",
        "dgemm_share",
        "compile_cpu_s",
        "predict_fp64_vs_eager",
        "void",
    },
    "dynamics": {f"painn_{what}_{unit}" for what in ("molecule", "crystal") for unit in ("mev_per_atom", "kelvin")},
}


@pytest.mark.parametrize("name", PROMISED)
def test_the_last_line_is_one_json_object_of_finite_figures(name: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", f"bench.{name}", "--small"],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    assert PROMISED[name] <= figures.keys()
    assert figures.pop("small") is True
    counts = {name: figures.pop(name) for name in ("duplicated", "lost") if name in figures}
    assert not any(counts.values()), counts
    numbers = [value for value in figures.values() if not isinstance(value, str)]
    assert all(math.isfinite(value) and value > 0 for value in numbers), figures
    assert not list(tmp_path.glob("bench-*")), "its temporary folder is left behind"


@pytest.mark.slow
def test_a_json_of_a_gigabyte_is_read_in_half_of_that(tmp_path: Path) -> None:
    assert 50 < conversion.mptrj_peak_mb(tmp_path, conversion.JSON_BYTES) < 500


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_a_figure_that_is_none_is_not_reported(value: float, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="speed"):
        timing.finish({"speed": value}, small=False)
    assert not capsys.readouterr().out


def test_arms_take_turns_after_one_untimed_call() -> None:
    calls: list[tuple[str, int]] = []
    arms = {name: (lambda k, name=name: calls.append((name, k))) for name in ("a", "b")}
    seconds = timing.take_turns(arms, 2)
    assert calls == [("a", -1), ("b", -1), ("a", 0), ("b", 0), ("b", 1), ("a", 1)]
    assert {name: len(each) for name, each in seconds.items()} == {"a": 2, "b": 2}


def test_a_ratio_is_the_median_of_the_rounds() -> None:
    assert timing.ratio([1.0, 1.0, 2.0], [2.0, 30.0, 2.0]) == 2.0
    assert timing.rate(10, [1.0, 2.0, 5.0]) == 5.0
