"""The file an attempt leaves when it ends, and the outputs it vouches for."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from model.outcome import Cause, Status, read_json, write_json
from workflow.errors import StageError

_BLOCK = 1 << 20


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
    """Return the receipt in `path`, or None where none stands."""
    fields = read_json(path)
    return None if fields is None else receipt_from(fields)


def receipt_from(fields: dict[str, Any]) -> Receipt:
    """Make a receipt of its JSON form."""
    outputs = tuple(Output(**each) for each in fields["outputs"])
    cause = Cause(fields["cause"]) if fields.get("cause") else None
    return Receipt(**{**fields, "status": Status(fields["status"]), "cause": cause, "outputs": outputs})


def vouch(campaign: Path, role: str, path: Path) -> list[Output]:
    """List a file, or every file below a folder, with size and digest."""
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    return [Output(role, str(p.relative_to(campaign)), p.stat().st_size, digest(p)) for p in files]


def verify(campaign: Path, outputs: tuple[Output, ...]) -> None:
    """Check that every output still stands as the receipt says.

    Raises:
        StageError: A file is missing or differs.
    """
    for output in outputs:
        path = campaign / output.path
        if not path.is_file() or path.stat().st_size != output.size or digest(path) != output.sha256:
            raise StageError(
                f"the output '{output.role}' is missing or differs from its receipt",
                str(path),
                "Restore the file, or run `campaign resume` to make it again.",
            )


def digest(path: Path) -> str:
    """Return the SHA-256 of a file, read in blocks."""
    state = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            state.update(block)
    return state.hexdigest()
