"""`python -m model bench precision` on a model that was trained for it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from stores import emt_store
from training_runs import config

from model import bench
from model.data.store import Store

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple[Path, Path]:
    """Return a checkpoint and the store that it was trained on."""
    folder = tmp_path_factory.mktemp("precision")
    store = emt_store(folder, "metal", ("Cu", "Ni"), 60)
    fields = config({"metal": store}, epochs=12, precision="fp32")
    (folder / "config.yaml").write_text(yaml.safe_dump(fields))
    argv = [sys.executable, "-m", "model", "train", "config.yaml"]
    subprocess.run(argv, cwd=folder, env=ENVIRONMENT, check=True, capture_output=True, timeout=300)
    return folder / "checkpoints" / "last", store


def test_a_table_and_a_json_object_of_a_trained_model(trained, capsys):
    checkpoint, store = trained
    assert bench.run(["precision", str(checkpoint), "--branch", f"metal={store}", "--structures", "9"]) == 0
    out = capsys.readouterr().out
    assert [line.split("  ")[0] for line in out.splitlines() if "against" in line] == [
        "the model in fp64, against labels",
        *(f"{name}, against fp64" for name in ("fp64", "fp32", "bf16")),
    ]
    found = json.loads(out.splitlines()[-1])["branches"]["metal"]
    assert found["fp64"]["energy_max"] == found["fp64"]["force_max"] == 0.0
    for key in ("energy_mae", "energy_max", "force_mae", "force_max", "force_relative"):
        assert 0 < found["fp32"][key] < 0.1 * found["bf16"][key]
        assert found["fp32"][key] < 1e-2 * found["model"][key]
    assert found["bf16"]["force_relative"] < 0.5
    assert all(errors["structures_per_cpu_s"] > 0 for errors in found.values())


def test_a_model_without_structures_that_it_knows_is_refused(trained, tmp_path, capsys):
    checkpoint, _ = trained
    other = emt_store(tmp_path, "gold", ("Au",), 6)
    assert bench.run(["precision", str(checkpoint), "--branch", f"metal={other}", "--split", "train"]) == 2
    assert "no structure of this split has only elements that branch 'metal' knows" in capsys.readouterr().err


@pytest.mark.parametrize(("branch", "said"), [("metal", "no branch with its store"), ("wood={}", "no branch 'wood'")])
def test_a_branch_that_is_none_is_refused(trained, capsys, branch, said):
    checkpoint, store = trained
    assert bench.run(["precision", str(checkpoint), "--branch", branch.format(store)]) == 2
    assert said in capsys.readouterr().err


def test_the_command_leads_there(trained):
    checkpoint, store = trained
    argv = [
        sys.executable,
        "-m",
        "model",
        "bench",
        "precision",
        str(checkpoint),
        "--branch",
        f"metal={store}",
        "--structures",
        "2",
    ]
    done = subprocess.run(argv, env=ENVIRONMENT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert set(json.loads(done.stdout.splitlines()[-1])["branches"]["metal"]) == {"model", "fp64", "fp32", "bf16"}


def test_an_empty_split_is_called_empty(trained, tmp_path, capsys):
    checkpoint, _ = trained
    few = emt_store(tmp_path, "few", ("Cu",), 1)
    sizes = {part: Store.open(few).manifest["split_counts"][part] for part in ("train", "validation", "test")}
    empty = next(part for part, size in sizes.items() if size == 0)
    assert bench.run(["precision", str(checkpoint), "--branch", f"metal={few}", "--split", empty]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: {few}: no structure in this split") and "Name another with --split" in said


@pytest.mark.parametrize("option", ["--threads", "--structures"])
def test_counts_are_above_zero_and_help_has_examples(option, capsys):
    with pytest.raises(SystemExit) as caught:
        bench.run(["precision", "none", "--branch", "a=b", option, "-1"])
    assert caught.value.code == 2 and "'-1' is no whole number above zero" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        bench.run(["--help"])
    assert "python -m model bench precision checkpoints/best --branch" in capsys.readouterr().out


def test_a_checkpoint_or_store_that_is_none_is_told(trained, tmp_path, capsys):
    checkpoint, _ = trained
    (tmp_path / "plain").write_text("hello")
    assert bench.run(["precision", str(checkpoint), "--branch", f"metal={tmp_path / 'plain'}"]) == 2
    assert "that is a file, and a store is a folder" in capsys.readouterr().err
    assert bench.run(["precision", str(tmp_path / "plain"), "--branch", f"metal={tmp_path / 'plain'}"]) == 2
    assert f"error: {tmp_path / 'plain'}: no checkpoint here" in capsys.readouterr().err
