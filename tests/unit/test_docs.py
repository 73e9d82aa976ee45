"""The manual says nothing that is not so: its files are checked, its commands parsed, its made pages hold every key."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from manual import campaign as campaign_page
from manual import commands as commands_page
from manual import datasets as datasets_page
from manual import keys as keys_page
from manual import site as site_page
from model.config import BlendConfig, FinetuneConfig, LeakageConfig, TrainConfig
from model.registry import backbone_config, backbones, reader, readers
from model.specs import BranchSpec, Division, LossSpec, ModelSpec, OptimizerSpec, Owner
from workflow.campaign import Header, stage_kind, stage_kinds
from workflow.check import check_campaign
from workflow.cli import campaign
from workflow.document import read_document
from workflow.keys import records_of
from workflow.site import Site, load_site, merge, site_names
from workflow.stages._recipe import OWN_KEYS
from workflow.stages.base import StageSpec

ROOT = Path(__file__).parents[2]
PAGES = sorted([*(ROOT / "docs").rglob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"])
_FENCE = re.compile(r"^( *)(`{3,})(\w+)?(?: title=\"([^\"]+)\")?\n(.*?)^\1\2$", re.M | re.S)
_OVERLAY = re.compile(r"~/\.config/campaign/sites/(\w+)\.yaml")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: Path
    language: str
    title: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}: {self.title or self.text.splitlines()[0][:40]}"


def blocks(page: Path, language: str) -> Iterator[Block]:
    for _, _, found, title, text in _FENCE.findall(page.read_text()):
        if found == language:
            yield Block(page, found, title, text)


SET_BY_STAGES = (Owner, BranchSpec, Division)
YAML = [each for page in PAGES for each in blocks(page, "yaml") if " with " not in each.title]
"""Files with a plug-in of the extending pages are carried out by `tests/integration/test_extending.py`."""
CONSOLE = [each for page in PAGES for each in blocks(page, "console")]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    (tmp_path / "sites").mkdir()
    monkeypatch.setenv("CAMPAIGN_SITES", str(tmp_path / "sites"))
    return tmp_path


def lay_out(page: Path, home: Path) -> None:
    """Write the overlays and site files that a page shows to where it says they go."""
    overlays = home / "config" / "campaign" / "sites"
    overlays.mkdir(parents=True, exist_ok=True)
    for block in blocks(page, "yaml"):
        if found := _OVERLAY.fullmatch(block.title):
            path = overlays / f"{found[1]}.yaml"
            earlier = yaml.safe_load(path.read_text()) if path.exists() else {}
            path.write_text(yaml.safe_dump(merge(earlier, yaml.safe_load(block.text))))
        elif block.title.startswith("sites/"):
            (home / block.title).write_text(block.text)


def read(block: Block, home: Path) -> dict[str, Any]:
    """Read a block as campaign files are read: `on` is no truth value there."""
    (home / "block.yaml").write_text(block.text)
    return read_document(home / "block.yaml", "").fields


def whole(block: Block, home: Path) -> Path:
    """Write the campaign file that a block is, or makes of a template."""
    path = home / "my.yaml"
    if block.title.startswith("in "):
        template = read_document(ROOT / "campaigns" / block.title.removeprefix("in "), "").fields
        path.write_text(yaml.safe_dump(merge(template, read(block, home)), sort_keys=False))
    else:
        path.write_text(block.text)
    return path


@pytest.mark.parametrize("block", YAML, ids=str)
def test_every_yaml_block_is_what_it_says(block: Block, home: Path) -> None:
    lay_out(block.page, home)
    if found := _OVERLAY.fullmatch(block.title):
        assert load_site(found[1]).name == found[1]
    elif block.title.startswith("sites/"):
        assert load_site(Path(block.title).stem)
    elif block.title == "leakage.yaml":
        assert LeakageConfig.model_validate(yaml.safe_load(block.text)).against
    else:
        assert block.title == "my.yaml" or block.title.startswith("in "), "say which file this is"
        path = whole(block, home)
        stages = read(block, home)["stages"].values()
        for site in {
            read_document(path, "").fields.get("site", "local"),
            *(name for each in stages for name in each.get("on", {})),
        }:
            problems = check_campaign(path, site, elsewhere=True, models=False).problems
            assert [str(each) for each in problems] == []


def commands(block: Block) -> Iterator[list[str]]:
    for line in block.text.splitlines():
        if line.startswith("$ campaign "):
            yield shlex.split(line.removeprefix("$ campaign "), comments=True)


@pytest.mark.parametrize("block", CONSOLE, ids=str)
def test_every_command_of_a_console_block_can_be_given(block: Block) -> None:
    for words in commands(block):
        parsed(campaign, words[: words.index(">")] if ">" in words else words)


def parsed(command: click.Command, words: list[str]) -> None:
    """Let click parse a command line without running it; a mistake raises."""
    context = command.make_context(command.name, list(words), resilient_parsing=False)
    if isinstance(command, click.Group):
        name, inner, left = command.resolve_command(context, [*context._protected_args, *context.args])
        assert inner is not None, name
        parsed(inner, left)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_in_the_text_exist(page: Path) -> None:
    named = re.findall(r"`campaign ((?:[a-z]+ ?){1,2})", page.read_text())
    strange = [words for words in (each.split() for each in named) if words[0] not in campaign.commands]
    assert strange == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_stands_alone(page: Path) -> None:
    text = page.read_text()
    assert not re.search(r"/work/|\.\./shared|facts/|not there yet|this version brings|come next", text, re.I)
    for path in re.findall(r"\]\((?!https?:|#|mailto:)([^)#]+)", text):
        made = (page.parent / path).resolve().relative_to(ROOT / "docs") if (ROOT / "docs") in page.parents else None
        assert (page.parent / path).exists() or str(made) in MADE, path


MADE = {
    "reference/campaign.md": campaign_page.page,
    "reference/site.md": site_page.page,
    "reference/commands.md": commands_page.page,
    "reference/datasets.md": datasets_page.page,
    "facilities/figures.md": site_page.figures,
}


def rows(text: str) -> dict[str, list[str]]:
    """Return the first column's keys under each heading."""
    found: dict[str, list[str]] = {}
    heading = ""
    for line in text.splitlines():
        if line.startswith("#"):
            heading = line.lstrip("# ")
        elif line.startswith("| `"):
            found.setdefault(heading, []).append(line.split("`")[1])
    return found


