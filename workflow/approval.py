"""What a person allows beyond the budget, left as files: the driver that holds the lease takes them into the journal."""

from __future__ import annotations

import math
import secrets
from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from model.outcome import read_json, write_json
from workflow.errors import CampaignError, ConfigError
from workflow.ownership import is_ours
from workflow.rundir import RunDir


@dataclass(frozen=True)
class Approval:
    """One approval.

    Attributes:
        id: Its identity; taken in once, however often it is found.
        stage: The stage instance that alone may use it; None raises what all stages may use together.
        node_hours: For a stage, so many more; for all, the new total that they share.
    """

    id: str
    stage: str | None
    node_hours: float


def leave(rundir: RunDir, stage: str | None, node_hours: float) -> Approval:
    """Write an approval whole; from then on it holds, whatever dies."""
    approval = Approval(secrets.token_hex(8), stage, node_hours)
    rundir.approvals.mkdir(exist_ok=True, mode=0o700)
    write_json(rundir.approvals / f"{approval.id}.json", asdict(approval))
    return approval


def waiting(rundir: RunDir, known: Collection[str]) -> list[Path]:
    """Return the files of approvals that are not among the known ones."""
    found = sorted(rundir.approvals.glob("*.json")) if rundir.approvals.is_dir() else []
    return [path for path in found if path.stem not in known]


def read_approval(path: Path) -> Approval:
    """Read an approval.

    Raises:
        ConfigError: The file is none, or another user's.
    """
    remedy = "It is passed over. Take the file away, and approve again with `campaign approve`."
    if path.exists() and not is_ours(path):
        raise ConfigError("not an approval of yours", str(path), remedy)
    try:
        fields: Any = read_json(path)
        approval = Approval(str(fields["id"]), fields["stage"], float(fields["node_hours"]))
    except (CampaignError, OSError, TypeError, KeyError, ValueError) as error:
        raise ConfigError("not an approval", str(path), remedy) from error
    if approval.id != path.stem or not isinstance(approval.stage, str | None) or not 0 < approval.node_hours < math.inf:
        raise ConfigError("not an approval", str(path), remedy)
    return approval
