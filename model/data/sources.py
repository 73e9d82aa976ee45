"""Source files as a conversion knows them: size, SHA-256 and records, looked at once and again when they have changed.

What is found out about a file stands in `sources/<number>.json` of the store, with the times by which a change is noticed:
neither a look at 800 GB nor a count of what is in them is worth repeating each time an interrupted conversion goes on.
A shard remembers the hash, not the times, so a file that was only touched or copied is not converted again, and one that
was edited is, even to equal size.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from model.data.readers.base import Reader, beside
from model.data.shard import file_hash
from model.outcome import CampaignError, read_json, write_json
from model.specs import Strict

FOLDER = "sources"


@dataclass(frozen=True)
class Source:
    """A source file and the files beside it that its records are made of.

    Attributes:
        name: Relative to the folder that was given.
        size: Bytes.
        sha256: Of its bytes.
        records: Records in it.
        beside: Name, size and SHA-256 of each file beside it.
    """

    name: str
    size: int
    sha256: str
    records: int
    beside: tuple[dict[str, Any], ...]

    @property
    def origin(self) -> dict[str, Any]:
        """Return what a shard's records depend on, as flat values."""
        others = " ".join(f"{each['name']} {each['sha256']}" for each in self.beside)
        return {"file": self.name, "size": self.size, "sha256": self.sha256} | ({"beside": others} if others else {})


def examine(path: Path, name: str, reader: Reader, options: Strict, note: Path) -> Source | CampaignError:
    """Hash and count a file, or take what was found out about it before; the error where it cannot be counted.

    Args:
        path: The file.
        name: Its name in the store.
        reader: Counts its records.
        options: The reader's.
        note: Where what is found out is kept.
    """
    others = [other for other in beside(reader, path, options) if other.is_file()]
    stamps = [list(stamp(each)) for each in (path, *others)]
    known = read_json(note)
    if known is not None and known["name"] == name and known["stamps"] == stamps:
        return Source(**{**known["source"], "beside": tuple(known["source"]["beside"])})
    try:
        records = reader.count(path, options)
    except CampaignError as error:
        return error
    facts = tuple({"name": each.name, "size": each.stat().st_size, "sha256": file_hash(each)} for each in others)
    source = Source(name, path.stat().st_size, file_hash(path), records, facts)
    if [list(stamp(each)) for each in (path, *others)] != stamps:
        return CampaignError("changed while it was counted", str(path), "Is it being written? Run again when it is complete.")
    write_json(note, {"name": name, "stamps": stamps, "source": asdict(source)})
    return source


def stamp(path: Path) -> tuple[int, int, int]:
    """Return size, time of change and time of status change: nobody can set the last one back, as `cp -p` does the other."""
    status = path.stat()
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns
