"""Ask stages of a campaign to end, from any login node."""

from __future__ import annotations

import contextlib
from pathlib import Path

from workflow.driver import Driver
from workflow.errors import LeaseHeld
from workflow.instances import keys_of
from workflow.resolved import stored_campaign
from workflow.rundir import RunDir


def cancel(folder: Path, stage: str | None = None) -> None:
    """Ask stages to end; where no driver lives to do it, be the driver until they have.

    Args:
        folder: The campaign's folder.
        stage: A stage, or one instance of it; None: all.

    Raises:
        ConfigError: No such campaign or stage.
    """
    rundir = RunDir(folder.resolve())
    campaign = stored_campaign(rundir)
    keys = keys_of(campaign, stage, "cancel")
    for key in keys:
        rundir.stage(key).mkdir(parents=True, exist_ok=True, mode=0o700)
        rundir.stage_cancel(key).touch()
    with contextlib.suppress(LeaseHeld):  # a driver lives: it looks for these files
        Driver(campaign).wind_down(keys)
