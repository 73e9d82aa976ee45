"""Clumsy and hostile arguments: each is answered with what, where and remedy, and nothing is made of a slip of the pen."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_cli import home, run

__all__ = ["home"]


@pytest.mark.parametrize("command", ["init quickstart", "schema", "report my.yaml"])
def test_a_folder_is_no_file_to_write(command: str, home: Path) -> None:
    (home / "there").mkdir()
    told = run(*command.split(), "--into", "there", code=2).stderr
    assert "there: that is a folder, and a file is to be written" in told and "Name a file in it with --into." in told
    assert not list((home / "there").iterdir())
    assert "no such folder" in run(*command.split(), "--into", "none/x", code=2).stderr


@pytest.mark.parametrize(
    "command", ["env build --into", "rehearse my.yaml --into", "sites test local --into", "plan my.yaml --scripts"]
)
def test_folders_are_not_made_out_of_a_slip_of_the_pen(command: str, home: Path) -> None:
    told = run(*command.split(), "nosuch/folder", code=2).stderr
    assert "nosuch: no such folder" in told and f"another name with {command.split()[-1]}." in told
    assert not (home / "nosuch").exists()
    assert "a.xyz: that is a file, and a folder is to be written" in run(*command.split(), "a.xyz", code=2).stderr


def test_one_broken_site_does_not_hide_the_others(home: Path) -> None:
    overlay = home / "config" / "campaign" / "sites" / "aurora.yaml"
    overlay.parent.mkdir(parents=True)
    overlay.write_text("nodse: 3\n")
    result = run("sites", "list", code=2)
    assert "frontier" in result.stdout and "perlmutter" in result.stdout and "aurora" not in result.stdout
    assert "aurora: not listed, its file or your overlay is broken" in result.stderr
    assert f"(with {overlay}): nodse: no key 'nodse' here" in result.stderr
