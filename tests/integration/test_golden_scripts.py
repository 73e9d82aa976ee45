"""Batch scripts and launcher calls of the reference campaign on three facilities, as reviewed against their manuals.

After a deliberate change: `GOLDEN=write python -m pytest tests/integration/test_golden_scripts.py`, and read the difference.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest

from workflow.draft import load_campaign
from workflow.plan import make_plan
from workflow.preview import write_previews
from workflow.site import load_site
from workflow.site_facts import figures

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden" / "scripts"
ARCHIVE = "/project/env/campaign-env-0123456789ab.tar.gz"
FACILITIES = ("frontier", "aurora", "perlmutter")


@pytest.fixture(autouse=True)
def overlays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CAMPAIGN_SITES", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "campaign" / "sites").mkdir(parents=True)
    for name in FACILITIES:
        (tmp_path / "campaign" / "sites" / f"{name}.yaml").write_text(f"account: ABC123\narchive: {ARCHIVE}\n")


def neutral(text: str) -> str:
    """Return a script without what differs from checkout to checkout."""
    text = text.replace(str(ROOT / "runs"), "/campaigns").replace(sys.executable, "/env/bin/python")
    return text.replace(str(ROOT), "/package")


@pytest.mark.parametrize("site", FACILITIES)
def test_scripts_and_calls_are_as_reviewed(site: str, tmp_path: Path) -> None:
    made = write_previews(load_campaign(ROOT / "campaigns" / "sc26.yaml", site), tmp_path / "made")
    golden = GOLDEN / site
    if os.environ.get("GOLDEN") == "write":
        golden.mkdir(parents=True, exist_ok=True)
        for path in golden.iterdir():
            path.unlink()
        for path in made:
            (golden / path.name).write_text(neutral(path.read_text()))
    assert sorted(path.name for path in made) == sorted(path.name for path in golden.iterdir())
    for path in made:
        assert neutral(path.read_text()) == (golden / path.name).read_text(), path.name


@pytest.mark.parametrize("site", FACILITIES)
def test_large_files_are_sent_as_the_agent_sends_them(site: str) -> None:
    """By the launcher's own command after the folders are made, or over MPI by a rank on each node."""
    calls = re.findall(r"^# (.+)\n((?:.+\\\n)*.+)$", (GOLDEN / site / "train.calls").read_text().split("\n\n", 1)[1], re.M)
    titles = [title for title, _ in calls]
    large = next(number for number, title in enumerate(titles) if title.startswith("each file of 16 MB and more"))
    assert titles[large + 1].startswith("on every node: unpack")
    if site == "aurora":
        words = calls[large][1].split()
        assert words[0] == "mpiexec" and words[words.index("-ppn") + 1] == "1"
        assert calls[large][1].endswith("/env/bin/python -m mpi4py -m workflow.allocation.broadcast ORDER.json FOLDER")
    else:
        assert calls[large][1].startswith("sbcast --force --preserve FILE ")
        assert titles[large - 1] == "on every node: make the folders of large files"
        assert "workflow.allocation.staging ORDER.json" in calls[large - 1][1]


@pytest.mark.parametrize("site", (*FACILITIES, "local"))
def test_the_reference_campaign_fits(site: str) -> None:
    plan = make_plan(load_campaign(ROOT / "campaigns" / "sc26.yaml", site))
    assert not plan.refused
    assert plan.data.branches == 16 and plan.paper is not None


@pytest.mark.parametrize("site", (*FACILITIES, "local"))
def test_every_figure_has_a_source_or_says_how_to_find_out(site: str) -> None:
    assert [each.key for each in figures(load_site(site)) if not each.mark] == []


@pytest.mark.parametrize("site", (*FACILITIES, "local"))
def test_sources_name_figures_that_there_are(site: str) -> None:
    loaded = load_site(site)
    keys = {each.key for each in figures(loaded)}
    named = {*loaded.sources, *loaded.unverified}
    assert [name for name in named if not any(key == name or key.startswith(f"{name}.") for key in keys)] == []


@pytest.mark.parametrize("site", FACILITIES)
def test_a_full_node_has_a_rank_for_each_device_on_cores_of_its_own(site: str) -> None:
    """Cores are counted from the calls themselves: the directive `-c`, or the lists of `--cpu-bind`."""
    node = load_site(site).node
    call = (GOLDEN / site / "train.calls").read_text().split("# training")[1].split("# test")[0]
    assert "PYTHONPATH='{local}/env:...'" in call and "/env/bin/python -m model train config.yaml" in call
    if lists := re.search(r"--cpu-bind=list:(\S+)", call):
        cores = [range(int(a), int(b) + 1) for part in lists[1].split(":") for a, b in [part.split("-")]]
        assert len(cores) == node.devices == int(re.search(r"-ppn (\d+)", call)[1])
        flat = [core for each in cores for core in each]
        assert len(set(flat)) == len(flat) and not {0, 52} & set(flat)
        assert {len(each) for each in cores} == {int(re.search(r"OMP_NUM_THREADS=(\d+)", call)[1])}
    else:
        assert re.search(r"OMP_NUM_THREADS=(\d+)", call)[1] == re.search(r"-c (\d+)", call)[1]
        ranks = int(re.search(r"--ntasks-per-node=(\d+)", call)[1])
        assert ranks == node.devices and ranks * int(re.search(r"-c (\d+)", call)[1]) <= node.cores
        assert "--gpus-per-task=1" in call
