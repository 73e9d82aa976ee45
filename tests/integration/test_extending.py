"""The worked examples of the manual: their code is taken out of the pages, put into a copy of this repository, and run."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from model.data.quickstart.files import FILES

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "docs" / "extending"
COPIED = ("workflow", "model", "sites", "campaigns", "tests", "bench", "pyproject.toml", "README.md")
CONTRACTS = {
    "stage": ("evaluate", ["tests/contracts/test_stages.py", "tests/architecture"]),
    "reader": ("jsonl", ["tests/contracts/test_readers.py", "tests/contracts/test_miniatures.py", "tests/architecture"]),
    "backbone": ("cgcnn", ["tests/contracts/test_backbones.py", "tests/unit/test_feasibility.py", "tests/architecture"]),
}
"""For each page: the name of its plug-in, and the tests that exist for every one of its kind."""


def blocks(page: str) -> dict[str, str]:
    """Return the titled blocks of a page."""
    text = (PAGES / f"{page}.md").read_text()
    return dict(re.findall(r"^```\w+ title=\"([^\"]+)\"\n(.*?)^```$", text, re.M | re.S))


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Give a copy of this repository, without what was made in it."""
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info", ".*_cache")
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, tmp_path / "copy" / name, ignore=ignored)
        else:
            shutil.copy(source, tmp_path / "copy" / name)
    return tmp_path / "copy"


def install(page: str, copy: Path) -> None:
    for title, text in blocks(page).items():
        if title.endswith(".py"):
            assert not (copy / title).exists(), "one new thing, one new file"
            (copy / title).write_text(text)


def python(copy: Path, *args: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run Python in a world where the copy is what is installed."""
    home = copy.parent
    own = {"HOME": home, "XDG_CONFIG_HOME": home / "config", "XDG_STATE_HOME": home / "state", "CAMPAIGN_SITES": home / "sites"}
    environment = {
        **os.environ,
        "PYTHONPATH": str(copy),
        "OMP_NUM_THREADS": "1",
        **{name: str(path) for name, path in own.items()},
    }
    command = [sys.executable, *args]
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd or copy, env=environment, timeout=300)
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done


@pytest.mark.parametrize("page", ["stage", *(pytest.param(page, marks=pytest.mark.slow) for page in ("reader", "backbone"))])
def test_it_keeps_the_contract_of_its_kind(page: str, copy: Path) -> None:
    install(page, copy)
    name, tests = CONTRACTS[page]
    done = python(copy, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:xdist", "-k", name, *tests)
    ran = re.search(r"(\d+) passed", done.stdout)
    assert ran is not None and int(ran[1]) >= 10, done.stdout[-500:]


@pytest.mark.parametrize("page", CONTRACTS)
def test_its_code_is_clean(page: str, copy: Path) -> None:
    install(page, copy)
    written = [title for title in blocks(page) if title.endswith(".py")]
    for command in (["check"], ["format", "--check"]):
        python(copy, "-m", "ruff", *command, *written)


def carried_out(page: str, title: str, copy: Path) -> dict[str, Any]:
    """Run the campaign of a page on the quickstart's alloys to its end; return each stage's result."""
    folder = copy.parent / "here"
    (folder / "quickstart-data").mkdir(parents=True, exist_ok=True)
    (copy.parent / "sites").mkdir()
    for name, text in blocks(page).items():
        if name.startswith("sites/"):
            (copy.parent / name).write_text(text)
    (folder / "my.yaml").write_text(blocks(page)[title])
    code = "from model.data.quickstart.files import FILES, make, write; from pathlib import Path; file = FILES[NUMBER]\n"
    code += "write(Path('quickstart-data') / file.name, make(file, (0, NUMBER), map, lambda *_: None), file)"
    number = next(number for number, file in enumerate(FILES) if file.name == "emt.extxyz")
    python(copy, "-c", code.replace("NUMBER", str(number)), cwd=folder)
    python(copy, "-m", "workflow", "check", "my.yaml", cwd=folder)
    python(copy, "-m", "workflow", "run", "my.yaml", "--plain", cwd=folder)
    (campaign,) = (folder / "runs").iterdir()
    return {path.parent.name: json.loads(path.read_text())["result"] for path in campaign.glob("stages/*/receipt.json")}


@pytest.mark.slow
def test_a_site_of_ones_own_runs_a_campaign(copy: Path) -> None:
    results = carried_out("site", "my.yaml", copy)
    assert results["data"]["branches"]["emt"]["structures"] == 100
    (job,) = (copy.parent / "here" / "runs" / "first").glob("stages/data/link-1/attempt-1/run/tasks/*/outcome.json")
    assert json.loads(job.read_text())["world_size"] == 2, "the site's node takes two ranks"


@pytest.mark.slow
def test_a_stage_of_ones_own_measures_a_model(copy: Path) -> None:
    install("stage", copy)
    results = carried_out("stage", "my.yaml with evaluate", copy)
    trained, measured = results["train"]["metrics"]["emt"], results["measure"]["metrics"]["emt"]
    assert measured["num_structures"] == trained["num_structures"] > 5
    assert measured["energy_mae_mev_per_atom"] == pytest.approx(trained["energy_mae_mev_per_atom"], rel=1e-4)


@pytest.mark.slow
def test_a_reader_of_ones_own_is_converted(copy: Path) -> None:
    install("reader", copy)
    source = blocks("reader")["tests/contracts/sources/jsonl.py"]
    (copy.parent / "here").mkdir()
    (copy.parent / "source.py").write_text(source)
    python(copy, "-c", "import source, pathlib; source.write(pathlib.Path('here/structures.jsonl'))", cwd=copy.parent)
    results = carried_out("reader", "my.yaml with jsonl", copy)
    assert results["data"]["branches"]["mine"]["structures"] == 2
    shown = python(copy, "-m", "workflow", "datasets", "inspect", "structures.jsonl", cwd=copy.parent / "here").stdout
    assert "read as jsonl: 1 file" in shown


@pytest.mark.slow
def test_a_backbone_of_ones_own_is_trained(copy: Path) -> None:
    install("backbone", copy)
    result = carried_out("backbone", "my.yaml with cgcnn", copy)["train"]
    assert (result["backbone"], result["epochs"]) == ("cgcnn", 2)
    assert result["metrics"]["emt"]["energy_mae_mev_per_atom"] > 0


def test_the_cluster_of_the_page_is_planned(copy: Path) -> None:
    """Its batch system is not here; what would be asked of it can be told."""
    (copy.parent / "sites").mkdir()
    (copy.parent / "sites" / "cluster.yaml").write_text(blocks("site")["sites/cluster.yaml"])
    fields = yaml.safe_load(blocks("site")["my.yaml"])
    fields["stages"]["data"] |= {"nodes": 32, "walltime": "03:00"}
    (copy.parent / "my.yaml").write_text(yaml.safe_dump(fields))
    planned = python(copy, "-m", "workflow", "plan", "my.yaml", "--site", "cluster", cwd=copy.parent).stdout
    assert re.search(r"data +1 +32 +0 +128 +03:00:00 +96 +short", planned), planned
    shown = python(copy, "-m", "workflow", "sites", "show", "cluster", cwd=copy.parent).stdout
    assert "sinfo, 2026-11-01" in shown
