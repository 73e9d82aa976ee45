"""kill -9 at any moment, then resume: the final tensors and state are those of the uninterrupted run, bit for bit."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import training_runs as runs
from stores import emt_store

from model import checkpoint
from model.outcome import Cause, Status


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("stores")
    names = {"copper": ("Cu", "Ni"), "alloy": ("Al", "Cu")}
    return {n: emt_store(folder, n, elements, 30, seed=k) for k, (n, elements) in enumerate(names.items())}


def resume(folder: Path) -> str | None:
    """Return the checkpoint to go on from, if the run got that far."""
    last = folder / "checkpoints" / "last"
    return str(last) if (last / "meta.json").exists() else None


def kill_within(process, folder: Path, epoch: int) -> None:
    """Kill all ranks and their launcher once a checkpoint stands that was written within an epoch."""
    deadline = time.monotonic() + 60
    while not is_within(folder, epoch) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(30)


def is_within(folder: Path, epoch: int) -> bool:
    standing = runs.standing(folder) if resume(folder) else {"epoch": 0, "step": 0}
    return (standing["epoch"], standing["step"] > 0) == (epoch, True)


def require_same(expected: Path, found: Path) -> None:
    mine, theirs = runs.tensors(expected), runs.tensors(found)
    assert mine.keys() == theirs.keys()
    assert [name for name in mine if not torch.equal(mine[name], theirs[name])] == []
    assert runs.standing(expected) == runs.standing(found)
    best = [(f / "checkpoints" / "best" / "meta.json").exists() for f in (expected, found)]
    assert best == [True, True]


def second_file_of_the_second_checkpoint(before: Path, layout: dict[str, list[int]]) -> int:
    """Return the number of that rename on rank 0, which first copies the best checkpoint there is and writes `meta.json` last."""
    groups = 1 + sum(held[0] == 0 for held in layout.values())
    best = len(layout) + 2 if (before / "checkpoints" / "best" / "meta.json").exists() else 0
    return best + groups + 1 + 2


def unnamed(folder: Path) -> set[str]:
    """Return the groups' files in a checkpoint's folder that its `meta.json` does not name."""
    files = checkpoint.read_meta(folder).files.values() if (folder / "meta.json").exists() else ()
    return {path.name for path in folder.glob("*.pt") if not path.name.startswith(".")} - {each["file"] for each in files}


RANKS = [
    *((1, {}), (2, {}), (3, {"layout": "branch"}), (4, {"batch": {"edges": 200}})),
    pytest.param(2, {"shard": True, "micro_batch": 2}, marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("ranks", "changes"), RANKS)
def test_killed_runs_end_bit_for_bit_as_the_uninterrupted_one(
    stores: dict[str, Path], tmp_path: Path, ranks: int, changes: dict[str, Any]
) -> None:
    fields = runs.config(stores, epochs=3, checkpoint_every_s=0.001, **changes)
    outcome = runs.run(tmp_path / "plain", fields, ranks)
    assert outcome.status is Status.DONE
    total = len(runs.steps(tmp_path / "plain"))

    epoch = random.Random(ranks).randrange(2)
    process = runs.start(tmp_path / "kill0", fields, ranks)
    kill_within(process, tmp_path / "kill0", epoch)
    assert is_within(tmp_path / "kill0", epoch), "killed in the middle of an epoch"

    kill_at = second_file_of_the_second_checkpoint(tmp_path / "kill0", outcome.result["layout"])
    process = runs.start(tmp_path / "kill1", fields | {"resume": resume(tmp_path / "kill0")}, ranks, kill_at=kill_at)
    assert process.wait(60) != 0
    assert not (tmp_path / "kill1" / "outcome.json").exists()
    assert any(map(unnamed, (tmp_path / "kill1" / "checkpoints").iterdir())), "killed between two files of a checkpoint"

    before = resume(tmp_path / "kill1") or resume(tmp_path / "kill0")
    outcome = runs.run(tmp_path / "end", fields | {"resume": before}, ranks)
    assert outcome.status is Status.DONE, outcome
    assert "not bit-identical" not in outcome.message
    require_same(tmp_path / "plain", tmp_path / "end")

    executed = [runs.steps(tmp_path / name) for name in ("kill0", "kill1", "end")]
    assert {step for steps in executed for step in steps} == set(range(total))
    # With a checkpoint before each step, one kill repeats one step at most (and what a kill within the first checkpoint loses).
    assert sum(map(len, executed)) <= total + 2 * 2


@pytest.fixture(scope="module")
def plain(stores: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The uninterrupted run; its epochs commit 8 files each: 3 groups and `meta.json` of `best`, then of `last`."""
    folder = tmp_path_factory.mktemp("plain") / "run"
    assert runs.run(folder, runs.config(stores), 1).status is Status.DONE
    return folder


