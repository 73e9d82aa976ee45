"""`variants` fan a stage out; faults in them point at the line where the key stands."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from workflow.campaign import Campaign
from workflow.draft import draft_campaign, load_campaign
from workflow.errors import ConfigError
from workflow.instances import keys_of

GOOD = """\
name: v
branches: {a: {reader: extxyz, path: a.xyz}}
stages:
  data: {kind: convert}
  search:
    kind: hpo
    needs: [data]
    nodes: 2
    evaluations: 4
    space: {layers: 2}
    variants:
      one: {backbone: painn}
      two: {backbone: egnn, evaluations: 6, space: {hidden: 16}}
      three: {backbone: egnn, nodes: 1}
  best: {kind: promote, needs: [search], per: backbone, groups: 1}
  train: {kind: train, each: best}
"""


def load(folder: Path, text: str = GOOD) -> Campaign:
    (folder / "c.yaml").write_text(text)
    return load_campaign(folder / "c.yaml")


def faults(folder: Path, old: str, new: str) -> list[str]:
    assert old in GOOD
    (folder / "c.yaml").write_text(GOOD.replace(old, new))
    return [str(each) for each in draft_campaign(folder / "c.yaml").faults]


def test_each_variant_is_a_stage_with_its_keys_over_the_shared_ones(tmp_path: Path) -> None:
    stages = load(tmp_path).stages
    assert list(stages) == ["data", "search/one", "search/two", "search/three", "best", "train"]
    one, two, three = (stages[f"search/{name}"] for name in ("one", "two", "three"))
    assert (one.evaluations, two.evaluations, three.nodes, one.nodes) == (4, 6, 1, 2)
    assert set(two.space) == {"layers", "hidden"} and set(one.space) == {"layers"}
    assert one.variants == {}


def test_who_needs_the_stage_waits_for_all_variants(tmp_path: Path) -> None:
    campaign = load(tmp_path)
    assert campaign.stages["best"].needs == ("search/one", "search/two", "search/three")
    assert campaign.ancestors("train/1") == ["best", "search/one", "search/two", "search/three", "data"]
    assert [each.key for each in campaign.instances()][-1] == "train/1"  # one group of the two


def test_one_variant_can_be_needed_alone(tmp_path: Path) -> None:
    campaign = load(tmp_path, GOOD.replace("needs: [search], per: backbone, groups: 1", "needs: [search/two]"))
    assert campaign.stages["best"].needs == ("search/two",)


@pytest.mark.parametrize(
    ("old", "new", "line", "what"),
    [
        ("evaluations: 6", "evaluatoins: 6", 13, "stages.search.variants.two.evaluatoins: no key"),
        ("evaluations: 4", "evaluations: x", 9, "stages.search.evaluations: found 'x'"),
        ("one: {backbone: painn}", "one: {kind: train}", 12, "stages.search.variants.one.kind: a variant cannot change 'kind'"),
        ("one: {backbone: painn}", "'o e': {backbone: painn}", 12, "'o e' is no name for a variant"),
        ("    variants:\n", "    variants: 3\n    x:\n", 11, "stages.search.variants: not a mapping"),
        ("each: best", "each: best, variants: {a: {epochs: 1}}", 16, "both `each` and `variants`"),
        ("needs: [search]", "needs: [serch]", 15, "no stage 'serch'"),
    ],
)
def test_faults_point_at_the_line(tmp_path: Path, old: str, new: str, line: int, what: str) -> None:
    found = faults(tmp_path, old, new)
    assert any(f"c.yaml:{line}: " in each and what in each for each in found), found


def test_a_fault_of_a_shared_key_is_told_once(tmp_path: Path) -> None:
    assert len(faults(tmp_path, "evaluations: 4", "evaluatons: 4")) == 1


def test_a_name_that_would_share_a_folder_is_refused(tmp_path: Path) -> None:
    (fault,) = faults(tmp_path, "  best:", "  search-one: {kind: convert}\n  best:")
    assert "'search-one' would share a folder with 'search/one'" in fault


def test_sites_change_variants_too(tmp_path: Path) -> None:
    fields = yaml.safe_load(GOOD)
    fields["stages"]["search"]["variants"]["one"]["on"] = {"local": {"evaluations": 9}}
    fields["stages"]["search"]["on"] = {"local": {"links": 3}}
    spec = load(tmp_path, yaml.safe_dump(fields).replace("'on':", "on:")).stages["search/one"]
    assert (spec.evaluations, spec.links) == (9, 3)


def test_names_that_look_like_numbers_are_taken_as_written(tmp_path: Path) -> None:
    text = GOOD.replace("one: {backbone: painn}", "1: {backbone: painn}\n      01: {backbone: mace}")
    assert [name for name in load(tmp_path, text).stages if name[0] == "s"] == [
        "search/1",
        "search/01",
        "search/two",
        "search/three",
    ]
    found = faults(tmp_path, "one: {backbone: painn}", "1: {kind: train}")
    assert any("c.yaml:12: stages.search.variants.1.kind: a variant cannot change 'kind'" in each for each in found)


def test_each_takes_one_of_several_promotions(tmp_path: Path) -> None:
    fan = "best: {kind: promote, needs: [search], variants: {a: {top: 1}, b: {top: 2}}}"
    text = GOOD.replace("best: {kind: promote, needs: [search], per: backbone, groups: 1}", fan)
    (tmp_path / "c.yaml").write_text(text)
    found = [str(each) for each in draft_campaign(tmp_path / "c.yaml").faults]
    assert len(found) == 1
    assert "stages.train.each: 'best' has variants, of which each selects models" in found[0]
    assert "best/a, best/b" in found[0]
    named = load(tmp_path, text.replace("each: best", "each: best/b")).instances()
    assert [each.key for each in named][-2:] == ["train/1", "train/2"]


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("search-one: {kind: convert}", "'search-one' would share a folder with 'search/one'"),
        (
            "search-o: {kind: convert, variants: {ne: {}}}\n  search: {kind: convert, variants: {o-ne: {}}}",
            "would share a folder",
        ),
        ("x: {kind: train, variants: {1: {each: best}, 1-1: {needs: [best]}}}", "'x/1-1' would share a folder with 'x/1/1'"),
    ],
)
def test_no_two_stages_share_a_folder(name: str, other: str, tmp_path: Path) -> None:
    text = GOOD.replace("  train: {", f"  {name}\n  train: {{")
    if "o-ne" in name:
        text = text.replace("\n  search:\n", "\n  searches:\n").replace("needs: [search]", "needs: [searches]")
    (tmp_path / "c.yaml").write_text(text)
    assert any(other in str(each) for each in draft_campaign(tmp_path / "c.yaml").faults)


def test_variants_are_the_same_on_every_site(tmp_path: Path) -> None:
    found = faults(
        tmp_path, "train: {kind: train, each: best}", "train: {kind: train, each: best, on: {frontier: {variants: {a: {}}}}}"
    )
    assert any("stages.train.on.frontier.variants: a site cannot change 'variants'" in each for each in found)


def test_an_empty_name_means_no_stage(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no stage ''"):
        keys_of(load(tmp_path), "", "approve")
