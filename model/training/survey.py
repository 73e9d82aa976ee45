"""What one pass over a branch finds out about it: sums that ranks make over their shares and add up."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from model.data.block import ATOM_FIELDS, STRUCTURE_FIELDS, Block
from model.data.references import Moments
from model.data.targets import Labels
from model.specs import ModelSpec
from model.training.neighborhood import neighbor_sums

_FINGERPRINT_BYTES = 16


@dataclass(frozen=True)
class Survey:
    """Sums over a part of a branch.

    Attributes:
        moments: Of the energies and forces of its training structures.
        labels: Of their targets; None for a branch that labels energies.
        neighbor_sums: Sums over their atoms of what the backbone wants to know of neighbours.
        fingerprint: Sum of the hashes of all its structures; see `fingerprint`.
    """

    moments: Moments
    labels: Labels | None
    neighbor_sums: dict[str, float]
    fingerprint: int

    @classmethod
    def of(cls, first: int, block: Block, train: Block, spec: ModelSpec, *, has_target: bool) -> Survey:
        """Survey one block.

        Args:
            first: Number of its first structure in the store.
            block: All its structures.
            train: Its training structures, neighbour lists built.
            spec: The model.
            has_target: The store labels targets instead of energies.
        """
        labels = Labels.of(train) if has_target else None
        return cls(Moments.of(train), labels, neighbor_sums(train, spec), fingerprint(first, block))

    @classmethod
    def sum(cls, parts: Sequence[Survey]) -> Survey:
        """Add surveys of parts that follow each other; where they are cut decides the last bits of sums, not the fingerprint."""
        if len(parts) == 1:
            return parts[0]
        labels = [part.labels for part in parts if part.labels is not None]
        names = parts[0].neighbor_sums
        return cls(
            moments=Moments.sum(part.moments for part in parts),
            labels=Labels.sum(labels) if labels else None,
            neighbor_sums={name: math.fsum(part.neighbor_sums[name] for part in parts) for name in names},
            fingerprint=sum(part.fingerprint for part in parts) % 256**_FINGERPRINT_BYTES,
        )


def fingerprint(first: int, block: Block) -> int:
    """Hash the physics of a block in its order, all that a training sees of it, so that parts of a store add up to the whole.

    Each structure's hash covers its number in the store; the sum over all structures does not depend on how a store is cut.
    """
    names = [name for name in STRUCTURE_FIELDS if name != "raw_ids"]
    types = [(name, (array := getattr(block, name)).dtype, array.shape[1:]) for name in names]
    rows = np.zeros(len(block), [("number", np.int64), *types])
    rows["number"] = np.arange(first, first + len(block))
    for name in names:
        rows[name] = getattr(block, name)
    atoms = [np.ascontiguousarray(getattr(block, name)) for name in ATOM_FIELDS]
    total = 0
    for row, (begin, end) in enumerate(zip(block.offsets.tolist(), block.offsets[1:].tolist(), strict=False)):
        digest = hashlib.blake2b(rows[row].tobytes(), digest_size=_FINGERPRINT_BYTES)
        for array in atoms:
            digest.update(array[begin:end].data)
        total += int.from_bytes(digest.digest(), "little")
    return total % 256**_FINGERPRINT_BYTES
