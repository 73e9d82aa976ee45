"""Plans: node-hours, queues, refusals, and that the offered block really fits."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from workflow.draft import load_campaign
from workflow.plan import Plan, make_plan
from workflow.stages.base import walltime_text

ROOT = Path(__file__).parents[2]
QUEUES = [
    {"name": "debug", "min_nodes": 1, "max_nodes": 16, "max_walltime_h": 1, "source": "manual, debug"},
    {"name": "prod", "min_nodes": 256, "max_nodes": 1024, "max_walltime_h": 6, "source": "manual, prod"},
    {"name": "big", "min_nodes": 1025, "max_nodes": 4000, "max_walltime_h": 24, "source": "manual, big"},
    {
        "name": "scaling",
        "min_nodes": 2,
        "max_nodes": 300,
        "max_walltime_h": 1,
        "asked_for": True,
        "chains": False,
        "source": "manual, scaling",
    },
]


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    local = yaml.safe_load((ROOT / "sites" / "local.yaml").read_text())
    far = {**local, "nodes": 3000, "queues": QUEUES, "node": {**local["node"], "devices": 8}}
    far = {name: each for name, each in far.items() if name not in ("sources", "unverified")}
    (tmp_path / "far.yaml").write_text(yaml.safe_dump(far))
    monkeypatch.setenv("CAMPAIGN_SITES", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path


def plan(world: Path, **keys: object) -> Plan:
    fields = {
        "name": "p",
        "site": "far",
        "branches": {"a": {"reader": "extxyz", "path": "a"}},
        "stages": {"train": {"kind": "train", "backbone": "painn", **keys}},
    }
    (world / "c.yaml").write_text(yaml.safe_dump(fields))
    return make_plan(load_campaign(world / "c.yaml"))


def test_node_hours_are_links_times_nodes_times_hours(world: Path) -> None:
    (stage,) = plan(world, nodes=300, spares=4, links=3, walltime="02:30").stages
    assert (stage.node_hours, stage.ranks, stage.queue, stage.refusals) == (300 * 3 * 2.5, 296 * 8, "prod", ())


def test_the_first_queue_that_takes_a_job_is_named(world: Path) -> None:
    assert plan(world, nodes=10, walltime="00:30").stages[0].queue == "debug"
    assert plan(world, nodes=1500, walltime="20:00").stages[0].queue == "big"


@pytest.mark.parametrize(
    ("keys", "rule", "source", "block"),
    [
        ({"nodes": 100, "walltime": "00:30"},
         "no queue takes 100 nodes (debug 1-16, prod 256-1024, big 1025-4000); `queue: scaling` does, for 01:00:00",
         "manual, debug; manual, prod; manual, big",
         "on: {far: {nodes: 256}}"),
        ({"nodes": 12, "walltime": "03:00"},
         "03:00:00 asked, the longest job of 12 nodes is 01:00:00 (queue debug)", "manual, debug",
         "on: {far: {walltime: '01:00:00', links: 3}}"),
        ({"nodes": 3500, "walltime": "01:00"}, "3500 nodes asked, far has 3000", "site file of far",
         "on: {far: {nodes: 3000, links: 2}}"),
        ({"nodes": 100, "walltime": "00:30", "links": 3, "queue": "scaling"},
         "a chain of 3 jobs asked, queue scaling takes no chains", "manual, scaling", "on: {far: {links: 1}}"),
        ({"nodes": 100, "walltime": "00:30", "queue": "scalng"},
         "no queue 'scalng' (debug, prod, big, scaling)", "site file of far", "on: {far: {nodes: 256, queue: null}}"),
        ({"nodes": 100, "walltime": "02:00", "queue": "scaling"},
         "02:00:00 asked, the longest job of 100 nodes is 01:00:00 (queue scaling)", "manual, scaling",
         "on: {far: {walltime: '01:00:00'}}"),
        ({"nodes": 4, "spares": 4, "walltime": "00:30"}, "4 spare of 4 nodes leave none to work on",
         "spares are part of a job's nodes", "on: {far: {spares: 3}}"),
    ],
)  # fmt: skip
def test_a_refusal_names_the_rule_its_source_and_what_fits(
    world: Path, keys: dict[str, object], rule: str, source: str, block: str
) -> None:
    made = plan(world, **keys)
    (refusal,) = made.stages[0].refusals
    assert (refusal.rule, refusal.source, refusal.block("far")) == (rule, source, block)
    assert made.refused


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(nodes=st.integers(1, 9000), minutes=st.integers(1, 6000), links=st.integers(1, 4), spares=st.integers(0, 9))
def test_the_offered_block_is_taken_and_gives_no_less_work(
    world: Path, nodes: int, minutes: int, links: int, spares: int
) -> None:
    asked = {"nodes": nodes, "walltime": walltime_text(60.0 * minutes), "links": links, "spares": spares}
    made = plan(world, **asked)
    if not made.refused:
        return
    (refusal,) = made.stages[0].refusals
    on = yaml.safe_load(refusal.block("far").removeprefix("on: "))
    again = plan(world, **asked, on=on)
    assert not again.refused, (asked, refusal)
    assert again.node_hours >= made.node_hours * 0.999 or refusal.key == "spares"


def test_stages_beyond_the_budget_are_named(world: Path) -> None:
    fields = {
        "name": "p",
        "site": "far",
        "budget": {"node_hours": 12},
        "branches": {"a": {"reader": "extxyz", "path": "a"}},
        "stages": {name: {"kind": "train", "backbone": "painn", "nodes": 10, "walltime": "01:00"} for name in ("a", "b")},
    }
    (world / "c.yaml").write_text(yaml.safe_dump(fields))
    made = make_plan(load_campaign(world / "c.yaml"))
    assert made.node_hours == 20
    assert made.beyond_budget() == ["b"]


def test_a_queue_on_request_is_taken_only_where_it_is_named(world: Path) -> None:
    assert plan(world, nodes=300, walltime="00:30").stages[0].queue == "prod"
    assert plan(world, nodes=100, walltime="00:30", queue="scaling").stages[0].queue == "scaling"


def test_a_job_shorter_than_the_shortest_is_refused(world: Path) -> None:
    far = yaml.safe_load((world / "far.yaml").read_text())
    far["queues"] = [{**QUEUES[1], "min_walltime_h": 0.0833}]
    (world / "far.yaml").write_text(yaml.safe_dump(far))
    (refusal,) = plan(world, nodes=300, walltime="00:02").stages[0].refusals
    assert refusal.rule == "00:02:00 asked, the shortest job of 300 nodes is 00:05:00 (queue prod)"
    assert refusal.fits == {"walltime": "00:05:00"}


def test_what_a_stage_stages_and_fits_is_planned(world: Path) -> None:
    keys = {
        "kind": "hpo",
        "nodes": 1024,
        "spares": 24,
        "walltime": "06:00",
        "links": 2,
        "evaluations": 30,
        "trial": {"nodes": 250},
    }
    made = plan(world, **keys)
    stage, margin = made.stages[0], made.site.periods.stop_margin_s
    assert margin > 0 and stage.working_s == 6 * 3600 - margin, "what is left for checkpoints is no time for trials"
    assert (stage.slots, stage.trial_s, stage.devices, stage.ranks) == (4, 2 * (6 * 3600 - margin) / 8, 8192, 8000)
    assert (stage.reads, stage.staged_bytes) == (("a",), None)  # nobody knows how much an extxyz file holds
    small = plan(world, **{**keys, "trial": {"nodes": 1001}}).stages[0]
    assert small.refusals[0].key == "trial" and small.refusals[0].fits == {"trial": {"nodes": 1000}}


def test_parts_of_a_published_set_are_counted_once(world: Path) -> None:
    parts = {name: {"reader": "omol25", "path": "o", "options": {"subset": name}} for name in ("neutral_singlet", "rest")}
    limited = {"m": {"reader": "mptrj", "path": "m", "limit": 1000}, "x": {"reader": "extxyz", "path": "x"}}
    fields = {"name": "p", "site": "far", "branches": {**parts, **limited}, "stages": {"data": {"kind": "convert"}}}
    (world / "c.yaml").write_text(yaml.safe_dump({**fields, "paper": {"title": "t", "structures": 5e8}}))
    made = make_plan(load_campaign(world / "c.yaml"))
    assert (made.data.branches, made.data.unique, made.data.unknown) == (4, 101_666_280 + 1000, ("x",))
    assert made.paper is not None and made.paper.structures == 5e8


REFUSED: dict[tuple[str, str], str] = {}
"""Of the files that ship and the sites that ship: which site refuses which file, and why. None does."""


@pytest.mark.parametrize("site", [path.stem for path in sorted((ROOT / "sites").glob("*.yaml"))])
@pytest.mark.parametrize("file", [path.stem for path in sorted((ROOT / "campaigns").glob("*.yaml"))])
def test_every_file_that_ships_fits_every_site(file: str, site: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    made = make_plan(load_campaign(ROOT / "campaigns" / f"{file}.yaml", site))
    rules = "; ".join(f"{stage.name}: {each.rule}" for stage in made.stages for each in stage.refusals)
    assert rules == REFUSED.get((file, site), "")
    assert made.beyond_budget() == [], "nothing is held before a person has seen it"
