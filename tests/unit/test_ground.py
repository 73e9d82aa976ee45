"""Node-local folders below a place where all may write are ours alone, or the stage-in stops."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from workflow.allocation.ground import make_own
from workflow.errors import StageError


@pytest.fixture
def tmp(tmp_path: Path) -> Path:
    """Give a place like /tmp."""
    place = tmp_path / "tmp"
    place.mkdir()
    place.chmod(0o1777)
    return place


def test_what_is_missing_is_made_and_what_is_ours_stays(tmp: Path) -> None:
    folder = tmp / "campaign-user" / "7" / "node1"
    make_own(folder)
    make_own(folder)
    assert folder.is_dir()
    assert not (tmp / "campaign-user").stat().st_mode & 0o022


def test_a_link_is_refused(tmp: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp / "campaign-user").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StageError, match="is a link"):
        make_own(tmp / "campaign-user" / "7")
    assert not list((tmp_path / "elsewhere").iterdir())


def test_a_folder_in_which_others_may_write_is_refused(tmp: Path) -> None:
    (tmp / "campaign-user").mkdir()
    (tmp / "campaign-user").chmod(0o777)
    with pytest.raises(StageError, match="lets others write"):
        make_own(tmp / "campaign-user" / "7")


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder away")
def test_anothers_folder_is_refused(tmp: Path) -> None:
    (tmp / "campaign-user").mkdir(mode=0o755)
    os.chown(tmp / "campaign-user", 12345, -1)
    with pytest.raises(StageError, match="belongs to user 12345"):
        make_own(tmp / "campaign-user" / "7")
    assert not (tmp / "campaign-user" / "7").exists()


def test_where_only_the_facility_writes_nothing_is_asked(tmp_path: Path) -> None:
    make_own(tmp_path / "bb" / "user" / "7")
    assert (tmp_path / "bb" / "user" / "7").is_dir()
