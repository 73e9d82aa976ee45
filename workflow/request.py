"""What the driver asks of the agent for one attempt: the whole input of a link, in one file."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from model.outcome import read_json, write_json
from workflow.errors import StageError
from workflow.receipt import Receipt, receipt_from


@dataclass(frozen=True)
class Request:
    """One attempt at one link of one stage instance.

    Attributes:
        campaign_id: The campaign's 128 random bits, hex.
        campaign: Absolute path of the campaign's folder.
        name: The campaign's name.
        token: At most 15 characters; job name and identity of the attempt.
        stage: Stage instance, `train` or `train/2`.
        instance: 0 for a plain stage, else the number behind the slash.
        kind: Stage kind.
        spec: The stage's resolved keys (JSON form of its `Spec`).
        link: Link number, from 1.
        links: How many links the chain may have.
        attempt: Attempt number at this link, from 1.
        nodes: Nodes to be allocated, spares included.
        walltime_s: Seconds asked for.
        site: The resolved site (JSON form of `Site`).
        branches: The campaign's branches (JSON form of `BranchSource`, `path` a list of absolute paths), by name.
        sources: The campaign's further sources, in the same form.
        splits: The campaign's splits (JSON form).
        inputs: Receipts of all stages that this one rests on, directly or not, by stage instance.
        previous: Folders (relative to the campaign) of earlier attempts of this stage instance that
            may have left results, oldest first; revoked ones are left out.
    """

    campaign_id: str
    campaign: str
    name: str
    token: str
    stage: str
    instance: int
    kind: str
    spec: dict[str, Any]
    link: int
    links: int
    attempt: int
    nodes: int
    walltime_s: float
    site: dict[str, Any]
    branches: dict[str, Any]
    sources: dict[str, Any]
    splits: dict[str, Any]
    inputs: dict[str, Receipt] = field(default_factory=dict)
    previous: tuple[str, ...] = ()


def write_request(path: Path, request: Request) -> None:
    """Write a request whole or not at all."""
    # `asdict` of the whole would copy site and branches leaf by leaf; only the receipts are no JSON values yet.
    write_json(path, {**vars(request), "inputs": {key: asdict(each) for key, each in request.inputs.items()}})


def read_request(path: Path) -> Request:
    """Read a request.

    Raises:
        StageError: There is none.
    """
    fields = read_json(path)
    if fields is None:
        raise StageError("no request", str(path), "Attempts are made by `campaign run`; start that.")
    inputs = {key: receipt_from(each) for key, each in fields["inputs"].items()}
    return Request(**{**fields, "inputs": inputs, "previous": tuple(fields["previous"])})
