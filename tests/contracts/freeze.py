"""Write the frozen fixtures: `python -m tests.contracts.freeze [READER ...]`, once, when a reader is added.

What lies in `frozen/` was written by the libraries that the containers' publishers use, in the versions that `frozen.json` names,
and is never written again: a library that comes to write or read otherwise must not move fixture and reader together.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import sys
from importlib.metadata import version
from pathlib import Path

from model import registry

FROZEN = Path(__file__).with_name("frozen")
INDEX = FROZEN / "frozen.json"
LIBRARIES = ("ase", "ase-db-backends", "h5py", "lmdb", "numpy", "pymatgen-core")


def main(names: list[str]) -> None:
    """Freeze the fixtures of the readers named, or of those that have none."""
    index = json.loads(INDEX.read_text()) if INDEX.is_file() else {}
    for name in names or [each for each in registry.readers() if each not in index]:
        source = importlib.import_module(f"tests.contracts.sources.{name}")
        folder = FROZEN / name
        folder.mkdir(parents=True)
        source.write(folder / source.FILE)
        keep = {source.FILE, *getattr(source, "COMPANIONS", ())}
        for extra in folder.iterdir():
            if extra.name not in keep:
                extra.unlink()
        hashes = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}
        index[name] = {"files": hashes, "written_by": {library: version(library) for library in LIBRARIES}}
    INDEX.write_text(json.dumps(dict(sorted(index.items())), indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
