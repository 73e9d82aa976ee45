"""The commands of PBS: each asks the server by a file, and waits for the file with its answer.

`client.py COMMAND ARGUMENTS...`; it imports the standard library only, for it starts often.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import submission

SERVER = "aurora-pbs"
_LOOK_S = 0.02
_DOWN = {"qstat": 255}
_DOWN_CODE = 162


def main(argv: list[str]) -> int:
    """Carry out one command."""
    command, arguments = argv[1], argv[2:]
    try:
        request = READERS[command](arguments)
    except submission.Usage as error:
        print(error, file=sys.stderr)
        return error.code
    return tell(command, ask(command, request))


def ask(command: str, request: dict[str, Any]) -> dict[str, Any]:
    """Hand in a request and wait for the answer, however long that takes."""
    root = Path(os.environ["PBS_CONF_FILE"]).parent
    name = f"{time.time_ns()}-{os.getpid()}.json"
    part, answer = root / "requests" / f".{name}", root / "answers" / name
    if (root / "down").exists():
        return refused(command)
    part.write_text(json.dumps({"command": command, **request}))
    part.rename(part.with_name(name))
    while not answer.exists():
        time.sleep(_LOOK_S)
    fields = json.loads(answer.read_text())
    answer.unlink()
    return fields


def refused(command: str) -> dict[str, Any]:
    """Return what a command says when nobody listens."""
    code = _DOWN.get(command, _DOWN_CODE)
    words = f"Connection refused\n{command}: cannot connect to server {SERVER} (errno=15010)\n"
    listing = {"timestamp": int(time.time()), "pbs_version": "23.06.06", "pbs_server": SERVER}
    out = json.dumps(listing, indent="\t", separators=(",", ":\t")) + "\n" if command == "qstat" else ""
    return {"out": out, "err": words, "code": code}


def tell(command: str, answer: dict[str, Any]) -> int:
    """Print an answer."""
    sys.stdout.write(answer["out"])
    sys.stderr.write(answer["err"])
    return int(answer["code"])


def read_ids(command: str, arguments: list[str], flags: str, valued: str = "") -> dict[str, Any]:
    """Read options of a letter each, and ids."""
    options, ids = submission.options(command, arguments, flags, valued)
    return {"options": dict(options), "ids": ids}


READERS = {
    "qsub": submission.read,
    "qstat": lambda arguments: read_ids("qstat", arguments, "xf", "F"),
    "qdel": lambda arguments: read_ids("qdel", arguments, "x"),
    "qsig": lambda arguments: read_ids("qsig", arguments, "", "s"),
    "qhold": lambda arguments: read_ids("qhold", arguments, ""),
    "qrls": lambda arguments: read_ids("qrls", arguments, ""),
    "pbsnodes": lambda arguments: read_ids("pbsnodes", arguments, "a", "F"),
}

if __name__ == "__main__":
    sys.exit(main(sys.argv))
