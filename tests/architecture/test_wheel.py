"""A wheel, installed away from the checkout, brings the command, the sites and the campaigns along."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True, timeout=300)
    (wheel,) = folder.glob("*.whl")
    target = folder / "site"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(target), str(wheel)]
    subprocess.run(install, check=True, capture_output=True, timeout=300)
    return target


def run(installed: Path, cwd: Path, *args: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    return subprocess.run([sys.executable, *args], capture_output=True, text=True, cwd=cwd, env=environment, timeout=120)


def test_the_installed_package_is_the_wheel(installed: Path, tmp_path: Path) -> None:
    out = run(installed, tmp_path, "-c", "import workflow; print(workflow.__file__)")
    assert out.stdout.startswith(str(installed)), out.stderr


def test_init_and_plan_work_from_the_wheel(installed: Path, tmp_path: Path) -> None:
    out = run(installed, tmp_path, "-m", "workflow", "init", "quickstart", "--into", "mine.yaml")
    assert out.returncode == 0, out.stderr
    out = run(installed, tmp_path, "-m", "workflow", "plan", "mine.yaml", "--site", "local")
    assert out.returncode == 0, out.stderr
    assert "node-hours" in out.stdout
