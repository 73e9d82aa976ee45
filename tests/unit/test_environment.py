"""The packed environment: what is in it, what is left out, that it fits, and that a node gets it whole or not at all."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from workflow import environment
from workflow.allocation.unpacking import environment_folder, unpack
from workflow.check import check_campaign
from workflow.environment import build, closure, packed, read_archive
from workflow.errors import ConfigError, SiteError, StageError
from workflow.receipt import Output
from workflow.site import load_site


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pack what click needs only; the whole takes half a minute."""
    monkeypatch.setattr(environment, "closure", lambda _: closure("pydantic"))


def test_the_closure_follows_extras_and_markers() -> None:
    names = {each.name.lower() for each in closure("campaign[model]")[0]}
    assert {"campaign", "torch", "numpy", "adios2", "click"} <= names
    assert not {"pytest", "mkdocs-material", "colorama"} & names


def test_what_is_not_installed_is_said() -> None:
    with pytest.raises(ConfigError, match="'no-such-package' is not installed"):
        closure("no-such-package")


def test_an_archive_runs_from_where_it_is_unpacked(small: None, tmp_path: Path) -> None:
    archive = build(tmp_path / "out", None)
    assert {"pydantic", "pydantic_core", "typing_extensions"} <= set(archive.packages)
    assert "the interpreter" in archive.left_out[0]
    target = Path(environment_folder(str(tmp_path / "n" / "{node}")))
    assert unpack(packed(Path(archive.path)), target)
    assert not unpack(packed(Path(archive.path)), target)  # it stands there
    code = "import pydantic, workflow.errors as e, workflow; print(pydantic.__file__, workflow.__file__)"
    run = subprocess.run(
        [sys.executable, "-S", "-c", code], env={"PYTHONPATH": str(target)}, capture_output=True, text=True, cwd=tmp_path
    )
    assert run.stdout.count(str(target)) == 2, run.stderr


def test_the_same_environment_gives_the_same_bytes(small: None, tmp_path: Path) -> None:
    assert build(tmp_path / "a", None).sha256 == build(tmp_path / "b", None).sha256


def test_modules_that_are_not_loaded_are_named(small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOADEDMODULES", "rocm/7.1.1:other/1")
    said = "\n".join(build(tmp_path, load_site("frontier")).left_out)
    assert "module rccl-net-plugin/1.0 of frontier is not loaded here" in said and "module rocm" not in said


def test_a_module_of_another_version_is_named(small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was compiled with ROCm 6 does not run with ROCm 7."""
    monkeypatch.setenv("LOADEDMODULES", "rocm/6.4.1:cpe/26.03")
    said = "\n".join(build(tmp_path, load_site("frontier")).left_out)
    assert "module rocm/7.1.1 of frontier: rocm/6.4.1 is loaded here" in said and "module cpe" not in said
    monkeypatch.setenv("LOADEDMODULES", "nccl/2.24:conda/Miniforge3-24.11.3-0")
    assert "module" not in "\n".join(build(tmp_path / "p", load_site("perlmutter")).left_out), (
        "a module without a version takes any"
    )


@pytest.mark.parametrize(("key", "word"), [("python", "Python"), ("machine", "machine"), ("sources", "version of this program")])
def test_an_archive_of_another_world_is_refused(small: None, tmp_path: Path, key: str, word: str) -> None:
    archive = build(tmp_path, None)
    facts = next(tmp_path.glob("*.json"))
    facts.write_text(json.dumps({**json.loads(facts.read_text()), key: "other"}))
    with pytest.raises(SiteError, match=f"another {word}"):
        read_archive(Path(archive.path))


def test_no_archive_is_told(tmp_path: Path) -> None:
    with pytest.raises(SiteError, match="no packed environment") as error:
        packed(tmp_path / "gone.tar.gz")
    assert "campaign env build" in error.value.remedy


def test_facts_that_are_none_are_told(tmp_path: Path) -> None:
    (tmp_path / "x.tar.gz").write_text("junk")
    for text in ("[]", '{"path": 1}'):
        (tmp_path / "x.json").write_text(text)
        with pytest.raises(SiteError, match="not the facts of a packed environment"):
            packed(tmp_path / "x.tar.gz")
    with pytest.raises(SiteError, match="not a whole path"):
        packed(Path("x.tar.gz"))


def test_a_check_tells_of_an_archive_before_a_job_does(small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = Path(build(tmp_path / "out", None).path)
    (tmp_path / "campaign" / "sites").mkdir(parents=True)
    (tmp_path / "campaign" / "sites" / "local.yaml").write_text(f"archive: {archive}\n")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "c.yaml").write_text("name: c\nsources: {a: {reader: extxyz, path: a.xyz}}\nstages: {data: {kind: convert}}\n")

    def told() -> list[str]:
        return [str(each) for each in check_campaign(tmp_path / "c.yaml", models=False).problems if archive.name in str(each)]

    assert told() == []
    archive.write_bytes(archive.read_bytes()[:-100])
    assert len(told()) == 1 and "that were built" in told()[0]
    archive.unlink()
    assert len(told()) == 1 and "no packed environment" in told()[0]
    assert any(
        "packed environment" in each for each in check_campaign(tmp_path / "c.yaml", elsewhere=True, models=False).unchecked
    )


def test_a_damaged_archive_leaves_nothing_behind(small: None, tmp_path: Path) -> None:
    archive = build(tmp_path / "out", None)
    Path(archive.path).write_bytes(Path(archive.path).read_bytes()[:-100])
    with pytest.raises(StageError, match="not the one that was built"):
        unpack(packed(Path(archive.path)), tmp_path / "node" / "env")
    assert list((tmp_path / "node").iterdir()) == []


def test_an_archive_cannot_write_outside_its_folder(tmp_path: Path) -> None:
    (tmp_path / "evil").write_text("x")
    with tarfile.open(tmp_path / "evil.tar.gz", "w:gz") as tar:
        tar.add(tmp_path / "evil", arcname="../../escaped")
    data = (tmp_path / "evil.tar.gz").read_bytes()
    output = Output("environment", str(tmp_path / "evil.tar.gz"), len(data), environment.digest(tmp_path / "evil.tar.gz"))
    with pytest.raises(StageError, match="cannot be unpacked"):
        unpack(output, tmp_path / "a" / "b" / "env")
    assert not (tmp_path / "escaped").exists() and not (tmp_path / "a" / "escaped").exists()


def test_an_older_environment_is_replaced(small: None, tmp_path: Path) -> None:
    archive = build(tmp_path / "out", None)
    target = tmp_path / "node" / "env"
    target.mkdir(parents=True)
    (target / ".sha256").write_text("of another")
    (target / "stale.py").write_text("")
    assert unpack(packed(Path(archive.path)), target)
    assert not (target / "stale.py").exists() and (target / "pydantic").is_dir()
