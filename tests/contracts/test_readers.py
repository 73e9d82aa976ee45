"""Every reader keeps one contract; a reader in `model/data/readers` is found, and must have a fixture in `sources`."""

from __future__ import annotations

import importlib
import inspect
import itertools
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, get_args, get_origin

import numpy as np
import pytest

from model import registry
from model.data.readers import base
from model.data.structure import UNLABELLED, Structure
from model.data.validation import fault
from model.outcome import CampaignError

READERS = registry.readers()
IN_HARTREE = [name for name in READERS if hasattr(registry.reader(name), "HARTREE_EV")]


@pytest.fixture(params=READERS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def reader(name: str) -> Any:
    return registry.reader(name)


@pytest.fixture
def source(name: str) -> ModuleType:
    return importlib.import_module(f"tests.contracts.sources.{name}")


def config_of(reader: Any, source: ModuleType) -> Any:
    return reader.Config(**source.OPTIONS)


def companions(source: ModuleType) -> tuple[str, ...]:
    return getattr(source, "COMPANIONS", ())


def assert_expected(found: list[Structure], expected: list[dict[str, Any]]) -> None:
    assert [s.id for s in found] == [e["id"] for e in expected]
    for s, e in zip(found, expected, strict=True):
        assert s.numbers.tolist() == e["numbers"]
        assert s.positions == pytest.approx(np.array(e["positions"], float), abs=1e-7)  # ASE writes extended XYZ to 8 decimals
        assert s.cell == pytest.approx(np.array(e.get("cell", np.zeros((3, 3))), float), rel=1e-9, abs=1e-12)
        assert s.pbc.tolist() == e.get("pbc", [False] * 3)
        assert s.energy == pytest.approx(np.nan if e["energy"] is None else e["energy"], rel=1e-12, nan_ok=True)
        for label in ("forces", "stress"):
            value, wanted = getattr(s, label), e.get(label)
            assert (value is None) == (wanted is None)
            assert value is None or value == pytest.approx(np.array(wanted, float), rel=1e-9, abs=1e-12)
        assert s.target == pytest.approx(e.get("target", np.nan), rel=1e-12, nan_ok=True)
        assert (s.charge, s.spin) == (e.get("charge", UNLABELLED), e.get("spin", UNLABELLED))
        assert s.identity.startswith(e["identity"])


def test_the_source_is_described(reader: Any) -> None:
    info = reader.INFO
    assert isinstance(info, base.SourceInfo)
    assert info.title and info.licence and info.citation
    assert info.energy_kind in get_args(base.EnergyKind)
    assert info.role in get_args(base.Role)
    is_published = info.role != "container"
    assert bool(info.level_of_theory) == bool(info.url) == bool(info.pitfalls) == is_published
    is_counted = is_published and not info.pitfalls[0].startswith("No count")  # where nobody published one, it is said
    assert (info.count is not None) == is_counted
    assert info.count is None or info.count > 100
    assert info.mean_atoms is None or 1 < info.mean_atoms < 1000
    assert (info.target is not None) == (info.role == "finetuning")
    label = "target" if info.target in ("scalar", "class") else "energy"
    assert {label, "length"} <= info.units.keys() <= {"energy", "forces", "stress", "length", "target"}
    assert info.role != "pretraining" or "forces" in info.units
    assert (info.energy_kind == "none") == (info.target in ("scalar", "class"))
    assert bool(info.target_unit) == (info.target == "scalar")
    assert all(pitfall.endswith(".") for pitfall in info.pitfalls)


def test_every_option_is_described(reader: Any) -> None:
    for field, about in reader.Config.model_fields.items():
        assert about.description, f"option {field}"
    reader.Config()  # a source as published needs no option


# What readers are known to offer: other options may move labels too, and are then held to the same.
MOVING = {
    "alexandria": {"target"},
    "ase_db": {"energy_unit"},
    "extxyz": {"energy_unit"},
    "mptrj": {"energy"},
    "oc20": {"energy"},
    "qcml": {"energy"},
    "qm7x": {"labels"},
    "qm9": {"target"},
    "wiggle150": {"energy"},
}


def choices(reader: Any) -> dict[str, tuple[Any, ...]]:
    """Return the values that each option may have, of those options that have a few."""
    found: dict[str, tuple[Any, ...]] = {}
    for option, field in reader.Config.model_fields.items():
        known = [field.annotation, *get_args(field.annotation)]
        values = [value for each in known if get_origin(each) is Literal for value in get_args(each)]
        values += [None] if type(None) in known else []
        values += [False, True] if field.annotation is bool else []
        found[option] = tuple(values)
    return {option: values for option, values in found.items() if values}


def labels_of(reader: Any, config: Any, path: Path) -> dict[str, list[Any]]:
    found = [each for each in reader.read(path, config) if isinstance(each, Structure)]
    return {s.id: [None if v is None else np.asarray(v) for v in (s.energy, s.forces, s.stress, s.target)] for s in found}


def differ(one: dict[str, list[Any]], other: dict[str, list[Any]]) -> bool:
    pairs = [(a, b) for each in one.keys() & other.keys() for a, b in zip(one[each], other[each], strict=True)]
    return any((a is None) != (b is None) or (a is not None and not np.array_equal(a, b, equal_nan=True)) for a, b in pairs)


def test_an_option_that_moves_labels_moves_the_facts(name: str, reader: Any, source: ModuleType, tmp_path: Path) -> None:
    """A store that says formation energies of totals, or the level of other labels, would be trained as what it is not."""
    source.write(tmp_path / source.FILE)
    moved = set()
    for option, values in choices(reader).items():
        configs = [reader.Config(**{**source.OPTIONS, option: value}) for value in values]
        labels = [labels_of(reader, config, tmp_path / source.FILE) for config in configs]
        for (a, of_a), (b, of_b) in itertools.combinations(zip(configs, labels, strict=True), 2):
            if differ(of_a, of_b):
                moved.add(option)
                assert base.info_of(reader, a) != base.info_of(reader, b), (option, a, b)
    assert moved >= MOVING.get(name, set())


def test_the_level_of_theory_is_the_one_that_is_given(reader: Any) -> None:
    if "level_of_theory" in reader.Config.model_fields:
        assert base.info_of(reader, reader.Config(level_of_theory="GFN2-xTB")).level_of_theory == "GFN2-xTB"
        assert base.info_of(reader, reader.Config()) == reader.INFO


def test_what_energies_are_is_said_of_the_options() -> None:
    def kind(name: str, **options: Any) -> tuple[str, bool]:
        reader = registry.reader(name)
        about = base.info_of(reader, reader.Config(**options))
        return about.energy_kind, about.is_absolute

    assert [kind("qcml"), kind("qcml", energy="total")] == [("formation", False), ("total", True)]
    assert [kind("wiggle150"), kind("wiggle150", energy="total")] == [("relative", False), ("total", True)]
    assert [kind("qm9"), kind("qm9", target="U0_atom"), kind("qm9", target="gap")] == [
        ("total", True),
        ("formation", False),
        ("none", False),
    ]
    reader = registry.reader("qm7x")
    assert base.info_of(reader, reader.Config(labels="pbe0")).level_of_theory.startswith("PBE0 (")


def test_the_module_says_its_business(reader: Any) -> None:
    assert reader.__doc__
    for function in (reader.files, reader.count, reader.read):
        assert function.__doc__


def test_values_and_units(reader: Any, source: ModuleType, tmp_path: Path) -> None:
    source.write(tmp_path / source.FILE)
    config = config_of(reader, source)
    assert reader.files([tmp_path], config) == [tmp_path / source.FILE]
    found = list(reader.read(tmp_path / source.FILE, config))
    assert_expected(found, source.EXPECTED)
    assert reader.count(tmp_path / source.FILE, config) == len(source.EXPECTED)
    for s in found:
        assert fault(s, **base.info_of(reader, config).checks) is None
        assert (s.numbers.dtype, s.positions.dtype, s.cell.dtype, s.pbc.dtype) == (np.uint8, np.float64, np.float64, bool)
        assert isinstance(s.energy, float)


def test_a_slipped_unit_is_caught(reader: Any, source: ModuleType, tmp_path: Path) -> None:
    source.write(tmp_path / source.FILE, 1 + 1e-6)
    with pytest.raises(AssertionError):
        assert_expected(list(reader.read(tmp_path / source.FILE, config_of(reader, source))), source.EXPECTED)


@pytest.mark.parametrize("name", IN_HARTREE)
@pytest.mark.parametrize("hartree", [27.2114079527, 27.2114, 27.211386024367243, 1.0])
def test_another_hartree_is_caught(name: str, hartree: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Values seen in public readers, and CODATA 2014; 8e-7 off is 12 meV for a molecule of 560 Hartree."""
    reader, source = registry.reader(name), importlib.import_module(f"tests.contracts.sources.{name}")
    source.write(tmp_path / source.FILE)
    monkeypatch.setattr(reader, "HARTREE_EV", hartree)
    with pytest.raises(AssertionError):
        assert_expected(list(reader.read(tmp_path / source.FILE, reader.Config())), source.EXPECTED)


def test_any_span_is_a_slice(reader: Any, source: ModuleType, tmp_path: Path) -> None:
    source.write(tmp_path / source.FILE)
    config, count = config_of(reader, source), len(source.EXPECTED)
    for start in range(count + 1):
        for stop in range(start, count + 1):
            span = [s.id for s in reader.read(tmp_path / source.FILE, config, range(start, stop))]
            assert span == [e["id"] for e in source.EXPECTED[start:stop]]


def test_records_come_one_by_one(reader: Any, source: ModuleType, tmp_path: Path) -> None:
    source.write(tmp_path / source.FILE)
    records = reader.read(tmp_path / source.FILE, config_of(reader, source))
    assert inspect.isgenerator(records)
    assert next(records).id == source.EXPECTED[0]["id"]
    records.close()


def test_a_damaged_file_is_named(name: str, source: ModuleType, tmp_path: Path) -> None:
    """Cut short anywhere, or of another kind; a library that maps a short file into memory may kill the process."""
    source.write(tmp_path / source.FILE)
    whole = (tmp_path / source.FILE).read_bytes()
    damaged = {f"cut to {keep}": whole[: int(len(whole) * keep)] for keep in (0.98, 0.5, 0.1)}
    damaged["noise"] = np.random.default_rng(0).bytes(20_000)
    if name != "extxyz":  # an empty text file is a file of no frames
        damaged["empty"] = b""
    for folder, data in damaged.items():
        (tmp_path / folder).mkdir()
        for companion in companions(source):
            shutil.copy(tmp_path / companion, tmp_path / folder)
        (tmp_path / folder / source.FILE).write_bytes(data)
    paths = [tmp_path / folder / source.FILE for folder in damaged]
    assert errors_of(name, paths, source.OPTIONS) == [str(path) for path in paths]
    assert [path.read_bytes() for path in paths] == list(damaged.values()), "reading must not write"


def test_frames_after_a_blank_line_are_not_lost_in_silence(tmp_path: Path) -> None:
    frame = "1\nenergy=-1.0\nCu 0.0 0.0 0.0\n"
    extxyz = registry.reader("extxyz")
    (tmp_path / "ends.xyz").write_text(2 * frame + "\n  \n")
    (tmp_path / "torn.xyz").write_text(frame + "\n" + frame)
    config = extxyz.Config()
    assert extxyz.count(tmp_path / "ends.xyz", config) == len(list(extxyz.read(tmp_path / "ends.xyz", config))) == 2
    with pytest.raises(CampaignError, match="torn.xyz.*blank line between frames"):
        extxyz.count(tmp_path / "torn.xyz", config)


def test_a_missing_path_is_named(reader: Any, tmp_path: Path) -> None:
    with pytest.raises(CampaignError, match="no such file"):
        reader.files([tmp_path / "nowhere"], reader.Config())
    with pytest.raises(CampaignError, match="no file that ends in"):
        reader.files([tmp_path], reader.Config())


def test_reading_writes_nothing(reader: Any, source: ModuleType, tmp_path: Path) -> None:
    source.write(tmp_path / source.FILE)
    published = {source.FILE, *companions(source)}
    for extra in tmp_path.iterdir():
        if extra.name not in published:
            extra.unlink()
    before = (tmp_path / source.FILE).read_bytes()
    list(reader.read(tmp_path / source.FILE, config_of(reader, source)))
    assert {p.name for p in tmp_path.iterdir()} == published
    assert (tmp_path / source.FILE).read_bytes() == before


def test_options_are_known_without_the_file_libraries() -> None:
    """A login node checks a campaign's readers without the `model` extra."""
    barred = "import sys; sys.modules.update(dict.fromkeys(['ase', 'h5py', 'ijson', 'lmdb', 'torch', 'adios2', 'vesin']))"
    code = f"{barred}\nfrom model import registry\nfor name in registry.readers(): registry.reader(name).Config()"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2], timeout=60)


def errors_of(name: str, paths: list[Path], options: dict[str, object]) -> list[str]:
    """Return where each damaged file's CampaignError points, found in a process of its own."""
    code = f"""
from pathlib import Path
from model import registry
from model.outcome import CampaignError
reader = registry.reader({name!r})
config = reader.Config(**{options!r})
for path in map(Path, {[str(path) for path in paths]!r}):
    try:
        reader.count(path, config)
        list(reader.read(path, config))
        print("no error")
    except CampaignError as error:
        print(error.where)
"""
    command = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2], timeout=60)
    assert done.returncode == 0, f"ended with {done.returncode}: {done.stderr[-500:]}"
    return done.stdout.splitlines()
