"""The test cluster is Frontier: its overlay changes sizes and times and drops GPUs, and nothing of how jobs are made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from login import home_of
from slurm.world import OVERLAY

from workflow.site import load_site

SIZES = {
    "nodes",
    "limits",
    "account",
    "queues",
    *(f"node.{name}" for name in ("devices", "cores", "device_memory_gb", "memory_gb", "local_gb")),
    *(f"scheduler.{name}" for name in ("poll_s", "command_timeout_s", "unknown_window_s", "absence_window_s")),
    *(f"periods.{name}" for name in ("heartbeat_s", "ttl_s", "stop_margin_s", "stalled_s", "kill_after_s")),
}
GPUS = {"launcher_options": [], "node.backend": "gloo", "setup": []}
"""What binds GPUs, what reduces on them, and the modules that bring their library."""


def flat(fields: dict[str, Any], above: str = "") -> dict[str, Any]:
    """Return values by dotted key."""
    found: dict[str, Any] = {}
    for name, value in fields.items():
        found |= flat(value, f"{above}{name}.") if isinstance(value, dict) else {f"{above}{name}": value}
    return found


def test_the_overlay_changes_sizes_and_drops_gpus_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CAMPAIGN_SITES", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    plain = flat(load_site("frontier").model_dump(mode="json"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home_of(OVERLAY, tmp_path)))
    here = flat(load_site("frontier").model_dump(mode="json"))
    assert plain.keys() == here.keys()
    changed = {key for key in plain if plain[key] != here[key]}
    assert changed <= SIZES | GPUS.keys()
    assert {key: here[key] for key in GPUS} == GPUS
    assert set(flat(yaml.safe_load(OVERLAY.read_text()))) == changed, "nothing is said again that holds anyway"


def test_the_overlays_queues_are_frontiers_with_fewer_nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CAMPAIGN_SITES", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    plain = {queue.name: queue for queue in load_site("frontier").queues}
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home_of(OVERLAY, tmp_path)))
    for queue in load_site("frontier").queues:
        theirs = plain[queue.name]
        assert (queue.options, queue.asked_for, queue.chains) == (theirs.options, theirs.asked_for, theirs.chains)
        assert queue.max_nodes < theirs.max_nodes and queue.max_walltime_h <= theirs.max_walltime_h
