"""What of a task stands in training splits: nothing by identity unless its own division parts what the branches keep together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule

from model.config import ConvertConfig, LeakageConfig
from model.data import convert
from model.data import leakage as module
from model.data.division import divide, each_fold
from model.data.leakage import compositions, leakage
from model.data.part import outlines
from model.data.shard import read_names, read_shard, write_shard
from model.data.splits import TEST, TRAIN, split
from model.data.store import Store
from model.parallel import Ranks
from model.specs import Division, Splits, Storage
from tests.contracts.sources import transition1x
from tests.structures import random_block, store_of
from workflow.report.facts import StageFacts
from workflow.report.leaked import leakage_tables
from workflow.report.status import StageStatus

SPLITS = Splits(seed=3, validation=0.2, test=0.3)
NAMES = ["H2O", "CH4", "CH3OH", "C6H6", "NH3", "C2H6", "C2H4", "CH3CN", "HCN", "N2H4", "H3CNH2", "C2H2"]


def conformers(names: list[str], count: int = 3) -> list[Atoms]:
    made = []
    for k in range(count * len(names)):
        atoms = molecule(names[k % len(names)])
        atoms.rattle(0.02, seed=k)
        made.append(atoms)
    return made


@pytest.fixture
def stores(tmp_path: Path) -> dict[str, Store]:
    """A branch of all molecules, a task of some, and the same task divided by frame."""
    made = {"branch": conformers(NAMES, 4), "task": conformers(NAMES[:8])}
    by_molecule = {name: store_of(tmp_path / name, frames, name=name, splits=SPLITS, shard=10) for name, frames in made.items()}
    frames = conformers(NAMES[:8])
    for k, atoms in enumerate(frames):
        atoms.info["frame"] = f"frame {k}"
    framed = store_of(tmp_path / "framed", frames, name="framed", splits=SPLITS, identity="frame")
    return {**by_molecule, "framed": framed}


def test_no_test_identity_of_a_task_is_a_training_identity(stores: dict[str, Store]) -> None:
    (found,) = leakage(stores["task"], {"branch": stores["branch"]}, SPLITS, Ranks())["divisions"]
    assert sum(found["structures"].values()) == 24
    assert min(found["structures"]["test"], found["structures"]["train"]) > 0
    of_branch = found["branches"]["branch"]
    assert (of_branch["identity"]["test"], of_branch["identity"]["validation"]) == (0, 0)
    assert of_branch["identity"]["train"] == found["structures"]["train"]  # all of these molecules are in the branch
    assert found["branches"]["itself"]["identity"]["test"] == 0


def test_another_seed_would_leak(stores: dict[str, Store]) -> None:
    """The table is no tautology: a branch divided by another seed holds test molecules of the task."""
    task = stores["task"].load()
    tested = set(task.identity[split(task.identity, SPLITS) == TEST].tolist())
    other = next(Splits(seed=s, validation=0.2, test=0.3) for s in range(4, 99) if _leaks(stores["branch"], tested, s))
    keys = module._held(stores["branch"], {"identity": task.identity, "composition": task.identity}, other, Ranks(), None)
    assert tested & set(keys["identity"].tolist())


def test_what_no_count_by_identity_shows_is_told_beside_the_table(stores: dict[str, Store], tmp_path: Path) -> None:
    """Frames of a reaction have its reactant's identity: its product, a molecule of the task, does not count."""
    (tmp_path / "paths").mkdir()
    transition1x.write(tmp_path / "paths" / transition1x.FILE)
    about = {"name": "paths", "reader": {"name": "transition1x"}, "sources": (tmp_path / "paths",), "store": "store"}
    convert.run(ConvertConfig(**about, splits=SPLITS), tmp_path / "paths", Ranks())
    against = {"paths": Store.open(tmp_path / "paths" / "store"), "branch": stores["branch"]}
    found = leakage(stores["task"], against, SPLITS, Ranks())
    assert set(found["unseen"]) == {"paths"} and "products" in found["unseen"]["paths"]
    status = StageStatus(key="tune", kind="finetune", state="done", needs=())
    told = leakage_tables(StageFacts(status=status, result={"leakage": {"task": found}}))[-1]
    assert told.rows == (("paths", found["unseen"]["paths"]),)


def _leaks(store: Store, tested: set[int], seed: int) -> bool:
    identity = store.load().identity
    return bool(tested & set(identity[split(identity, Splits(seed=seed, validation=0.2, test=0.3)) == TRAIN].tolist()))


def test_frames_of_known_molecules_are_told_by_their_composition(stores: dict[str, Store]) -> None:
    (found,) = leakage(stores["framed"], {"branch": stores["branch"]}, SPLITS, Ranks())["divisions"]
    assert found["branches"]["branch"]["identity"] == {"train": 0, "validation": 0, "test": 0}
    assert found["branches"]["branch"]["composition"]["test"] > 0
    assert found["branches"]["itself"]["identity"]["test"] == 0 < found["branches"]["itself"]["composition"]["test"]


