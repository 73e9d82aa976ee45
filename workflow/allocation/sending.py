"""Send large files to all nodes at once: by the launcher's own command, or over MPI where it has none."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from model.outcome import CampaignError, read_json
from workflow.allocation.broadcast import SENT, Sending, SentFile
from workflow.allocation.health import call_on_each, call_once
from workflow.allocation.launch import Setting

logger = logging.getLogger(__name__)
_MPI = "mpi4py"


def by_command(
    setting: Setting, nodes: tuple[str, ...], files: Sequence[SentFile], folder: Path, give_up: Callable[[], bool]
) -> int:
    """Send files by the launcher's own command, one call each, to all nodes of the allocation; say how many went well.

    Args:
        setting: How nodes are reached.
        nodes: Nodes of the allocation that answer.
        files: What to send; the folders it goes to stand already.
        folder: Where the calls leave their logs.
        give_up: Asked again and again whether to stop.
    """
    sent = 0
    for number, file in enumerate(files, start=1):
        log = folder / str(number)
        log.mkdir(parents=True)
        call = setting.launcher.sending(file.source, file.target)
        sent += call_once(call, log, setting.environment_on(nodes), give_up)
    return sent


def over_mpi(
    setting: Setting, nodes: tuple[str, ...], files: Sequence[SentFile], folder: Path, give_up: Callable[[], bool]
) -> int:
    """Send files by one call with a rank on each node; say how many all nodes have. See `by_command`."""
    if find_spec(_MPI) is None:
        logger.warning("%s is not installed for %s: no file is broadcast", _MPI, sys.executable)
        return 0
    order = folder.with_suffix(".json")
    order.parent.mkdir(parents=True, exist_ok=True)
    Sending(len(nodes), setting.launcher.node_variable, tuple(files)).write(order)
    ended = call_on_each(setting, nodes, mpi_command(str(order), str(folder)), folder, give_up)
    faults = _faults(folder)
    if faults or not ended:
        logger.warning("the broadcast failed: %s", "; ".join(faults[:3]) or f"it did not end well; see {folder}/stderr.log")
    return int(_fields(folder / SENT).get("files", 0)) if ended else 0


def mpi_command(order: str, folder: str) -> tuple[str, ...]:
    """Return the command of a rank on each node that sends files over MPI.

    Run by mpi4py itself, which ends all ranks when one dies of a defect: the others would wait for it.
    """
    return sys.executable, "-m", _MPI, "-m", "workflow.allocation.broadcast", order, folder


def _faults(folder: Path) -> list[str]:
    return [f"{path.name[6:-5]}: {_fields(path).get('fault', '')}" for path in sorted(folder.glob("fault.*.json"))]


def _fields(path: Path) -> dict[str, Any]:
    try:
        return dict(read_json(path) or {})
    except CampaignError:
        return {}
