"""What the tutorials of the facilities tell a newcomer to install is what jobs there import."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
FACILITIES = ("frontier", "aurora", "perlmutter")
TORCH_OF_THE_SITE = ("aurora",)
"""Facilities whose module brings torch: the extra, which asks for ours, is not to be installed there."""


def installs(facility: str) -> str:
    """Return the commands of a page that install something."""
    lines = (ROOT / "docs" / "facilities" / f"{facility}.md").read_text().splitlines()
    return "\n".join(line.partition("#")[0] for line in lines if line.startswith("$") and "pip install" in line)


def extra(name: str) -> list[str]:
    """Return the names of the packages of an extra."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return [Requirement(each).name for each in project["optional-dependencies"][name]]


@pytest.mark.parametrize("facility", FACILITIES)
def test_a_facility_page_installs_all_that_tasks_import(facility: str) -> None:
    words = installs(facility).replace("'", " ").split()
    if facility in TORCH_OF_THE_SITE:
        missing = {each for each in extra("model") if each not in words}
        assert missing == {"torch"}
    else:
        assert ".[model]" in words


@pytest.mark.parametrize("facility", FACILITIES)
def test_a_facility_page_says_how_ranks_find_one_another(facility: str) -> None:
    """Several ranks need mpi4py for the site's own MPI, which no extra for facilities brings."""
    page = (ROOT / "docs" / "facilities" / f"{facility}.md").read_text()
    section = page.partition("## 2. Install")[2].partition("\n## ")[0]
    assert "mpi4py" not in extra("model")
    assert "--no-binary=mpi4py" in section and "MPICC=" in section
    assert "from mpi4py import MPI" in section, "how to see which MPI it found"
    if facility not in TORCH_OF_THE_SITE:
        assert '$ MPICC="cc -shared" pip install --no-cache-dir --no-binary=mpi4py' in section
