"""What the tutorials of the facilities tell a newcomer to install is what jobs there import."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from workflow.queues import queue_for
from workflow.site import load_site
from workflow.site_testing import _walltime_s as length_s

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


@pytest.mark.parametrize("facility", FACILITIES)
def test_a_facility_page_says_where_its_first_test_runs(facility: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    page = (ROOT / "docs" / "facilities" / f"{facility}.md").read_text()
    section = page.partition("## 4. First test")[2].partition("\n## ")[0]
    site = load_site(facility)
    command = re.search(rf"^\$ campaign sites test {facility}(?: --queue (\S+))?", section, re.M)
    assert command
    seconds = length_s(site)
    queues = {queue_for(site, 2, seconds, name).name for name in {command[1], None}}
    prose = re.sub(r"^```.*?^```$", "", section, flags=re.M | re.S)
    named = set(re.findall(r"`([^`]+)`", prose)) & {queue.name for queue in site.queues}
    assert named <= queues and (facility != "aurora" or named == {"debug", "capacity"})


SECTIONS = {
    "frontier": ("Frontier and Perlmutter: Slurm", "Frontier: the rest"),
    "perlmutter": ("Frontier and Perlmutter: Slurm", "Perlmutter: the rest"),
    "aurora": ("Aurora: PBS Pro and PALS",),
}
PROGRAMS = ("srun", "mpiexec", "sbcast")


def in_scripts(facility: str) -> set[str]:
    """Return every directive, flag, module and variable of a facility's golden files."""
    found: set[str] = set()
    for path in (ROOT / "tests" / "golden" / "scripts" / facility).iterdir():
        for line in path.read_text().replace("\\\n", "\n").splitlines():
            found |= set(_named(line))
    return found


def _named(line: str) -> Iterator[str]:
    words = line.split() if line.startswith("#") else shlex.split(line, comments=True)
    if line.startswith("#SBATCH "):
        yield words[1].partition("=")[0]
    elif line.startswith("#PBS "):
        yield f"-l {words[2].partition('=')[0]}" if words[1] == "-l" else words[1]
    elif words[:2] == ["module", "load"] or words[:2] == ["module", "unload"] or words[:1] == ["unset"]:
        yield from (word for word in words[1:] if word not in ("load", "unload"))
    elif words[:1] == ["exec"] or not words or line.startswith("#"):
        return
    elif words[0] in PROGRAMS:
        call = words[: next((at for at, word in enumerate(words) if word in ("true", "/env/bin/python")), len(words))]
        yield from (word.partition("=")[0] for word in call if word.startswith("-"))
        yield from (name for name in ("sbcast", "mpi4py", "workflow.allocation.broadcast") if name in words)
    else:
        assignment = words[1] if words[0] == "export" else words[0]
        if re.match(r"[A-Za-z_]\w*=", assignment):
            yield assignment.partition("=")[0]


@pytest.mark.parametrize("facility", FACILITIES)
def test_each_line_of_the_scripts_has_a_source_or_is_called_unverified(facility: str) -> None:
    page = (ROOT / "docs" / "facilities" / "scripts.md").read_text()
    told: set[str] = set()
    for title in SECTIONS[facility]:
        section = page.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
        rows = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("| `")]
        for names, why, source, standing in rows:
            told |= set(re.findall(r"`([^`]+)`", names))
            assert why and source and re.match("sourced|tried|unverified", standing), names
            assert "from memory" not in source or "unverified" in standing or "Perlmutter" in source, names
    assert in_scripts(facility) - told == set(), "in the scripts, not on the page"
    assert told - in_scripts(facility) == set(), "on the page, in no script"
