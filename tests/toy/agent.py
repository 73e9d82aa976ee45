"""A small real job: start file, heartbeat, one line for each execution, a receipt; or a death of the kind asked for."""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # started by its path, by a job that knows the package alone

from model.outcome import Cause, Status, write_json
from toy.deeds import begun
from workflow.receipt import Receipt, read_receipt, vouch, write_receipt
from workflow.request import Request, read_request
from workflow.rundir import AttemptDir


def main() -> None:
    attempt = AttemptDir(Path(sys.argv[1]))
    request = read_request(attempt.request)
    if attempt.revoked.exists():
        return
    if any(
        r.status is Status.DONE for f in request.previous if (r := read_receipt(AttemptDir(Path(request.campaign) / f).receipt))
    ):
        write_receipt(attempt.receipt, receipt(request, Status.DONE, None, ()))
        return
    write_json(attempt.start, {"job_id": os.environ["LOCAL_JOB_ID"]})
    threading.Thread(target=beat, args=(attempt,), daemon=True).start()
    act(begun(Path(request.campaign), request), attempt, request)


def beat(attempt: AttemptDir) -> None:
    count = 0
    while True:
        write_json(attempt.heartbeat, {"count": count})
        count += 1
        time.sleep(0.1)


def act(what: str, attempt: AttemptDir, request: Request) -> None:
    """Do one link's work: `done`, `partial`, `fail <cause>`, `exit <code>`, `kill`, `wait` for a file; joined by `+`."""
    for word in what.split("+"):
        name, _, value = word.partition(" ")
        if name == "wait":
            wait(attempt, Path(request.campaign) / value)
        elif name == "sleep":
            time.sleep(float(value))
        elif name == "exit":
            os._exit(int(value))
        elif name == "kill":
            os.kill(os.getpid(), 9)
        else:
            finish(name, value, attempt, request)


def wait(attempt: AttemptDir, path: Path) -> None:
    while not path.exists():
        if attempt.stop.exists():
            write_receipt(attempt.receipt, receipt(read_request(attempt.request), Status.PARTIAL, None, ()))
            os._exit(0)
        time.sleep(0.05)


def finish(name: str, value: str, attempt: AttemptDir, request: Request) -> None:
    work = attempt.run / "work.txt"
    work.write_text(f"{request.token}\n")
    outputs = tuple(vouch(Path(request.campaign), "work", work))
    write_receipt(attempt.receipt, receipt(request, Status.FAILED if name == "fail" else Status(name), value or None, outputs))
    os._exit(1 if name == "fail" else 0)


def receipt(request: Request, status: Status, cause: str | None, outputs: tuple) -> Receipt:
    message = f"as planned: {cause}" if cause else ""
    now = time.time()
    where = (request.token, request.stage, request.link, request.attempt, status)
    return Receipt(
        *where,
        Cause(cause) if cause else None,
        message,
        {},
        outputs,
        {"previous": list(request.previous)},
        request.nodes,
        now,
        now,
    )


if __name__ == "__main__":
    main()
