"""A checkpoint is whole or not there, and never loads into something that it does not fit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from model import checkpoint
from model.checkpoint import GroupState, Meta
from model.data.references import References
from model.multitask import MultiTaskModel, Statistics
from model.outcome import CampaignError
from model.parallel import Ranks
from model.precision import apply
from model.specs import ModelSpec, Owner, Splits
from model.training.saving import Saver

SPEC = ModelSpec(backbone={"name": "painn", "layers": 1, "hidden": 4}, head_hidden=4)
STATISTICS = Statistics(12.3, (0.1, 1 / 3), 0.7)
REFERENCES = References({1: -13.6, 8: -2000.1}, 0.2, 1.1, 10, 2, Splits())


def model_of(spec: ModelSpec = SPEC, seed: int = 1) -> MultiTaskModel:
    model = MultiTaskModel(spec, ("a", "b"), STATISTICS, seed=seed)
    apply(model, "fp64")
    return model


def groups_of(model: MultiTaskModel, *, average: float | None = None) -> dict[str, GroupState]:
    states = {}
    for group, named in model.parameter_groups().items():
        named = sorted(named, key=lambda item: item[0])
        flat = torch.cat([p.detach().flatten() for _, p in named])
        kept = None if average is None else torch.full_like(flat, average)
        states[group] = GroupState(tuple(n for n, _ in named), tuple(tuple(p.shape) for _, p in named), flat, flat, flat, kept)
    return states


def save(folder: Path, groups: dict[str, GroupState], owner: Owner | None = None) -> None:
    saver = Saver(Ranks(), owner)
    saver.begin([folder], groups, META)
    saver.close()


META = Meta(SPEC, ("a", "b"), STATISTICS, "fp64", {"a": REFERENCES, "b": None}, Splits(), {"batch": 7}, 3, 40, 0.1 + 0.2)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save(tmp_path / "last", groups_of(model_of()))
    return tmp_path / "last"


@pytest.mark.parametrize("readout", ["atom", "graph"])
def test_it_says_whether_energies_are_size_extensive(readout: str) -> None:
    meta = replace(META, spec=SPEC.model_copy(update={"readout": readout}))
    fields = meta.to_json()
    assert fields["is_size_extensive"] is (readout == "atom")
    assert Meta.from_json(fields) == meta


def test_a_model_comes_back_bit_for_bit(saved: Path) -> None:
    model, meta = checkpoint.load_model(saved)
    for name, value in model_of().state_dict().items():
        assert torch.equal(value, model.state_dict()[name]), name
    assert replace(meta, files={}) == META
    single, _ = checkpoint.load_model(saved, precision="fp32")
    assert next(single.parameters()).dtype == torch.float32


def test_averaged_weights_are_what_a_model_is_used_with(tmp_path: Path) -> None:
    save(tmp_path, groups_of(model_of(), average=0.25))
    assert all(bool((p == 0.25).all()) for p in checkpoint.load_model(tmp_path)[0].parameters())
    raw, _ = checkpoint.load_model(tmp_path, averaged=False)
    assert torch.equal(next(raw.parameters()), next(model_of().parameters()))


def test_a_new_checkpoint_replaces_the_old_and_leaves_nothing_behind(saved: Path) -> None:
    (saved / ".half-written").write_bytes(b"left by a killed writer")
    save(saved, groups_of(model_of(seed=2)))
    meta = checkpoint.read_meta(saved)
    assert sorted(p.name for p in saved.iterdir()) == sorted(["meta.json", *(e["file"] for e in meta.files.values())])


def test_a_copy_shares_no_fate_with_its_source(saved: Path, tmp_path: Path) -> None:
    checkpoint.duplicate(saved, tmp_path / "best", None)
    save(saved, groups_of(model_of(seed=2)))
    model, _ = checkpoint.load_model(tmp_path / "best")
    assert torch.equal(next(model.parameters()), next(model_of().parameters()))


@pytest.mark.parametrize("damage", [lambda p: p.unlink(), lambda p: p.write_bytes(p.read_bytes()[:-1])], ids=["gone", "short"])
def test_damage_is_found_and_named(saved: Path, damage) -> None:
    victim = next(saved.glob("head.b-*"))
    damage(victim)
    with pytest.raises(CampaignError, match="head.b-.*other bytes"):
        checkpoint.load_model(saved)


def test_the_first_difference_is_named(saved: Path) -> None:
    wide = model_of(SPEC.model_copy(update={"head_hidden": 5}))
    groups = checkpoint.load_groups(saved, checkpoint.read_meta(saved))
    stored = {name: state.parameters(averaged=True) for name, state in groups.items()}
    with pytest.raises(CampaignError, match=r"heads\.a\..* has shape \(4,.*\) in the checkpoint and \(5,.*\) in the model"):
        checkpoint.load_parameters(wide, stored, "here")
    with pytest.raises(CampaignError, match="'head:b' is only in the model"):
        checkpoint.load_parameters(model_of(), {k: v for k, v in stored.items() if k != "head:b"}, "here")
    with pytest.raises(CampaignError, match="no parameter group 'head:c'"):
        checkpoint.load_groups(saved, checkpoint.read_meta(saved), ["head:c"])


def test_no_checkpoint_and_another_format_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(CampaignError, match="no checkpoint here"):
        checkpoint.read_meta(tmp_path)
    (tmp_path / "meta.json").write_text('{"format_version": 99}')
    with pytest.raises(CampaignError, match="format 99"):
        checkpoint.read_meta(tmp_path)


@pytest.mark.parametrize(
    "text", ['{"format_version": 1', '{"format_version": 1}', "[]", '{"format_version": 1, "statistics": {}}']
)
def test_a_damaged_description_is_named(saved: Path, text: str) -> None:
    (saved / "meta.json").write_text(text)
    with pytest.raises(CampaignError) as refused:
        checkpoint.load_model(saved)
    assert str(saved) in refused.value.where


def test_a_writer_without_owner_ends_before_it_commits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[int] = []

    def leave(code: int) -> None:
        ended.append(code)
        raise SystemExit

    monkeypatch.setattr("os._exit", leave)
    monkeypatch.setattr("model.owner._orphaned", __import__("threading").Event())
    (tmp_path / "revoked").touch()
    owner = Owner(heartbeat=tmp_path / "heartbeat.json", revoked=tmp_path / "revoked")
    with pytest.raises(SystemExit):
        save(tmp_path / "last", groups_of(model_of()), owner)
    assert ended == [97]
    assert not list((tmp_path / "last").iterdir())
