"""Divide structures into training, validation and test sets by a keyed hash of their identity."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from model.specs import Splits

TRAIN, VALIDATION, TEST = 0, 1, 2
NAMES = ("train", "validation", "test")


def split(identity: NDArray[np.uint64], splits: Splits) -> NDArray[np.uint8]:
    """Return the split of each structure: 0 train, 1 validation, 2 test.

    The answer depends on the seed and the identity alone, so that a molecule falls into the same split
    in every branch and every fine-tuning task.

    Args:
        identity: Hashes of canonical identities, (n,).
        splits: Seed and shares.
    """
    place = uniform(identity, splits.seed)
    chosen = np.full(len(identity), TRAIN, np.uint8)
    chosen[place < splits.validation + splits.test] = VALIDATION
    chosen[place < splits.test] = TEST
    return chosen


def counts(identity: NDArray[np.uint64], splits: Splits) -> dict[str, int]:
    """Return the number of structures in each split."""
    found = np.bincount(split(identity, splits), minlength=3)
    return {name: int(n) for name, n in zip(NAMES, found, strict=True)}


def uniform(identity: NDArray[np.uint64], seed: int) -> NDArray[np.float64]:
    """Map identities to [0, 1) by SplitMix64 (Steele, Lea, Flood, OOPSLA 2014) under a key made of the seed."""
    key = np.frombuffer(hashlib.blake2b(f"split {seed}".encode(), digest_size=8).digest(), np.uint64)[0]
    mixed = mix(np.asarray(identity, np.uint64) ^ key)
    return (mixed >> np.uint64(11)).astype(np.float64) * 2.0**-53


def mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Scramble 64-bit integers bijectively: the finaliser of SplitMix64."""
    z = values + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
