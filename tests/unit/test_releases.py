"""The order in which job limits let jobs go."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import yaml
from rich.console import Console

from workflow.draft import load_campaign
from workflow.plan import make_plan
from workflow.releases import Wanted, longest_s, rounds
from workflow.report.planned import print_plan
from workflow.site import Site, load_site

ROOT = Path(__file__).parents[2]


def site(monkeypatch: pytest.MonkeyPatch, folder: Path, *limits: dict[str, object]) -> Site:
    local = yaml.safe_load((ROOT / "sites" / "local.yaml").read_text())
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
    assert found[1].jobs == ("s0", "s1") and found[1].waiting == ("s2", "s3", "s4", "t"), "three stand there, t is not handed in"
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


def test_the_longest_way_is_that_of_the_slowest_branch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    here = site(monkeypatch, tmp_path)
    jobs = [Wanted("a", "q", (), 10), Wanted("b", "q", ("a",), 5), Wanted("c", "q", ("a",), 50), Wanted("d", "q", ("b", "c"), 1)]
    assert longest_s(here, jobs) == 61 and longest_s(here, []) == 0


def test_jobs_that_find_no_nodes_wait_for_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No schedule is shorter than all node-hours on all nodes; on two nodes three jobs of one and one of two take three turns."""
    here = site(monkeypatch, tmp_path)
    assert here.nodes == 2
    jobs = [
        *(Wanted(f"s{i}", "q", (), 10, 1) for i in range(3)),
        Wanted("wide", "q", (), 10, 2),
        Wanted("refused", "", (), 10, 9),
    ]
    assert longest_s(here, jobs[:3]) == 20 and longest_s(here, jobs[:4]) == 30 and longest_s(here, jobs) == 40
    assert [each.jobs for each in rounds(here, jobs[:4])] == [("s0", "s1", "s2", "wide")], (
        "the order of release is that of limits"
    )
    assert longest_s(site(monkeypatch, tmp_path, {"running": 1}), jobs[:3]) == 30


def test_the_place_of_a_waiting_job_is_free_when_it_starts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    here = site(monkeypatch, tmp_path, {"queues": ["q"], "eligible": 2})
    chains = [
        Wanted(f"t{i} {link}/3", "q", (f"t{i} {link - 1}/3",) if link > 1 else (), 10, 1, ahead=link > 1)
        for i in (1, 2, 3, 4)
        for link in (1, 2, 3)
    ]
    found = [each.jobs for each in rounds(here, chains)]
    assert found[:2] == [("t1 1/3", "t2 1/3"), ("t3 1/3", "t4 1/3")]
    assert found[2:4] == [("t1 2/3", "t2 2/3"), ("t3 2/3", "t4 2/3")] and len(found) == 6
    assert longest_s(here.model_copy(update={"nodes": 4}), chains) == 30, "as `campaign simulate`: all four start at once"


def test_a_chain_stands_in_the_queue_as_a_whole(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    here = site(monkeypatch, tmp_path, {"queues": ["q"], "submitted": 5, "running": 2})
    chain = [Wanted(f"t {link}/8", "q", (f"t {link - 1}/8",) if link > 1 else (), ahead=link > 1) for link in range(1, 9)]
    found = rounds(here, chain)
    assert [each.jobs for each in found] == [(job.name,) for job in chain]
    assert found[0].waiting == ("t 6/8",) and found[0].limit == "5 jobs of a user stand in the queue at once in q"
    assert [each.waiting for each in found[2:4]] == [("t 8/8",), ()]
    other = rounds(here, [*chain, Wanted("other", "q", ())])
    assert other[0].jobs == ("t 1/8", "other"), "links of a chain are handed in one after the other, as the driver does"


def test_the_plans_of_the_reference_campaign_say_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    plan = make_plan(load_campaign(ROOT / "campaigns" / "sc26.yaml", "perlmutter"))
    order = [each.jobs for each in plan.rounds]
    first = {name: number for number, jobs in enumerate(order) for name in jobs}
    assert first["train/3 1/3"] == first["train/1 1/3"] + 1 < first["train/1 2/3"]
    assert plan.longest_s >= plan.node_hours / plan.site.nodes * 3600
    aurora = {"name": "p", "site": "aurora", "branches": {"a": {"reader": "extxyz", "path": "a"}}}
    stages = {"long": {"kind": "train", "backbone": "painn", "nodes": 4, "walltime": "24:00", "links": 8}}
    (tmp_path / "c.yaml").write_text(yaml.safe_dump({**aurora, "stages": stages}))
    held = make_plan(load_campaign(tmp_path / "c.yaml")).rounds[0]
    assert (held.waiting, held.limit) == (("long 6/8",), "5 jobs of a user stand in the queue at once in capacity")
    console = Console(file=io.StringIO(), width=80, highlight=False)
    print_plan(make_plan(load_campaign(tmp_path / "c.yaml")), console)
    assert "  (1 more wait: 5 jobs of a user stand in the queue" in console.file.getvalue()  # type: ignore[attr-defined]


def test_a_limit_from_memory_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    jobs = [Wanted(f"s{i}", "premium", ()) for i in range(6)]
    assert rounds(load_site("perlmutter"), jobs)[0].limit.endswith("at once in premium (unverified)")
