"""Compare every file of a store with its manifest, as JSON on stdout; `campaign datasets verify` shows it.

`python -m model.data.verification STORE [--threads N]`: all that is damaged is named, not only the first file.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from model.arguments import positive
from model.data.store import MANIFEST, Store, file_fault
from model.outcome import CampaignError


def main(argv: Sequence[str] | None = None) -> int:
    """Print what is found; the exit code is 1 where a file is damaged or there is no store."""
    parser = argparse.ArgumentParser(prog="python -m model.data.verification", description=__doc__)
    parser.add_argument("store", type=Path, help="folder of a store")
    parser.add_argument("--threads", type=positive, default=2, help="files read at once")
    given = parser.parse_args(argv)
    try:
        found = verify(given.store, given.threads)
    except CampaignError as error:
        found = {"faults": [vars(error)]}
    except (LookupError, TypeError, AttributeError) as error:
        damaged = CampaignError(f"the manifest is damaged ({error!r})", str(given.store / MANIFEST), "Copy the store anew.")
        found = {"faults": [vars(damaged)]}
    sys.stdout.write(json.dumps(found) + "\n")
    return int(bool(found["faults"]))


def verify(folder: Path, threads: int) -> dict[str, Any]:
    """Return counts, and every file that is missing, cut short or differs, in the order of the manifest.

    Raises:
        CampaignError: No finished store, or one of another format.
    """
    store = Store.open(folder, to_verify=True)
    files = list(store.files())
    with ThreadPoolExecutor(threads) as pool:  # hashing lets other threads run
        faults = [vars(fault) for fault in pool.map(_fault, files) if fault is not None]
    counts = {"structures": store.num_structures, "shards": len(store.manifest["shards"]), "files": len(files)}
    return {"name": store.name, **counts, "bytes": sum(expected["size"] for _, expected in files), "faults": faults}


def _fault(file: tuple[Path, Mapping[str, Any]]) -> CampaignError | None:
    return file_fault(*file)


if __name__ == "__main__":
    sys.exit(main())