def test_the_campaign_page_has_every_key() -> None:
    """Every key of every record that a file may hold stands in a table, with its meaning."""
    text = campaign_page.page()
    kinds = [stage_kind(name).Spec for name in stage_kinds()]
    every = dict.fromkeys(each for top in (Header, *kinds) for each in records_of(top))
    records: list[Any] = [each for each in every if each not in SET_BY_STAGES]
    table = rows(text)
    told = {key for keys in table.values() for key in keys}
    for record in records:
        passed_on = record in (TrainConfig, FinetuneConfig, BlendConfig)
        for key, info in record.model_fields.items():
            if passed_on and key in OWN_KEYS:
                continue
            assert key in told, f"{record.__name__}.{key}"
            assert (info.description or "").replace("|", "\\|") in text
    for kind in stage_kinds():
        own = [key for key in stage_kind(kind).Spec.model_fields if key not in StageSpec.model_fields]
        assert table.get(kind, []) == own
    for name in backbones():
        assert table[name] == [key for key in backbone_config(name).model_fields if key != "name"]
    for title, record in (("Model", ModelSpec), ("Loss", LossSpec), ("Optimizer", OptimizerSpec)):
        assert table[title] == list(record.model_fields)


def test_units_name_keys_that_exist() -> None:
    known = {
        record.__name__: record
        for top in (Header, Site, *(stage_kind(n).Spec for n in stage_kinds()))
        for record in records_of(top)
    }
    known["StageSpec"] = StageSpec
    assert [each for each in keys_page.UNITS if each[1] not in known[each[0]].model_fields] == []
    assert keys_page.unit(Site, "poll_s") == "s" and keys_page.unit(ModelSpec, "cutoff") == "Å"
    assert keys_page.unit(stage_kind("train").Spec, "walltime") == "HH:MM[:SS]"


def test_the_site_page_has_every_key() -> None:
    told = {key for keys in rows(site_page.page()).values() for key in keys}
    assert {key for record in records_of(Site) for key in record.model_fields} <= told


def test_the_figures_page_has_every_queue_and_what_is_unverified() -> None:
    text = site_page.figures()
    for name in ("frontier", "aurora", "perlmutter", "local"):
        site = load_site(name)
        assert f"## {name}" in text
        assert all(f"`{queue.name}`" in text for queue in site.queues)
        assert all(f"- `{key}`: {reason}" in text for key, reason in site.unverified.items())
    assert set(site_names()) >= {"frontier", "aurora", "perlmutter", "local"}


def test_the_commands_page_has_every_command() -> None:
    text = commands_page.page()
    for name, command in campaign.commands.items():
        assert f"## campaign {name}\n" in text
        for inner in command.commands if isinstance(command, click.Group) else ():
            assert f"### campaign {name} {inner}\n" in text


def test_the_data_sets_page_has_every_reader() -> None:
    text = datasets_page.page()
    for name in readers():
        assert f"### {name}\n" in text
        assert all(f"| `{key}` |" in text for key in reader(name).Config.model_fields)
