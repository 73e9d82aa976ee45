"""The shell's completion: the protocol that each shell speaks, and bash itself."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from made_campaign import half

from model.registry import readers
from workflow.completion import SHELLS
from workflow.site import site_names
from workflow.templates import templates

ROOT = Path(__file__).parents[2]
FILE = """\
name: first
branches: {a: {reader: extxyz, path: a.xyz}}
stages:
  data: {kind: convert}
  seek: {kind: hpo, needs: [data], variants: {one: {backbone: egnn}, two: {backbone: painn}}}
"""


@pytest.fixture
def here(tmp_path: Path) -> Path:
    (tmp_path / "my.yaml").write_text(FILE)
    return tmp_path


def run(here: Path, *args: str, **environment: str) -> str:
    env = {**os.environ, "PYTHONPATH": str(ROOT), "XDG_STATE_HOME": str(here / "state"), **environment}
    code = [sys.executable, "-c", "from workflow.cli import main; main()", *args]
    done = subprocess.run(code, capture_output=True, text=True, cwd=here, env=env, timeout=60)
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout


def offered(here: Path, line: str) -> list[str]:
    """Ask as bash does; the last word is the one that is being written."""
    words = line.split(" ")
    ask = {
        "_CAMPAIGN_COMPLETE": "bash_complete",
        "COMP_WORDS": " ".join(words),
        "COMP_CWORD": str(len(words) - 1),
    }
    return [text.partition(",")[2] for text in run(here, **ask).splitlines() if text]


def test_subcommands_and_options(here: Path) -> None:
    assert {"run", "datasets", "completion"} <= set(offered(here, "campaign "))
    assert "--site" in offered(here, "campaign plan my.yaml --")
    assert set(offered(here, "campaign datasets ")) == {"list", "show", "inspect", "verify", "edges"}
    assert set(offered(here, "campaign completion ")) == set(SHELLS)


def test_names_of_what_is_known(here: Path) -> None:
    assert offered(here, "campaign init ") == list(templates())
    assert offered(here, "campaign plan my.yaml --site lo") == [name for name in site_names() if name.startswith("lo")]
    assert offered(here, "campaign datasets show ") == readers()
    assert offered(here, "campaign datasets inspect x --reader ext") == ["extxyz"]


def test_stages_of_the_only_campaign_here(here: Path) -> None:
    half(here / "runs" / "gfm")
    assert offered(here, "campaign logs tr") == ["train/1", "train/2"]
    assert "painn" in offered(here, "campaign cancel ")
    assert offered(here, "campaign approve eg") == ["egnn"]


def test_stages_of_the_campaign_that_is_named(here: Path) -> None:
    half(here / "runs" / "gfm")
    half(here / "runs" / "other")
    assert offered(here, "campaign logs ") == []
    assert "egnn" in offered(here, "campaign logs -c runs/other ")


def test_stages_of_a_file_that_has_not_run(here: Path) -> None:
    assert offered(here, "campaign logs -c my.yaml ") == ["data", "seek/one", "seek/two"]


def test_a_faulty_file_offers_nothing_and_says_nothing(here: Path) -> None:
    (here / "my.yaml").write_text("stages: [")
    assert offered(here, "campaign logs -c my.yaml ") == []
    assert not (here / "state").exists()


@pytest.mark.parametrize("shell", SHELLS)
def test_each_shell_gets_its_script_and_its_answer(shell: str, here: Path) -> None:
    assert "_CAMPAIGN_COMPLETE" in run(here, "completion", shell)
    word = "quick" if shell == "fish" else "2"  # fish gives the word itself, the others its number
    words = "campaign init " if shell == "fish" else "campaign init quick"
    assert "quickstart" in run(here, _CAMPAIGN_COMPLETE=f"{shell}_complete", COMP_WORDS=words, COMP_CWORD=word)


def test_bash_completes_by_the_script(here: Path) -> None:
    bash = shutil.which("bash")
    assert bash is not None
    (here / "bin").mkdir()
    command = here / "bin" / "campaign"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -c "from workflow.cli import main; main()" "$@"\n')
    command.chmod(0o755)
    (here / "script").write_text(run(here, "completion", "bash"))
    line = 'COMP_WORDS=(campaign init quick); COMP_CWORD=2; _campaign_completion campaign quick init; echo "${COMPREPLY[@]}"'
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PATH": f"{command.parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        [bash, "-c", f"source ./script; {line}"], capture_output=True, text=True, cwd=here, env=environment, timeout=60
    )
    assert done.stdout == "quickstart\n", done.stderr
