"""Site files: the user's overlay, the folder of one's own, and what is said of a faulty one."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from workflow.batch.scheduler import for_site
from workflow.check import check_campaign
from workflow.errors import SiteError
from workflow.site import load_site, site_names
from workflow.site_facts import figures
from workflow.stages.site_test import _cores


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("CAMPAIGN_SITES", raising=False)
    folder = tmp_path / "campaign" / "sites"
    folder.mkdir(parents=True)
    return folder


def test_an_overlay_is_merged_key_by_key(config: Path) -> None:
    (config / "local.yaml").write_text("account: me\nnode: {cores: 7}\npaths: {data: /data}\n")
    site = load_site("local")
    assert (site.account, site.node.cores, site.node.devices, site.paths) == ("me", 7, 1, {"data": "/data"})


def test_what_an_overlay_states_is_marked_as_the_users_own(config: Path) -> None:
    (config / "frontier.yaml").write_text("account: A1\nnode: {local_gb: 7}\nenvironment: {NCCL_DEBUG: INFO}\n")
    found = {each.key: each for each in figures(load_site("frontier"))}
    assert {key for key, each in found.items() if each.mark == "yours"} == {"node.local_gb", "environment.NCCL_DEBUG"}
    assert (found["node.local_gb"].value, found["node.local_gb"].source) == (7.0, "from your overlay")
    assert found["node.cores"].source.startswith("Frontier User Guide")


def test_cores_of_a_rank_are_those_it_is_bound_to(config: Path) -> None:
    aurora, frontier = load_site("aurora").node, load_site("frontier").node
    assert [aurora.cores_of(ranks) for ranks in (12, 6, 5, 1, 24)] == [4, 8, 8, 48, 4]
    assert aurora.binding(6)[0] == "4-7,8-11" and aurora.binding(24) == ()
    assert [frontier.cores_of(ranks) for ranks in (8, 1, 100)] == [7, 56, 1]


def test_a_site_test_asks_for_the_cores_that_ranks_are_bound_to(config: Path) -> None:
    """Ranks on Aurora are bound to four cores each, though twelve of them could have eight."""
    site = load_site("aurora")
    allocation = SimpleNamespace(request=SimpleNamespace(site=site.model_dump(mode="json")), devices_per_node=site.node.devices)
    bound = [range(int(first), int(last) + 1) for first, last in (each.split("-") for each in site.node.bind)]

    def found(*lists: Iterable[int]) -> dict[str, Any]:
        ranks = [{"node": "a", "rank": rank, "local_rank": rank, "cores": list(each)} for rank, each in enumerate(lists)]
        return _cores(allocation, ranks)

    right = found(*bound)
    assert right["ok"] and right["verifies"] == ["node.cores", "node.bind"]
    assert not found([4, 5, 6], *bound[1:])["ok"]
    assert not found(bound[1], *bound[1:])["ok"]
    astray = found(bound[1], bound[0], *bound[2:])  # as many, none shared: each on the other's, far from its device
    assert not astray["ok"] and "2 ranks not on their list, first rank 0: 8,9,10,11, not 4-7" in astray["seen"]
    assert not found(*(range(8 * rank + 1, 8 * rank + 5) for rank in range(12)))["ok"]


def test_cores_without_lists_say_nothing_of_lists(config: Path) -> None:
    site = load_site("frontier")
    allocation = SimpleNamespace(request=SimpleNamespace(site=site.model_dump(mode="json")), devices_per_node=8)
    ranks = [
        {"node": "a", "rank": rank, "local_rank": rank, "cores": list(range(8 * rank + 1, 8 * rank + 8))} for rank in range(8)
    ]
    check = _cores(allocation, ranks)
    assert check["ok"] and check["verifies"] == ["node.cores"]


@pytest.mark.parametrize("lists", ['["1-"]', '["8-1"]', '["a"]', '["1-2,"]', '[""]'])
def test_a_core_list_that_is_none_is_refused(config: Path, lists: str) -> None:
    (config / "aurora.yaml").write_text(f"node: {{bind: {lists}}}\n")
    with pytest.raises(SiteError, match="node.bind"):
        load_site("aurora")


def test_a_folder_of_ones_own_comes_first(config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "own"
    own.mkdir()
    packaged = Path(__file__).parents[2] / "sites" / "local.yaml"
    (own / "mine.yaml").write_text(packaged.read_text().replace("nodes: 2", "nodes: 5"))
    monkeypatch.setenv("CAMPAIGN_SITES", str(own))
    assert {"mine", "local"} <= set(site_names())
    assert load_site("mine").nodes == 5


def test_a_faulty_overlay_is_told_with_its_file_and_key(config: Path) -> None:
    (config / "local.yaml").write_text("node: {coers: 7}\n")
    with pytest.raises(SiteError) as caught:
        load_site("local")
    assert caught.value.what == "no key 'coers' here"
    assert f"(with {config / 'local.yaml'}): node.coers" in caught.value.where
    assert caught.value.remedy.startswith("Did you mean 'cores'?")


def test_an_unknown_site_is_answered_with_the_nearest(config: Path) -> None:
    with pytest.raises(SiteError, match="Did you mean 'local'"):
        load_site("lcal")


@pytest.mark.parametrize("name", site_names())
def test_every_packaged_site_loads(name: str, config: Path) -> None:
    assert load_site(name).name == name


@pytest.mark.parametrize("text", ["", "# nodes: 7\n"])
def test_an_overlay_of_comments_changes_nothing(config: Path, text: str) -> None:
    (config / "local.yaml").write_text(text)
    assert load_site("local").nodes == 2


def test_a_node_local_folder_of_unknown_parts_is_refused(config: Path) -> None:
    (config / "local.yaml").write_text('node: {local: "/tmp/{jobid}"}\n')
    with pytest.raises(SiteError, match="nothing is known to fill in for {jobid}"):
        load_site("local")


@pytest.mark.parametrize("options", ["{spol: x}", "{kill_wait_s: soon}", "{kill_wait_s: -1}"])
def test_a_batch_systems_options_are_typed(config: Path, options: str, tmp_path: Path) -> None:
    (config / "local.yaml").write_text(f"scheduler: {{options: {options}}}\n")
    with pytest.raises(SiteError, match=r"scheduler\.options\.(spol|kill_wait_s)"):
        for_site(load_site("local"))
    (tmp_path / "a.yaml").write_text("name: a\nbranches: {}\nstages: {data: {kind: convert}}\n")
    report = check_campaign(tmp_path / "a.yaml", models=False)
    assert any("scheduler.options" in each.where for each in report.problems)


def test_a_site_has_the_name_of_its_file(config: Path) -> None:
    (config / "local.yaml").write_text("name: aurora\n")
    with pytest.raises(SiteError, match="this is site 'local', not 'aurora'"):
        load_site("local")


def test_a_short_job_keeps_half_of_its_time_to_work_in() -> None:
    periods = load_site("frontier").periods
    assert (periods.margin_s(300), periods.margin_s(1800), periods.margin_s(43200)) == (150, 600, 600)
