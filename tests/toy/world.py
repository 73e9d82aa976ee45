"""Campaigns of toy stages on a local site of their own, driven in this process or in one that can be killed."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

import workflow.attempts
import workflow.campaign
import workflow.stages
from workflow.batch.scheduler import Scheduler, for_site
from workflow.campaign import Campaign
from workflow.draft import load_campaign
from workflow.driver import Driver
from workflow.journal import read_events
from workflow.rundir import RunDir
from workflow.site import load_site

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
AGENT = HERE / "agent.py"


def know_kinds() -> None:
    """Make the toy kinds known to this process."""
    if str(HERE / "kinds") in workflow.stages.__path__:
        return
    workflow.stages.__path__.append(str(HERE / "kinds"))
    kinds = workflow.campaign.stage_kinds
    workflow.campaign.stage_kinds = lambda: sorted([*kinds(), "toy", "choose"])


_script_text = workflow.attempts.script_text


def install(agent: Path = AGENT) -> None:
    """Make the toy kinds known to this process, and its jobs run another agent than the real one."""
    know_kinds()

    def toy_script(*args: Any, **options: Any) -> str:
        return _script_text(*args, **options).replace("-m workflow.allocation.agent", str(agent))

    workflow.attempts.script_text = toy_script


def site_file(folder: Path) -> Path:
    """Write a local site of its own into `folder/sites`; give that folder for `CAMPAIGN_SITES`."""
    sites = folder / "sites"
    sites.mkdir(exist_ok=True)
    fields = yaml.safe_load((ROOT / "sites" / "local.yaml").read_text())
    options = {"spool": str(folder / "spool"), "kill_wait_s": 0.5}
    fields["scheduler"] |= {"options": options, "poll_s": 0.05, "unknown_window_s": 0.4, "absence_window_s": 0.3}
    fields["periods"] = {"heartbeat_s": 0.1, "ttl_s": 1.0, "stop_margin_s": 1.0, "kill_after_s": 0.5}
    (sites / "local.yaml").write_text(yaml.safe_dump(fields))
    return sites


def campaign_of(folder: Path, stages: dict[str, Any], **header: Any) -> Campaign:
    """Write and load a campaign of toy stages; `CAMPAIGN_SITES` must name `site_file(folder)`."""
    install()
    path = folder / "toy.yaml"
    (folder / "data.xyz").touch()
    job = {"kind": "toy", "walltime": "00:01:00"}
    stages = {name: spec if "kind" in spec else {**job, **spec} for name, spec in stages.items()}
    branches = {"b": {"reader": "extxyz", "path": "data.xyz"}}
    path.write_text(
        yaml.safe_dump({"name": "toy", "folder": "run", "branches": branches, "stages": stages, **header}, sort_keys=False)
    )
    return load_campaign(path)


def drive(campaign: Campaign, **options: Any) -> int:
    """Drive in this process."""
    return Driver(campaign).run(**options)


def killed_at(folder: Path, point: str, nth: int = 1, command: str = "run") -> bool:
    """Drive in a process of its own that kills itself (-9) the nth time it passes `point`; say whether it did."""
    process = signalled_at(folder, point, nth, "SIGKILL", command)
    _, errors = process.communicate(timeout=120)
    assert process.returncode in (-9, 0, 1), errors
    return process.returncode == -9


def signalled_at(folder: Path, point: str, nth: int, name: str, what: str = "run") -> subprocess.Popen[str]:
    """Start a driver that sends itself a signal the nth time it passes `point`."""
    command = [sys.executable, "-m", "dying", str(folder / "toy.yaml"), point, str(nth), name, what]
    environment = {
        "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}",
        "CAMPAIGN_SITES": str(folder / "sites"),
        "PATH": "/usr/bin:/bin",
        "HOME": str(folder),
    }
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def executions(folder: Path) -> Counter[tuple[str, int]]:
    """Count how often the work of each link was begun."""
    log = folder / "run" / "executions.log"
    lines = [line.split() for line in log.read_text().splitlines()] if log.exists() else []
    return Counter((stage, int(link)) for stage, link, *_ in lines)


def events(folder: Path, *names: str) -> list[dict[str, Any]]:
    """Return the journal's lines of these names."""
    return [line for line in read_events(RunDir(folder / "run")) if not names or line["event"] in names]


def states(folder: Path) -> dict[str, str]:
    """Return each stage's last state."""
    return {line["stage"]: line["state"] for line in events(folder, "stage")}


def batch(folder: Path) -> Scheduler:
    """Give the local batch system of `site_file(folder)`."""
    return for_site(load_site("local"))


def passing(hits: dict[str, Callable[[], None]]) -> Callable[[str], None]:
    """Give a hook that calls something at named points, once each."""

    def hook(point: str) -> None:
        act = hits.pop(point, None)
        if act is not None:
            act()

    return hook
