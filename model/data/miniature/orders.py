"""Write many miniatures in one process: `python -m model.data.miniature.orders ORDERS.json`.

The file maps names to `{reader, options, folder, count}`; one JSON line maps the names to the files written.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from model.data.miniature.__main__ import write
from model.outcome import CampaignError


def main(argv: list[str]) -> int:
    """Write everything that is ordered; 2 where an order cannot be filled."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # xTB's threads spin against each other on few cores
    orders: dict[str, dict[str, Any]] = json.loads(Path(argv[1]).read_text())
    try:
        files = {name: [str(path) for path in write(_arguments(order))] for name, order in orders.items()}
    except CampaignError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write(json.dumps(files) + "\n")
    return 0


def _arguments(order: dict[str, Any]) -> argparse.Namespace:
    options = [f"{key}={json.dumps(value)}" for key, value in order["options"].items()]
    folder, seed = Path(order["folder"]), order.get("seed", 0)
    return argparse.Namespace(reader=order["reader"], folder=folder, count=order["count"], seed=seed, option=options)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
