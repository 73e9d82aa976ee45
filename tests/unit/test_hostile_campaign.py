"""Campaign files that nobody meant well: each is refused with what, where and remedy, and none with a traceback."""

from __future__ import annotations

from pathlib import Path

import pytest

from workflow.check import check_campaign
from workflow.draft import load_campaign
from workflow.errors import ConfigError, SiteError
from workflow.report.locate import locate
from workflow.stages._inputs import is_try

GOOD = """\
name: first
folder: runs
branches: {a: {reader: extxyz, path: a.xyz}}
stages:
  data: {kind: convert, walltime: 00:10}
  seek: {kind: hpo, needs: [data], backbone: painn}
  best: {kind: promote, needs: [seek]}
  train: {kind: train, needs: [data], each: best}
"""
HOSTILE = {
    "slash in a stage's name": ("  data: {kind", "  x/y z': {kind: convert}\n  data: {kind", "is no name for a stage"),
    "slash in a branch's name": ("{a: {", "{../../a: {", "'../../a', which does not fit"),
    "a walltime of nothing": ("00:10", "00:00", "no time to work in"),
    "a walltime beyond all numbers": ("00:10", f"{'9' * 400}:00", "is no time"),
    "nodes beyond all numbers": ("00:10", f"00:10, nodes: {10**40}", "nodes asked, local has 2"),
    "another kind on a site": ("00:10", "00:10, on: {local: {kind: hpo}}", "a site cannot change 'kind'"),
    "two stages, one folder": ("  data:", "  train-1: {kind: convert}\n  data:", "share a folder with 'train/1'"),
    "a job's keys on the login node": ("needs: [seek]", "needs: [seek], links: 3", "'links' is for batch jobs"),
    "a search for each model": (
        "  train:",
        "  next: {kind: hpo, needs: [data], backbone: egnn, each: best}\n  train:",
        "not start from a model",
    ),
    "data for each model": ("  train:", "  next: {kind: convert, each: best}\n  train:", "do not depend on a model"),
    "an attribute in the folder": ("folder: runs", 'folder: "{name.x}"', "names a path that the site does not have"),
    "an index in the folder": ("folder: runs", 'folder: "{name[x]}"', "names a path that the site does not have"),
    "a width in the folder": ("folder: runs", 'folder: "{name:>99999999999}"', "names a path that the site does not have"),
    "a conversion in the folder": ("folder: runs", 'folder: "{name!r}"', "names a path that the site does not have"),
    "a folder beyond all names": ("folder: runs", f"folder: {'a' * 5000}", "is no folder (File name too long)"),
    "a folder that no system takes": ("folder: runs", 'folder: "a\\0b"', "is no folder (embedded null byte)"),
    "a folder of nobody": ("folder: runs", "folder: ~nobody-of-this-name/runs", "is no folder (Could not determine home"),
    "no folder": ("folder: runs", 'folder: ""', "at least 1 character"),
    "a file as the folder": ("folder: runs", "folder: a.xyz", "is no folder"),
    "no data sets": ("{a: {reader: extxyz, path: a.xyz}}", "{}", "no data sets"),
    "nothing left to train on": (
        "folder: runs",
        "folder: runs\nsplits: {validation: 0.5, test: 0.5}",
        "leave nothing to train on",
    ),
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "a.xyz").write_text("2\nProperties=species:S:1:pos:R:3\nH 0 0 0\nH 0 0 1\n")
    path = tmp_path / "campaign.yaml"
    path.write_text(GOOD)
    return path


@pytest.mark.parametrize("name", HOSTILE)
def test_it_is_told(file: Path, name: str) -> None:
    assert not check_campaign(file, models=False).problems
    old, new, wanted = HOSTILE[name]
    file.write_text(GOOD.replace(old, new, 1))
    told = [each for each in check_campaign(file, models=False).problems if wanted in each.what]
    assert len(told) == 1, told
    assert told[0].where.startswith(f"{file}:")
    assert told[0].remedy


@pytest.mark.parametrize("text", ["[" * 3000, "a: " + "{a: " * 3000 + "1" + "}" * 3000], ids=["lists", "mappings"])
def test_brackets_without_end_are_refused(file: Path, text: str) -> None:
    file.write_text(text)
    with pytest.raises(ConfigError, match="nested too deeply"):
        load_campaign(file)


def test_looking_for_a_campaign_tells_a_bad_folder(file: Path) -> None:
    file.write_text(GOOD.replace("folder: runs", 'folder: "{name.x}"'))
    with pytest.raises(ConfigError, match="names a path"):
        locate(file)


def test_a_branch_is_not_taken_for_a_further_try_of_another() -> None:
    assert is_try("convert-a.2", "convert-a")
    assert not is_try("convert-a-2", "convert-a")


@pytest.mark.parametrize("stages", ["true", "5", "word", "[data]"])
def test_stages_that_are_none_are_told(file: Path, stages: str) -> None:
    file.write_text(GOOD.partition("stages:")[0] + f"stages: {stages}\n")
    assert [each.what for each in check_campaign(file, models=False).problems] == ["no stages"]


def test_a_folder_that_may_not_be_looked_into_is_told(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied", "/secret")

    monkeypatch.setattr("model.data.readers.extxyz.files", refuse)
    (problem,) = check_campaign(file, models=False).problems
    assert problem.what == "/secret cannot be read (Permission denied)" and "branches.a.path" in problem.where


def test_a_folder_is_no_campaign_file(file: Path) -> None:
    with pytest.raises(ConfigError, match="that is a folder, not a file"):
        load_campaign(file.parent)
    with pytest.raises(ConfigError, match="no such file"):
        load_campaign(file / "below.yaml")
    with pytest.raises(SiteError, match="no site ''"):
        load_campaign(file, "")
