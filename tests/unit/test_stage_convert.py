"""Where the stage `convert` makes stores."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from stage_allocation import request

from model.data.readers import extxyz
from workflow.stages.convert import store_folder


def test_another_version_of_a_reader_makes_another_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a store that an earlier release has left cannot be gone on with: its facts or its rules differ."""
    asked = request(tmp_path, "data", "convert", {})
    here = store_folder(tmp_path, asked, "emt")
    assert store_folder(tmp_path, replace(asked, attempt=2), "emt") == here
    monkeypatch.setattr(extxyz, "INFO", replace(extxyz.INFO, version=extxyz.INFO.version + 1))
    assert store_folder(tmp_path, asked, "emt") != here
