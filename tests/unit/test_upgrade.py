"""What an older release has left is gone on with: golden files as they were written then, and drivers of this release."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from toy.world import campaign_of, drive, events, executions, site_file, states

from workflow.resolved import stored_campaign
from workflow.rundir import RunDir

GOLDEN = Path(__file__).parents[1] / "golden"
STAGES = {"a": {"plan": ["partial", "done"], "links": 2}, "b": {"needs": ["a"]}, "c": {"needs": ["b"]}}
HOME_THEN = "/home/ada/toy"


@pytest.mark.parametrize("release", sorted(path.name.removeprefix("run-of-") for path in GOLDEN.glob("run-of-*")))
def test_a_campaign_of_an_older_release_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, release: str) -> None:
    """Its driver died when `a` was done and `b` submitted; `b` has ended since, and `c` was never reached."""
    run = tmp_path / "run"
    shutil.copytree(GOLDEN / f"run-of-{release}", run)
    for path in run.rglob("*.json"):  # a folder that was moved; the journal, whose lines are bound together, stays as it is
        path.write_text(path.read_text().replace(HOME_THEN, str(tmp_path)))
    monkeypatch.setenv("CAMPAIGN_SITES", str(site_file(tmp_path)))
    assert [line["versions"]["campaign"] for line in events(tmp_path, "created")] == [release]
    assert drive(campaign_of(tmp_path, STAGES)) == 0
    assert states(tmp_path) == dict.fromkeys("abc", "done")
    assert executions(tmp_path) == {("a", 1): 1, ("a", 2): 1, ("b", 1): 1, ("c", 1): 1}
    assert [(line["stage"], line["link"], line["evidence"]["by"]) for line in events(tmp_path, "settled")] == [
        ("a", 1, "receipt"),
        ("a", 2, "receipt"),
        ("b", 1, "receipt"),
        ("c", 1, "receipt"),
    ]
    assert stored_campaign(RunDir(run)).stages.keys() == STAGES.keys()
