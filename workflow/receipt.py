"""The file an attempt leaves when it ends, and the outputs it vouches for."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from model.outcome import Cause, Status, read_json, write_json
from workflow.errors import CampaignError, StageError

_BLOCK = 1 << 20
_MOST, _MOST_S, _MOST_NODES, _DEEPEST = 2**63, 1e12, 10**6, 100
"""Sizes, seconds, nodes and levels beyond all sense; what a receipt costs by these is still a number for the journal."""
LOST = "Restore the file from a copy; or give the stage that made it another name in the file: then it is made again."
"""What to do about an output that is gone: a stage that is done is never done again under its own name."""


@dataclass(frozen=True)
class Output:
    """One file that a receipt vouches for.

    Attributes:
        role: What it is for: `store:<branch>`, `checkpoint`, `blend`, `screened`, `table`, …
        path: Relative to the campaign's folder.
        size: Bytes.
        sha256: Hex digest.
    """

    role: str
    path: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Receipt:
    """How an attempt ended.

    Attributes:
        token: Token of the attempt (empty for a stage that ran on the login node).
        stage: Stage instance.
        link: Link number, from 1.
        attempt: Attempt number, from 1.
        status: See `Status`; `partial` asks for the next link.
        cause: Set when failed.
        message: One sentence.
        evidence: What proves the cause: exit codes, states, file names.
        outputs: Files vouched for.
        result: Stage-specific facts (JSON values only), read by later stages and the report.
        nodes: Nodes of the allocation.
        started: Unix time on the agent's clock; for people, never compared across hosts.
        ended: Unix time on the agent's clock.
    """

    token: str
    stage: str
    link: int
    attempt: int
    status: Status
    cause: Cause | None = None
    message: str = ""
    evidence: dict[str, Any] = field(default_factory=dict)
    outputs: tuple[Output, ...] = ()
    result: dict[str, Any] = field(default_factory=dict)
    nodes: int = 0
    started: float = 0.0
    ended: float = 0.0


def write_receipt(path: Path, receipt: Receipt) -> None:
    """Write a receipt whole or not at all."""
    write_json(path, asdict(receipt))


def read_receipt(path: Path) -> Receipt | None:
    """Return the receipt in `path`, or None where none stands.

    Raises:
        StageError: What stands there is no receipt.
    """
    try:
        fields = read_json(path)
        return None if fields is None else receipt_from(fields)
    except (CampaignError, IsADirectoryError, TypeError, KeyError, ValueError) as error:
        what = error.what if isinstance(error, CampaignError) else repr(error)
        remedy = "Restore the file from a copy of the campaign's folder."
        raise StageError(f"the receipt is damaged: {what}", str(path), remedy) from error


def receipt_from(fields: dict[str, Any]) -> Receipt:
    """Make a receipt of its JSON form.

    Raises:
        TypeError, KeyError, ValueError: It is none; or the journal, which takes of it, could not be read any more.
    """
    outputs = tuple(Output(**each) for each in fields["outputs"])
    cause = Cause(fields["cause"]) if fields.get("cause") else None
    receipt = Receipt(**{**fields, "status": Status(fields["status"]), "cause": cause, "outputs": outputs})
    _require_sense(receipt)
    return receipt


def _require_sense(receipt: Receipt) -> None:
    of_outputs = [(each.role, each.path, each.sha256) for each in receipt.outputs]
    for text in (receipt.token, receipt.stage, receipt.message, *(text for texts in of_outputs for text in texts)):
        if not isinstance(text, str) or "\0" in text:
            raise TypeError(f"{text!r:.40} is no text")
        text.encode()  # no half of a character, which no terminal prints
    for number in (receipt.link, receipt.attempt, *(each.size for each in receipt.outputs)):
        _require_number(number, int, _MOST)
    _require_number(receipt.nodes, int, _MOST_NODES)
    for moment in (receipt.started, receipt.ended):
        _require_number(moment, (int, float), _MOST_S)
    for facts in (receipt.evidence, receipt.result):
        if not isinstance(facts, dict) or not _is_shallow(facts, _DEEPEST):
            raise TypeError(f"{facts!r:.40} are no facts")
    json.dumps(receipt.evidence, allow_nan=False)


def _require_number(value: Any, kind: Any, most: float) -> None:
    if not isinstance(value, kind) or isinstance(value, bool) or not 0 <= value < most:
        raise ValueError(f"{value!r:.40} is no number that makes sense")


def _is_shallow(value: Any, levels: int) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return levels > 0 and all(_is_shallow(each, levels - 1) for each in inner)


def vouch(campaign: Path, role: str, path: Path) -> list[Output]:
    """List a file, or every file below a folder, with size and digest."""
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    return [Output(role, str(p.relative_to(campaign)), p.stat().st_size, digest(p)) for p in files]


def require_files(campaign: Path, outputs: Iterable[Output]) -> None:
    """Check at a glance, without reading them, that outputs still stand.

    Raises:
        StageError: A file is missing or has another size.
    """
    for output in outputs:
        path = campaign / output.path
        if not path.is_file():
            raise StageError(f"the output '{output.role}' is gone", str(path), LOST)
        if path.stat().st_size != output.size:
            raise StageError(f"the output '{output.role}' differs from its receipt in size", str(path), LOST)


def verify(campaign: Path, outputs: tuple[Output, ...]) -> None:
    """Check that every output still stands as the receipt says.

    Raises:
        StageError: A file is missing or differs.
    """
    require_files(campaign, outputs)
    for output in outputs:
        if digest(campaign / output.path) != output.sha256:
            raise StageError(f"the output '{output.role}' differs from its receipt", str(campaign / output.path), LOST)


def is_right(path: Path, output: Output) -> bool:
    """Say whether a file is the one that a receipt vouches for, by size first, then by digest."""
    return path.is_file() and path.stat().st_size == output.size and digest(path) == output.sha256


def digest(path: Path) -> str:
    """Return the SHA-256 of a file, read in blocks."""
    state = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            state.update(block)
    return state.hexdigest()