@pytest.mark.parametrize("kill_at", [2, 6, 12])
def test_a_kill_between_two_files_of_a_checkpoint_leaves_the_old_one(
    stores: dict[str, Path], plain: Path, tmp_path: Path, kill_at: int
) -> None:
    fields = runs.config(stores)
    assert runs.start(tmp_path / "kill", fields, 1, kill_at=kill_at).wait(60) != 0
    assert not (tmp_path / "kill" / "outcome.json").exists()
    assert (resume(tmp_path / "kill") is not None) == (kill_at > 8)
    outcome = runs.run(tmp_path / "end", fields | {"resume": resume(tmp_path / "kill")}, 1)
    assert outcome.status is Status.DONE, outcome
    require_same(plain, tmp_path / "end")


def test_a_stop_file_ends_with_a_checkpoint_that_resumes(stores: dict[str, Path], plain: Path, tmp_path: Path) -> None:
    fields = runs.config(stores) | {"stop": str(tmp_path / "stop")}
    (tmp_path / "stop").touch()
    outcome = runs.run(tmp_path / "half", fields, 1)
    assert (outcome.status, outcome.cause) == (Status.PARTIAL, None)
    assert outcome.outputs["last"] == "checkpoints/last"
    (tmp_path / "stop").unlink()
    outcome = runs.run(tmp_path / "end", fields | {"resume": resume(tmp_path / "half")}, 1)
    assert outcome.status is Status.DONE
    require_same(plain, tmp_path / "end")


def test_divergence_is_told_by_all_ranks_with_the_structures(stores: dict[str, Path], tmp_path: Path) -> None:
    hot = {"learning_rate": 1e200, "warmup_steps": 0}
    outcome = runs.run(tmp_path / "run", runs.config(stores, optimizer=hot), 2)
    assert (outcome.status, outcome.cause) == (Status.FAILED, Cause.DIVERGED)
    assert "copper/" in outcome.message
    assert outcome.world_size == 2


def test_a_task_that_needs_more_memory_than_it_has_ends_as_oom(stores: dict[str, Path], tmp_path: Path) -> None:
    wide = {"backbone": {"name": "painn", "layers": 3, "hidden": 1500}, "cutoff": 4.0}
    outcome = runs.run(tmp_path / "run", runs.config(stores, model=wide, memory_gb=0.7), 2)
    assert (outcome.status, outcome.cause) == (Status.FAILED, Cause.OOM), outcome


def test_resuming_other_data_or_options_is_refused_by_name(stores: dict[str, Path], plain: Path, tmp_path: Path) -> None:
    fields = runs.config(stores, batch=8, resume=str(plain / "checkpoints" / "last"))
    outcome = runs.run(tmp_path / "batch", fields, 1)
    assert outcome.cause is Cause.BAD_CONFIG
    assert "batch is 8, in the checkpoint it was 7" in outcome.message
    swapped = dict(zip(stores, reversed(stores.values()), strict=True))
    outcome = runs.run(tmp_path / "data", runs.config(swapped, resume=str(plain / "checkpoints" / "last")), 1)
    assert outcome.cause is Cause.BAD_CONFIG
    assert "has other data" in outcome.message


def test_a_training_from_other_weights_keeps_its_scales_when_it_resumes(
    stores: dict[str, Path], plain: Path, tmp_path: Path
) -> None:
    alone = runs.config({"alloy": stores["alloy"]}, init=str(plain / "checkpoints" / "best"))
    assert runs.run(tmp_path / "whole", alone, 1).status is Status.DONE
    (tmp_path / "stop").touch()
    assert runs.run(tmp_path / "half", alone | {"stop": str(tmp_path / "stop")}, 1).status is Status.PARTIAL
    runs.run(tmp_path / "end", alone | {"init": None, "resume": resume(tmp_path / "half")}, 1)
    kept = [checkpoint.read_meta(f / "checkpoints" / "last").statistics for f in (plain, tmp_path / "whole", tmp_path / "end")]
    assert kept[1] == kept[2]
    assert kept[2].average_neighbors == kept[0].average_neighbors
    require_same(tmp_path / "whole", tmp_path / "end")


def test_branches_in_another_order_are_not_the_same_training(stores: dict[str, Path], plain: Path, tmp_path: Path) -> None:
    fields = runs.config(stores, resume=str(plain / "checkpoints" / "last"))
    fields["branches"] = dict(reversed(fields["branches"].items()))
    outcome = runs.run(tmp_path / "run", fields, 1)
    assert outcome.cause is Cause.BAD_CONFIG
    assert "another order than in the checkpoint (copper, alloy)" in outcome.message
