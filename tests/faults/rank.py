"""A rank of a task in the tests of the agent: real MPI, the model's real owner watch, a chosen behaviour.

`python rank.py BEHAVIOUR FACTS`, FACTS a JSON object with `heartbeat`, `revoked`, `ttl_s`, `stop`.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

from mpi4py import MPI

from model import owner
from model.outcome import Outcome, Status, write_outcome
from model.specs import Owner
from workflow.allocation.heartbeat import replace_json

world = MPI.COMM_WORLD
behaviour, facts = sys.argv[1], json.loads(sys.argv[2])
folder = Path.cwd()
own = Owner(heartbeat=facts["heartbeat"], revoked=facts["revoked"], ttl_s=facts["ttl_s"])
hosts = tuple(sorted(set(world.allgather(os.environ["LOCAL_NODE"]))))


def end(status: Status) -> None:
    world.Barrier()
    if world.rank == 0:
        write_outcome(folder, Outcome(status, world_size=world.size, hosts=hosts))
    sys.exit(0)


if behaviour != "stubborn-unwatched":
    owner.watch(own, folder, world.rank)
if behaviour.startswith("stubborn"):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if behaviour == "crash":
    os.abort()
if behaviour == "killed" and world.rank == 0:
    os.kill(os.getpid(), signal.SIGKILL)
if behaviour == "liar":
    write_outcome(folder, Outcome(Status.DONE, world_size=1, hosts=hosts[:1]))
    sys.exit(0)
if behaviour == "brief":
    end(Status.DONE)

count = 0
while True:
    count += 1
    with open(folder / f"written.{world.rank}.log", "a") as file:
        file.write(f"{os.getpid()} {count}\n")
    if world.rank == 0:
        replace_json(folder / "progress.json", {"count": count, "phase": "working"})
    asked = world.bcast(behaviour == "work" and Path(facts["stop"]).exists())
    if asked:
        end(Status.PARTIAL)
    time.sleep(0.05)
