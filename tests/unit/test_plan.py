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

QUEUES = [
    {"name": "debug", "min_nodes": 1, "max_nodes": 16, "max_walltime_h": 1, "source": "manual, debug"},
    {"name": "prod", "min_nodes": 256, "max_nodes": 1024, "max_walltime_h": 6, "source": "manual, prod"},
    {"name": "big", "min_nodes": 1025, "max_nodes": 4000, "max_walltime_h": 24, "source": "manual, big"},
]


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    local = yaml.safe_load((Path(__file__).parents[2] / "sites" / "local.yaml").read_text())
    far = {**local, "nodes": 3000, "queues": QUEUES, "node": {**local["node"], "devices": 8}}
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
         "no queue takes 100 nodes (debug 1-16, prod 256-1024, big 1025-4000)", "manual, debug; manual, prod; manual, big",
         "on: {far: {nodes: 256}}"),
        ({"nodes": 12, "walltime": "03:00"},
         "03:00:00 asked, the longest job of 12 nodes is 01:00:00 (queue debug)", "manual, debug",
         "on: {far: {walltime: '01:00:00', links: 3}}"),
        ({"nodes": 3500, "walltime": "01:00"}, "3500 nodes asked, far has 3000", "site file of far",
         "on: {far: {nodes: 3000, links: 2}}"),
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
