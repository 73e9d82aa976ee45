"""A converted data set: BP5 shards, references and a manifest in one folder; docs/store.md describes the layout."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from model.data import references as reference_energies
from model.data.block import Block, concatenate, pack
from model.data.references import References
from model.data.shard import file_hash, file_hashes, file_sizes, read_shard
from model.outcome import CampaignError, read_json

FORMAT = 2
"""2 since `target`."""
MANIFEST = "manifest.json"
REFERENCES = "references.json"
REJECTS = "rejects.jsonl"

__all__ = ["FORMAT", "MANIFEST", "REFERENCES", "REJECTS", "Block", "Store"]


class Store:
    """Read access to a store.

    Attributes:
        folder: Where it stands.
        manifest: The manifest's JSON values.
    """

    def __init__(self, folder: Path, manifest: Mapping[str, Any]) -> None:
        self.folder = folder
        self.manifest = manifest
        self._first = np.cumsum([0, *(shard["structures"] for shard in manifest["shards"])])

    @classmethod
    def open(cls, folder: Path) -> Store:
        """Open a finished store.

        A shard with missing bytes may read as garbage or end the process, so the files' sizes are compared
        with the manifest first; `verify` compares the hashes too.

        Raises:
            CampaignError: No finished store, another format, or files cut short.
        """
        folder = Path(folder)
        manifest = read_json(folder / MANIFEST)
        if manifest is None:
            raise CampaignError("no finished store here", str(folder), "Run the convert stage that writes it (to its end).")
        if manifest.get("format") != FORMAT:
            found = manifest.get("format")
            raise CampaignError(f"store format {found}, this version reads {FORMAT}", str(folder), "Convert the source again.")
        store = cls(folder, manifest)
        store._check_sizes()
        return store

    @property
    def name(self) -> str:
        """Return the name of the branch."""
        return str(self.manifest["name"])

    @property
    def num_structures(self) -> int:
        """Return the number of structures."""
        return int(self._first[-1])

    @property
    def num_atoms(self) -> int:
        """Return the number of atoms over all structures."""
        return int(self.manifest["atoms"])

    @property
    def elements(self) -> frozenset[int]:
        """Return the atomic numbers that occur."""
        return frozenset(int(z) for z in self.manifest["elements"])

    @property
    def references(self) -> References | None:
        """Return the reference energies of the convert stage's training split; None without energies."""
        return reference_energies.read(self.folder / REFERENCES)

    def read(self, start: int, stop: int) -> Block:
        """Return structures `start` to `stop` as one block, in the order of the source.

        Raises:
            CampaignError: Out of range, or a shard that cannot be read.
        """
        if not 0 <= start <= stop <= self.num_structures:
            raise CampaignError(f"structures {start} to {stop} of {self.num_structures}", str(self.folder), "Ask for less.")
        parts = [pack([])]
        for shard, first in zip(self.manifest["shards"], self._first.tolist(), strict=False):
            begin, end = max(start - first, 0), min(stop - first, shard["structures"])
            if begin < end:
                parts.append(read_shard(self.folder / shard["folder"], begin, end))
        return concatenate(parts) if len(parts) != 2 else parts[1]

    def load(self) -> Block:
        """Return the whole store as one block in memory."""
        return self.read(0, self.num_structures)

    def verify(self) -> None:
        """Compare every file with the manifest's SHA-256.

        Raises:
            CampaignError: Names the first file that differs.
        """
        for shard in self.manifest["shards"]:
            self._compare(shard, file_hashes(self.folder / shard["folder"]), "sha256")
        for name, expected in self.manifest["files"].items():
            if file_hash(self.folder / name) != expected["sha256"]:
                raise _damaged(self.folder / name)

    def _check_sizes(self) -> None:
        for shard in self.manifest["shards"]:
            folder = self.folder / shard["folder"]
            self._compare(shard, file_sizes(folder) if folder.is_dir() else {}, "size")
        for name, expected in self.manifest["files"].items():
            path = self.folder / name
            if not path.is_file() or path.stat().st_size != expected["size"]:
                raise _damaged(path)

    def _compare(self, shard: Mapping[str, Any], found: Mapping[str, Any], what: str) -> None:
        for name, expected in shard["files"].items():
            if found.get(name) != expected[what]:
                raise _damaged(self.folder / shard["folder"] / name)


def _damaged(path: Path) -> CampaignError:
    return CampaignError("missing, or other bytes than the manifest says", str(path), "Copy the store anew or convert again.")