def test_a_composition_is_a_reduced_formula() -> None:
    numbers = np.array([1, 1, 8, 8, 1, 1, 1, 1, 8, 1, 8, 1, 6], np.uint8)
    water, two, peroxide, other = compositions(numbers, np.array([0, 3, 9, 11, 13])).tolist()
    assert water == two and len({water, peroxide, other}) == 3


@pytest.mark.parametrize("compression", ["none", "deflate"])
def test_names_are_those_of_the_block(compression: str, tmp_path: Path) -> None:
    write_shard(tmp_path / "a.bp", random_block(30), {}, Storage(compression=compression))
    names, block = read_names(tmp_path / "a.bp", 4, 21), read_shard(tmp_path / "a.bp", 4, 21)
    assert np.array_equal(names.offsets, block.offsets) and np.array_equal(names.numbers, block.numbers)
    assert np.array_equal(names.identity, block.identity)


def test_the_command_and_the_report_tell_it(stores: dict[str, Store], tmp_path: Path) -> None:
    config = LeakageConfig(task=stores["framed"].folder, against={"branch": stores["branch"].folder}, splits=SPLITS)
    result = module.run(config, tmp_path, Ranks()).result
    assert result == leakage(stores["framed"], {"branch": stores["branch"]}, SPLITS, Ranks())
    status = StageStatus(key="tune", kind="finetune", state="done", needs=())
    (table,) = leakage_tables(StageFacts(status=status, result={"leakage": {"framed": result}}))
    rows = {row[0]: dict(zip(table.columns, row, strict=True)) for row in table.rows}
    (only,) = result["divisions"]
    tested = only["structures"]["test"]
    assert rows["branch"][">test, same identity"] == f"0 of {tested} structures"
    held = only["branches"]["itself"]["composition"]["test"]
    assert rows["framed itself"][">test, same composition"] == f"{held} of {tested} structures"


@pytest.mark.parametrize("by", ["row", "identity"])
def test_folds_test_what_branches_have_trained_on(by: str, stores: dict[str, Store]) -> None:
    """Each fold counted again, structure by structure, from the rules themselves."""
    division = Division(by=by, folds=4, fold=2)
    found = leakage(stores["task"], {"branch": stores["branch"]}, SPLITS, Ranks(), division=division)
    branch = stores["branch"].load().identity
    trained, task = set(branch[split(branch, SPLITS) == TRAIN].tolist()), outlines(stores["task"])
    parts = [divide(task, SPLITS, each) for each in each_fold(division)]
    for one, part in zip(found["divisions"], parts, strict=True):
        held = [identity in trained for identity in task.identity[part == TEST].tolist()]
        assert one["structures"]["test"] == len(held) and one["branches"]["branch"]["identity"]["test"] == sum(held)
        own = set(task.identity[part == TRAIN].tolist())
        within = sum(identity in own for identity in task.identity[part == TEST].tolist())
        assert one["branches"]["itself"]["identity"]["test"] == within
    counts = [one["branches"]["branch"]["identity"]["test"] for one in found["divisions"]]
    assert sum(counts) == sum(identity in trained for identity in task.identity.tolist()) > 0
    assert all(one["branches"]["itself"]["identity"]["test"] == 0 for one in found["divisions"]) == (by == "identity")
    status = StageStatus(key="tune", kind="finetune", state="done", needs=())
    (table,) = leakage_tables(StageFacts(status=status, result={"leakage": {"task": found}}))
    cell = dict(zip(table.columns, table.rows[0], strict=True))[">test, same identity"]
    low, high = min(counts), max(counts)
    assert cell == f"{low}–{high} of 6 structures, mean {sum(counts) / 4:g}" and table.caption.endswith("over all 4 folds")


def test_published_parts_test_what_branches_have_trained_on(tmp_path: Path, stores: dict[str, Store]) -> None:
    frames = conformers(NAMES, 2)
    for k, atoms in enumerate(frames):
        atoms.info["key"] = f"HEA/{('train', 'val', 'test')[k % 3]}/{k}"
    task = store_of(tmp_path / "parts", frames, name="parts", splits=SPLITS, id="key")
    (found,) = leakage(task, {"branch": stores["branch"]}, SPLITS, Ranks(), division=Division(by="part"))["divisions"]
    assert found["structures"] == {"train": 8, "validation": 8, "test": 8}
    block, branch = task.load(), stores["branch"].load().identity
    trained = branch[split(branch, SPLITS) == TRAIN]
    expected = int(np.isin(block.identity[np.char.find(block.raw_ids, b"/test/") >= 0], trained).sum())
    assert found["branches"]["branch"]["identity"]["test"] == expected > 0
