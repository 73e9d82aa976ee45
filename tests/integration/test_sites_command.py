"""`campaign sites`: what stands behind each figure, and a test through the site's own batch system and launcher."""

from __future__ import annotations

import json
from pathlib import Path

import yaml
from login import Command


def test_a_test_of_this_machine_finds_it_as_its_file_says(campaign: Command, tmp_path: Path) -> None:
    fields = yaml.safe_load((tmp_path / "sites" / "local.yaml").read_text())
    fields["node"]["broadcast_mb"] = 9.5
    (tmp_path / "sites" / "local.yaml").write_text(yaml.safe_dump(fields))
    done = campaign("sites", "test", "local", "--into", tmp_path / "t")
    kept = json.loads((tmp_path / "config" / "campaign" / "sites" / "local.tested.json").read_text())
    checks = {check["name"]: check for check in kept["checks"]}
    assert all(check["ok"] for check in checks.values()), done.stdout
    assert set(checks) == {
        *("account, queue, nodes", "broadcast", "ranks", "cores", "devices", "node-local path", "collective library"),
        *("return code (exit)", "return code (killed)", "timer"),
    }
    assert "2 ranks in a world of 2 on 2 nodes" in checks["ranks"]["seen"]
    assert "10 MB on every node" in checks["broadcast"]["seen"] and "sent to all at once" in checks["broadcast"]["seen"]
    assert "cause launcher" in checks["return code (exit)"]["seen"]
    assert "cause node_failure" in checks["return code (killed)"]["seen"]
    assert "all is as the site file says" in done.stdout
    shown = json.loads(campaign("sites", "show", "local", "--json").stdout)
    assert {each["mark"] for each in shown if each["key"] in ("launcher", "node.local", "node.devices")} == {"tested"}


def test_what_is_not_as_the_file_says_is_found(campaign: Command, tmp_path: Path) -> None:
    overlay = tmp_path / "config" / "campaign" / "sites" / "local.yaml"
    overlay.parent.mkdir(parents=True)
    overlay.write_text(yaml.safe_dump({"node": {"local_gb": 1e9, "cores": 4096}}))
    done = campaign("sites", "test", "local", "--into", tmp_path / "t", check=False)
    assert done.returncode == 1
    failed = {line.split("  ")[0].strip() for line in done.stdout.splitlines() if "FAILED" in line}
    assert failed == {"cores", "node-local path"}
    shown = json.loads(campaign("sites", "show", "local", "--json").stdout)
    assert {each["key"] for each in shown if each["mark"] == "FAILED"} >= {"node.local_gb", "node.cores"}


def test_a_launcher_that_starts_nothing_and_says_it_went_well_is_found(campaign: Command, tmp_path: Path) -> None:
    srun = tmp_path / "bin" / "srun"
    srun.parent.mkdir()
    srun.write_text("#!/bin/sh\nexit 0\n")
    srun.chmod(0o700)
    campaign.environment["PATH"] = f"{srun.parent}:{campaign.environment['PATH']}"
    fields = yaml.safe_load((tmp_path / "sites" / "local.yaml").read_text())
    (tmp_path / "sites" / "empty.yaml").write_text(yaml.safe_dump({**fields, "launcher": "srun"}))
    done = campaign("sites", "test", "empty", "--into", tmp_path / "t", check=False)
    assert done.returncode == 1
    receipt = json.loads((tmp_path / "config" / "campaign" / "sites" / "empty.tested.json").read_text())
    assert {each["name"] for each in receipt["checks"] if each["ok"]} <= {"account, queue, nodes", "broadcast"}


def test_a_missing_account_is_told_before_anything_waits(campaign: Command, tmp_path: Path) -> None:
    done = campaign("sites", "test", "aurora", "--into", tmp_path / "t", check=False)
    assert done.returncode == 2 and "no account to charge" in done.stderr and "aurora.yaml" in done.stderr
    assert not (tmp_path / "t" / "run-1").exists()


def test_commands_that_are_not_here_are_told_before_anything_is_asked_for(campaign: Command, tmp_path: Path) -> None:
    overlay = tmp_path / "config" / "campaign" / "sites" / "aurora.yaml"
    overlay.parent.mkdir(parents=True)
    overlay.write_text("account: gfm\n")
    campaign.environment["PATH"] = "/usr/bin:/bin"
    done = campaign("sites", "test", "aurora", "--queue", "debug", "--into", tmp_path / "t", check=False, timeout=60)
    assert done.returncode == 2 and "'qsub'" in done.stderr, done.stderr
    assert not (tmp_path / "t" / "run-1").exists()


def test_an_unknown_queue_is_told(campaign: Command, tmp_path: Path) -> None:
    done = campaign("sites", "test", "local", "--queue", "fast", "--into", tmp_path / "t", check=False)
    assert done.returncode == 2 and "in 'fast'" in done.stderr


def test_sites_are_listed_and_shown(campaign: Command) -> None:
    listed = campaign("sites", "list").stdout
    assert all(name in listed for name in ("aurora", "frontier", "local", "perlmutter"))
    shown = campaign("sites", "show", "aurora").stdout
    assert "node.devices = 12" in shown and "source: ALCF, PyTorch on Aurora" in shown and "unverified: ours" in shown
    wrong = campaign("sites", "show", "auror", check=False)
    assert wrong.returncode == 2 and "Did you mean 'aurora'?" in wrong.stderr
