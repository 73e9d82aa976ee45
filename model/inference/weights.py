"""How much each branch counts for a structure: a small network from composition to weights, masked to branches that know it."""

from __future__ import annotations

import dataclasses
import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from model.data.block import Block
from model.layers.dense import MLP
from model.layers.initial import initialize
from model.outcome import CampaignError, read_json, write_bytes, write_json
from model.owner import require_commit
from model.specs import Owner

FORMAT = 2
WEIGHTS_FILE, META_FILE = "blend.pt", "meta.json"
NUM_ELEMENTS = 118


@dataclass(frozen=True)
class BlendMeta:
    """What a blend was made for.

    Attributes:
        branches: Branches, in the order of the weights.
        hidden: Widths of the network.
        model: Fingerprint of the model's weights.
        facts: What its training found.
        sha256: Digest of the network's file; `save` fills it in.
        format_version: Version of this format.
    """

    branches: tuple[str, ...]
    hidden: tuple[int, ...]
    model: str
    facts: dict[str, Any]
    sha256: str = ""
    format_version: int = FORMAT


class BranchWeights(nn.Module):
    """Weights of the branches from composition; in FP64, since it is tiny and decides what is added to what.

    Args:
        num_branches: Number of branches.
        hidden: Widths of the hidden layers.
        seed: Seed of the first weights.
    """

    def __init__(self, num_branches: int, hidden: Sequence[int], *, seed: int = 0) -> None:
        super().__init__()
        self.network = MLP([NUM_ELEMENTS, *hidden, num_branches]).to(torch.float64)
        initialize(self, seed)

    def forward(self, composition: Tensor, known: Tensor) -> Tensor:
        """Return weights (n, num_branches): a softmax over the branches that know a structure, zeros where none does.

        Args:
            composition: Share of each element, (n, 118) float64.
            known: Which branches know every element, (n, num_branches) bool.
        """
        # The lowest number instead of -inf: a row without any branch stays finite, and so do its derivatives.
        logits = self.network(composition).masked_fill(~known, torch.finfo(torch.float64).min)
        return logits.softmax(-1) * known


def composition(block: Block) -> NDArray[np.float64]:
    """Return the share of each element in each structure, (n, 118); column Z − 1 is element Z."""
    structure = np.repeat(np.arange(len(block)), block.num_atoms)
    place = structure * NUM_ELEMENTS + block.numbers.astype(np.int64) - 1
    flat = np.bincount(place, minlength=len(block) * NUM_ELEMENTS)
    return flat.reshape(len(block), NUM_ELEMENTS) / block.num_atoms[:, None]


def mean_weights(known: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return equal weights of the branches that know a structure, (n, num_branches); zeros where none does."""
    return known / np.maximum(known.sum(1, keepdims=True), 1)


def save(folder: Path, weights: BranchWeights, meta: BlendMeta, owner: Owner | None) -> None:
    """Write a blend into a folder: the network, then what it was made for."""
    folder.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    torch.save(weights.state_dict(), buffer)
    data = buffer.getvalue()
    require_commit(owner)
    write_bytes(folder / WEIGHTS_FILE, data)
    write_json(folder / META_FILE, vars(meta) | {"sha256": hashlib.sha256(data).hexdigest()})


def load(folder: Path, branches: Sequence[str], model: str) -> BranchWeights:
    """Read a blend.

    Args:
        folder: What `blend` wrote.
        branches: Branches of the model it shall serve.
        model: Fingerprint of that model.

    Raises:
        CampaignError: There is none, it has another format or other bytes than it was written with, or it was made for
            another model.
    """
    fields = _read_meta(folder)
    if tuple(fields["branches"]) != tuple(branches) or fields["model"] != model:
        raise CampaignError("this blend was made for another model", str(folder), "Make a blend of this checkpoint.")
    path = folder / WEIGHTS_FILE
    data = path.read_bytes() if path.is_file() else b""
    if hashlib.sha256(data).hexdigest() != fields["sha256"]:
        raise CampaignError("missing, or other bytes than when it was written", str(path), "Make the blend again.")
    weights = BranchWeights(len(branches), fields["hidden"])
    weights.load_state_dict(torch.load(io.BytesIO(data), weights_only=True, map_location="cpu"))
    return weights.eval()


def _read_meta(folder: Path) -> dict[str, Any]:
    fields = read_json(folder / META_FILE)
    wanted = {field.name for field in dataclasses.fields(BlendMeta)}
    if not isinstance(fields, dict) or "format_version" not in fields or "hidden" not in fields:
        raise CampaignError("no blend here", str(folder), "Give the folder that `blend` wrote.")
    if fields["format_version"] != FORMAT or set(fields) != wanted:
        found = fields["format_version"]
        raise CampaignError(f"blend format {found}, this version reads {FORMAT}", str(folder), "Make the blend again.")
    return fields
