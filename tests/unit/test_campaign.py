"""Reading a campaign file: resolution for a site, the graph of stages, plain YAML."""

from __future__ import annotations

from pathlib import Path

import pytest

from workflow.document import read_document
from workflow.draft import load_campaign
from workflow.errors import ConfigError

TEXT = """\
name: first
branches: {a: {reader: extxyz, path: a.xyz}}
stages:
  data: {kind: convert, devices: 3, on: {local: {nodes: 2}}}
  find: {kind: hpo, needs: [data], backbone: painn}
  other: {kind: hpo, needs: [data], backbone: egnn}
  best: {kind: promote, needs: [find, other], top: 2, per: backbone}
  train: {kind: train, each: best, needs: [data], walltime: 06:00}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "campaign.yaml"
    path.write_text(TEXT)
    return path


def test_instances_come_in_order_and_fan_out(file: Path) -> None:
    instances = load_campaign(file).instances()
    assert [each.key for each in instances] == ["data", "find", "other", "best", "train/1", "train/2", "train/3", "train/4"]
    assert instances[-1].needs == ("data", "best")
    assert instances[-1].number == 4


def test_ancestors_are_those_needed_directly_or_not(file: Path) -> None:
    assert set(load_campaign(file).ancestors("train/2")) == {"data", "find", "other", "best"}


def test_a_site_may_count_in_nodes_what_the_file_counts_in_devices(file: Path) -> None:
    assert load_campaign(file).stages["data"].nodes == 2
    file.write_text(TEXT.replace(", on: {local: {nodes: 2}}", ""))
    assert load_campaign(file).stages["data"].nodes == 3


def test_a_walltime_needs_no_quotes(file: Path) -> None:
    assert load_campaign(file).stages["train"].walltime_s == 6 * 3600


def test_files_are_taken_from_the_folder_of_the_campaign(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_campaign(file).files("a") == (file.parent / "a.xyz",)
    monkeypatch.setenv("HOME", "/home/someone")
    file.write_text(TEXT.replace("path: a.xyz", "path: [~/b.xyz, /c.xyz]"))
    assert load_campaign(file).files("a") == (Path("/home/someone/b.xyz"), Path("/c.xyz"))


def test_a_load_tells_the_first_fault_and_counts_the_others(file: Path) -> None:
    file.write_text(TEXT.replace("kind: convert", "kind: convrt").replace("backbone: egnn", "bckbone: egnn"))
    with pytest.raises(ConfigError) as caught:
        load_campaign(file)
    assert caught.value.where == f"{file}:4: stages.data.kind"
    assert caught.value.remedy.endswith(f"1 more: `campaign check {file}` lists them.")


def test_nodes_and_devices_at_once_are_refused(file: Path) -> None:
    file.write_text(TEXT.replace("devices: 3, on: {local: {nodes: 2}}", "devices: 3, nodes: 2"))
    with pytest.raises(ConfigError, match="both nodes and devices are given"):
        load_campaign(file)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("06:00", "06:00"), ("on", "on"), ("yes", "yes"), ("1e-3", 0.001), ("100_000", 100_000), ("010", 10), ("-.5", -0.5),
        ("true", True), ("~", None), ("2026-01-01", "2026-01-01"), ('"3"', "3"), (".inf", float("inf")),
    ],
)  # fmt: skip
def test_plain_scalars_are_those_of_yaml_1_2(tmp_path: Path, text: str, value: object) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(f"key: {text}\n")
    assert read_document(file, "").fields == {"key": value}


@pytest.mark.parametrize("text", ["a: &a [*a]\n", "a: &a {b: *a}\n"])
def test_an_alias_inside_itself_does_not_hang(tmp_path: Path, text: str) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(text)
    assert "a" in read_document(file, "").fields


@pytest.mark.parametrize(
    ("first", "level"), [("[x, x]", "[{}]"), ("{k: v}", "{{<<: [{}], k{n}: 1}}"), ("{k: v}", "[{{a: [{}]}}]")]
)
def test_a_bomb_of_aliases_is_refused_in_no_time(tmp_path: Path, first: str, level: str) -> None:
    levels = [f"l{n}: &l{n} " + level.format(", ".join([f"*l{n - 1}"] * 9), n=n) for n in range(1, 30)]
    file = tmp_path / "a.yaml"
    file.write_text("\n".join([f"l0: &l0 {first}", *levels]))
    with pytest.raises(ConfigError, match="beyond measure"):
        read_document(file, "")


def test_aliases_of_a_real_file_are_read(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("one: &one {a: 1, b: [1, 2]}\nmany: [" + ", ".join(["*one"] * 5000) + "]\ntwo: {<<: *one, a: 2}\n")
    fields = read_document(file, "").fields
    assert len(fields["many"]) == 5000 and fields["two"] == {"a": 2, "b": [1, 2]}


def test_a_number_beyond_all_numbers_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("a: 1\nb: " + "9" * 5000 + "\n")
    with pytest.raises(ConfigError, match="a number of 5000 digits") as caught:
        read_document(file, "")
    assert caught.value.where == f"{file}:2"


@pytest.mark.parametrize("text", ["!!python/object/apply:os.system [true]", "key: !!python/name:os.system"])
def test_yaml_makes_no_objects(tmp_path: Path, text: str) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match="not valid YAML"):
        read_document(file, "")


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "just words", b"\xff\xfe\x00"])
def test_what_is_no_mapping_is_refused(tmp_path: Path, text: str | bytes) -> None:
    file = tmp_path / "a.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError):
        read_document(file, "")
