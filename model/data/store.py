"""A converted data set: BP5 shards, references and a manifest in one folder; docs/store.md describes the layout."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from model.data import references as reference_energies
from model.data.block import Block, concatenate, pack
from model.data.references import References
from model.data.shard import file_hash, file_sizes, read_shard
from model.data.targets import Kind
from model.outcome import CampaignError, read_json

FORMAT = 3
"""2 since `target`; 3 since shards know their sources' hashes and may be compressed."""
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
    def open(cls, folder: Path, *, to_verify: bool = False) -> Store:
        """Open a finished store.

        A shard with missing bytes may read as garbage or end the process, so the files' sizes are compared
        with the manifest first; `verify` compares the hashes too.

        Args:
            folder: Where it stands.
            to_verify: Compare no sizes: only to look for what is damaged, not to read.

        Raises:
            CampaignError: No finished store, another format, a damaged manifest, or files cut short.
        """
        folder = Path(folder)
        if folder.exists() and not folder.is_dir():
            raise CampaignError("that is a file, and a store is a folder", str(folder), f"Give the folder that has `{MANIFEST}`.")
        manifest = read_json(folder / MANIFEST)
        if manifest is None:
            raise CampaignError("no finished store here", str(folder), "Run the convert stage that writes it (to its end).")
        found = manifest.get("format") if isinstance(manifest, dict) else None
        if found != FORMAT:
            raise CampaignError(f"store format {found}, this version reads {FORMAT}", str(folder), "Convert the source again.")
        try:
            store = cls(folder, manifest)
            if not to_verify:
                store._check_sizes()
        except (LookupError, TypeError, AttributeError) as error:
            what = f"the manifest is damaged ({error!r})"
            raise CampaignError(what, str(folder / MANIFEST), "Copy the store anew or convert again.") from error
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

    @property
    def target(self) -> tuple[Kind, str] | None:
        """Return kind and unit of the target that the source labels; None where it labels energies."""
        kind = self.manifest["source"].get("target")
        return (kind, str(self.manifest["units"].get("target", ""))) if kind in ("scalar", "class") else None

    @property
    def has_energies(self) -> bool:
        """Say whether any structure is labelled by an energy."""
        return bool(self.manifest["labels"]["energy"])

    def for_energies(self) -> Store:
        """Return the store as one that labels energies, whatever it labels beside them."""
        return Store(self.folder, {**self.manifest, "source": {**self.manifest["source"], "target": None}})

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
        for path, expected in self.files():
            if fault := file_fault(path, expected):
                raise fault

    def files(self) -> Iterator[tuple[Path, Mapping[str, Any]]]:
        """Yield every file that the manifest names, with its size and SHA-256 there."""
        for shard in self.manifest["shards"]:
            yield from ((self.folder / shard["folder"] / name, expected) for name, expected in shard["files"].items())
        yield from ((self.folder / name, expected) for name, expected in self.manifest["files"].items())

    def _check_sizes(self) -> None:
        for shard in self.manifest["shards"]:
            folder = self.folder / shard["folder"]
            found = file_sizes(folder) if folder.is_dir() else {}  # one listing for all files of a shard
            for name, expected in shard["files"].items():
                if found.get(name) != expected["size"]:
                    raise _damaged(folder / name)
        for name, expected in self.manifest["files"].items():
            path = self.folder / name
            if not path.is_file() or path.stat().st_size != expected["size"]:
                raise _damaged(path)


def file_fault(path: Path, expected: Mapping[str, Any]) -> CampaignError | None:
    """Return what is wrong with a file of a store, or None where its size and SHA-256 are those of the manifest."""
    try:
        size = path.stat().st_size
        if size == expected["size"] and file_hash(path) == expected["sha256"]:
            return None
    except OSError as error:
        return _damaged(path, "missing" if isinstance(error, FileNotFoundError) else f"cannot be read ({error.strerror})")
    same = size == expected["size"]
    return _damaged(path, "other bytes than the manifest says" if same else f"{size} bytes, {expected['size']} by the manifest")


def _damaged(path: Path, what: str = "missing, or other bytes than the manifest says") -> CampaignError:
    return CampaignError(what, str(path), "Copy the store anew or convert again.")
