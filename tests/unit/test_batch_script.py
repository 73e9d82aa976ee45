"""The batch script, run by a real shell: fence, quoting, environment."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from workflow.batch.script import script_text
from workflow.errors import SiteError
from workflow.rundir import AttemptDir
from workflow.site import Site, load_site


def shown(folder: Path, site: Site, monkeypatch: pytest.MonkeyPatch) -> subprocess.CompletedProcess[str]:
    """Run the script with a program in Python's place that shows its arguments and environment."""
    folder.mkdir(parents=True, exist_ok=True)
    program = folder.parent / "show it"
    program.write_text('#!/bin/sh\nfor a in "$@"; do echo "arg:$a"; done\nenv\n')
    program.chmod(0o700)
    monkeypatch.setattr("sys.executable", str(program))
    attempt = AttemptDir(folder)
    attempt.script.write_text(script_text(site, attempt, "ctoken"))
    return subprocess.run(["/bin/sh", str(attempt.script)], capture_output=True, text=True, cwd="/", timeout=30)


@pytest.mark.parametrize(
    "name",
    ["plain", "with space", "$(touch hit)", "`touch hit`", "a'; touch hit; '", 'q"uote', "-n", "back\\slash", "line\nfeed"],
)
def test_hostile_folders_stay_folders(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    done = shown(tmp_path / name, load_site("local"), monkeypatch)
    assert done.returncode == 0, done.stderr
    assert f"arg:-m\narg:workflow.allocation.agent\narg:{tmp_path / name}\n" in done.stdout
    assert not list(tmp_path.rglob("hit")) and not Path("/hit").exists()


def test_the_first_to_make_the_run_folder_runs_and_nobody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = (shown(tmp_path / "a", load_site("local"), monkeypatch) for _ in range(2))
    assert "arg:-m" in first.stdout
    assert (second.returncode, second.stdout) == (0, "")
    assert (tmp_path / "a" / "run").stat().st_mode & 0o777 == 0o700


def test_a_folder_that_cannot_be_made_is_told_by_the_exit_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "run").write_text("in the way")
    assert shown(tmp_path / "a", load_site("local"), monkeypatch).returncode == 73


def test_environment_and_setup_of_the_site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    value = "a 'b' \"c\" $HOME $(touch hit)"
    site = load_site("local").model_copy(update={"environment": {"MY_VALUE": value}, "setup": ("export FROM_SETUP=yes",)})
    out = shown(tmp_path / "a", site, monkeypatch).stdout
    assert f"MY_VALUE={value}\n" in out and "FROM_SETUP=yes\n" in out
    assert f"PYTHONPATH={Path(__file__).parents[2]}" in out
    bad = site.model_copy(update={"environment": {"A=1; touch hit; B": "x"}})
    with pytest.raises(SiteError):
        script_text(bad, AttemptDir(tmp_path), "ctoken")
    for shell, lines in (("/bin/sh\ntouch hit", ()), ("/bin/sh", ("#PBS -A a\ntouch hit",))):
        with pytest.raises(SiteError, match="a line break in"):
            script_text(site.model_copy(update={"shell": shell}), AttemptDir(tmp_path), "ctoken", directives=lines)
