"""The templates: each is checked, planned on every site, and explains its keys; a copy names its schema for editors."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result
from jsonschema import Draft202012Validator

from workflow.cli import campaign
from workflow.document import read_document
from workflow.draft import load_campaign
from workflow.plan import make_plan
from workflow.templates import templates, write_template

EXPLAINED = ("quickstart", "hpo", "pretrain", "finetune", "screen", "multitask")
NAMED = {"branches", "sources", "stages"}
OF_THEMSELVES = {*NAMED, "kind", "needs", "path", "reader", "epochs", "walltime", "nodes"}
ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*args: str, code: int = 0) -> Result:
    result = CliRunner().invoke(campaign, list(args))
    assert result.exit_code == code, result.output + repr(result.exception)
    return result


def test_the_list_says_what_each_is_for() -> None:
    lines = run("init").output.splitlines()
    assert set(EXPLAINED) <= {line.split()[0] for line in lines}
    assert all(len(line.split()) > 4 for line in lines)


@pytest.mark.parametrize("name", templates())
def test_it_is_checked_and_planned_where_it_was_written(name: str) -> None:
    run("init", name)
    assert run("check", f"{name}.yaml", "--elsewhere", "--no-models").output.endswith("nothing wrong\n")
    if name in EXPLAINED:
        run("plan", f"{name}.yaml")
        assert not make_plan(load_campaign(Path(f"{name}.yaml"), "local")).beyond_budget()


@pytest.mark.parametrize("site", ["local", "frontier", "aurora", "perlmutter"])
@pytest.mark.parametrize("name", [name for name in EXPLAINED if name != "quickstart"])  # whose jobs last seconds on purpose
def test_every_site_takes_it(name: str, site: str) -> None:
    run("init", name)
    run("plan", f"{name}.yaml", "--site", site)


@pytest.mark.parametrize("name", EXPLAINED)
def test_every_key_is_explained_somewhere_in_the_file(name: str) -> None:
    """A comment stands on the line of a key or of what holds it; one place is enough."""
    document = read_document(ROOT / "campaigns" / f"{name}.yaml", "")
    text = (ROOT / "campaigns" / f"{name}.yaml").read_text().splitlines()
    ways = [way for way in document.lines if len(way) == 1 or (len(way) == 3 and way[0] in NAMED)]
    told = {way[-1]: False for way in ways}
    for way in ways:
        line, above = document.lines[way], document.lines.get(way[:-1], document.lines[way])
        told[way[-1]] |= "#" in text[line - 1] or "#" in text[above - 1] or text[line - 2].startswith("#")
    assert [key for key, is_told in told.items() if not is_told and key not in OF_THEMSELVES] == []


def test_a_copy_names_its_schema(home: Path) -> None:
    run("init", "hpo", "--schema", "--into", "mine.yaml")
    assert Path("mine.yaml").read_text().startswith("# yaml-language-server: $schema=campaign.schema.json\n# Search ")
    schema = json.loads(Path("campaign.schema.json").read_text())
    assert not list(Draft202012Validator(schema).iter_errors(read_document(Path("mine.yaml"), "").fields))
    assert json.loads(run("schema").output) == schema
    run("schema", "--into", "other.json")
    assert Path("other.json").read_text() == Path("campaign.schema.json").read_text()
    assert "no such folder" in run("schema", "--into", "none/other.json", code=2).stderr


def test_a_copy_differs_from_what_ships_in_its_paths_and_its_name_only(home: Path) -> None:
    for name in EXPLAINED:
        text = (ROOT / "campaigns" / f"{name}.yaml").read_text().replace('"../', '"')
        for file, title in (
            (f"{name}.yaml", yaml.safe_load(text)["name"]),
            ("copy-2.yaml", "copy-2"),
            ("2024.yaml", "2024"),
            ("null.yaml", "null"),
        ):
            copy = yaml.safe_load(write_template(name, home / file, force=True).read_text())
            assert copy == {**yaml.safe_load(text), "name": title}


def test_a_copy_whose_file_is_no_name_of_a_campaign_keeps_its_own(home: Path) -> None:
    assert yaml.safe_load(write_template("hpo", home / "my search.yaml", force=True).read_text())["name"] == "hpo"


def test_missing_data_of_a_template_is_answered_with_how_to_make_it(home: Path) -> None:
    run("init", "screen")
    text = run("check", "screen.yaml", "--no-models", code=2).stderr
    assert f"  Make it, in seconds: python -m model.data.quickstart {home / 'quickstart-data'}\n" in text
