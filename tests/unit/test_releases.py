"""The order in which job limits let jobs go."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from workflow.releases import Wanted, longest_s, rounds
from workflow.site import Site, load_site


def site(monkeypatch: pytest.MonkeyPatch, folder: Path, *limits: dict[str, object]) -> Site:
    local = yaml.safe_load((Path(__file__).parents[2] / "sites" / "local.yaml").read_text())
    (folder / "here.yaml").write_text(yaml.safe_dump({**local, "limits": list(limits)}))
    monkeypatch.setenv("CAMPAIGN_SITES", str(folder))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(folder))
    return load_site("here")


WANTED = [Wanted("data", "q", ()), *(Wanted(f"s{i}", "q", ("data",)) for i in range(5)), Wanted("t", "r", ("data",))]


def test_without_limits_only_needs_hold_back(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = rounds(site(monkeypatch, tmp_path), WANTED)
    assert [each.jobs for each in found] == [("data",), ("s0", "s1", "s2", "s3", "s4", "t")]
    assert all(not each.waiting and not each.limit for each in found)


def test_a_limit_lets_so_many_go_and_names_itself(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = rounds(site(monkeypatch, tmp_path, {"queues": ["q"], "eligible": 2, "submitted": 100}), WANTED)
    assert [each.jobs for each in found] == [("data",), ("s0", "s1", "t"), ("s2", "s3"), ("s4",)]
    assert found[1].waiting == ("s2", "s3", "s4")
    assert found[1].limit == "2 jobs of a user gain priority at once in q"


def test_the_tightest_of_several_limits_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    limits = ({"submitted": 3}, {"queues": ["q"], "running": 2, "per": "project"})
    found = rounds(site(monkeypatch, tmp_path, *limits), WANTED)
    assert found[1].jobs == ("s0", "s1", "t")
    assert all(len(each.jobs) <= 3 for each in found)


def test_every_job_is_let_go_once_and_after_what_it_needs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    chain = [Wanted(f"c{i}", "q", (f"c{i - 1}",) if i else ()) for i in range(4)]
    found = rounds(site(monkeypatch, tmp_path, {"submitted": 1}), [*chain, *WANTED])
    order = [name for each in found for name in each.jobs]
    assert sorted(order) == sorted(job.name for job in (*chain, *WANTED))
    assert [name for name in order if name[0] == "c"] == ["c0", "c1", "c2", "c3"]


def test_a_chain_of_many_jobs_is_followed_to_its_end(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    chain = [Wanted(f"c{i}", "q", (f"c{i - 1}",) if i else ()) for i in range(50_000)]
    assert [each.jobs for each in rounds(site(monkeypatch, tmp_path), chain)] == [(job.name,) for job in chain]


def test_the_longest_way_is_that_of_the_slowest_branch() -> None:
    jobs = [Wanted("a", "q", (), 10), Wanted("b", "q", ("a",), 5), Wanted("c", "q", ("a",), 50), Wanted("d", "q", ("b", "c"), 1)]
    assert longest_s(jobs) == 61 and longest_s([]) == 0
