"""Ask stages of a campaign to end, from any login node."""

from __future__ import annotations

import contextlib
from pathlib import Path

from workflow.driver import Driver
from workflow.errors import ConfigError, LeaseHeld
from workflow.instances import keys_of
from workflow.ownership import is_ours
from workflow.resolved import stored_campaign
from workflow.rundir import RunDir


def cancel(folder: Path, stage: str | None = None) -> None:
    """Ask stages to end; where no driver lives to do it, be the driver until they have.

    Args:
        folder: The campaign's folder.
        stage: A stage, or one instance of it; None: all.

    Raises:
        ConfigError: No such campaign or stage, or something else bars the way.
    """
    rundir = RunDir(folder.resolve())
    campaign = stored_campaign(rundir)
    keys = keys_of(campaign, stage, "cancel")
    for key in keys:
        rundir.stage(key).mkdir(parents=True, exist_ok=True, mode=0o700)
        _ask(rundir.stage_cancel(key))
    with contextlib.suppress(LeaseHeld):  # a driver lives: it looks for these files
        Driver(campaign).wind_down(keys)


def _ask(wish: Path) -> None:
    with contextlib.suppress(OSError):
        wish.touch()
    if not is_ours(wish):
        raise ConfigError("no file of yours can be made there", str(wish), "Take away what bars the way, and cancel again.")
