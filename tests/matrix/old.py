"""The journal of a campaign that has begun, as an older release would have left it."""

from __future__ import annotations

import json
from typing import Any

from workflow.chained import GENESIS, _seal, read_chain
from workflow.rundir import RunDir
from workflow.segments import epochs, segment_path

RELEASE = "0.1.0"
_UNKNOWN_THEN = {"settled": ("job_ended",), "intent": ("script_sha256",)}
"""Facts that lines did not have at first."""


def age(rundir: RunDir) -> None:
    """Write the one segment of a journal anew, each line bound to the one before, as it was written at first."""
    (epoch,) = epochs(rundir.journal)
    path = segment_path(rundir.journal, epoch)
    chain = read_chain(path)
    lines, before = [], GENESIS
    for fields in chain.events:
        line, before = _seal(_aged(fields), before)
        lines.append(line)
    path.write_bytes(b"".join(lines))
    resolved = json.loads(rundir.campaign.read_text())
    resolved["versions"] = {**resolved["versions"], "campaign": RELEASE}
    rundir.campaign.write_text(json.dumps(resolved))


def _aged(fields: dict[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in fields.items() if name not in _UNKNOWN_THEN.get(fields["event"], ())}
    if fields["event"] == "intent":
        after = fields["after"]
        return {**kept, "after": after[0] if after else None}  # one job, or none
    if fields["event"] == "created":
        return {**kept, "versions": {**fields["versions"], "campaign": RELEASE}}
    return kept
