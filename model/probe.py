"""What each rank of a launcher call sees of its node, its device and the others; and ways to end that a launcher must report."""

from __future__ import annotations

import os
import signal
import socket
import time
from pathlib import Path
from typing import Any

import torch

from model.config import ProbeConfig
from model.device import device_of
from model.mesh import Mesh
from model.outcome import CampaignError, Outcome, Status
from model.parallel import Ranks
from model.progress import Progress

_LOOK_S = 0.2
_MEGABYTES = 16
EXIT_CODE = 3
"""What the last rank of a call that must fail exits with."""


def run(config: ProbeConfig, folder: Path, ranks: Ranks) -> Outcome:
    """Do what the configuration says.

    Args:
        config: `exercise` names what to do.
        folder: Task folder.
        ranks: All ranks.
    """
    if config.exercise == "wait":
        return _wait(config, folder, ranks)
    if config.exercise != "report":
        _end_badly(config.exercise, ranks)
    device = device_of(config, ranks)
    mesh = Mesh(ranks, config.backend, (), config.address_suffix)
    try:
        facts = {**_place(ranks), **_device(device), **_local(config.local, ranks), **_collective(mesh, device)}
    finally:
        mesh.close()
    return Outcome(Status.DONE, result={"ranks": ranks.allgather(facts)})


def _end_badly(exercise: str, ranks: Ranks) -> None:
    """End the last rank without a word, and leave the others waiting for it, as a crash does."""
    if ranks.rank == ranks.size - 1:
        if exercise == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        os._exit(EXIT_CODE)
    ranks.barrier()


def _wait(config: ProbeConfig, folder: Path, ranks: Ranks) -> Outcome:
    """Work until asked to stop, then end in order."""
    began = time.monotonic()
    progress = Progress(folder, writes=ranks.is_first, every_s=config.progress_every_s, owner=config.owner)
    step = 0
    while not ranks.bcast(config.stop is not None and config.stop.exists()):
        step += 1
        progress.update("waiting", step, 0, "looks")
        time.sleep(_LOOK_S)
    seconds = round(time.monotonic() - began, 1)
    return Outcome(Status.PARTIAL, message="asked to stop", result={"steps": step, "seconds": seconds})


def _place(ranks: Ranks) -> dict[str, Any]:
    return {
        "rank": ranks.rank,
        "local_rank": ranks.local_rank,
        "world_size": ranks.size,
        "node": ranks.hosts[ranks.rank],
        "host": socket.gethostname(),
        "cores": sorted(os.sched_getaffinity(0)),
    }


def _device(device: torch.device) -> dict[str, Any]:
    if device.type == "cpu":
        return {"device": "cpu", "device_memory_gb": None, "device_id": ""}
    module = getattr(torch, device.type)
    properties = module.get_device_properties(device)
    # Ranks that see one device each all call it 0: only its identity tells whether two share one.
    identity = str(getattr(properties, "uuid", "")) or f"{socket.gethostname()}:{device.index}"
    return {"device": properties.name, "device_memory_gb": round(properties.total_memory / 1e9, 1), "device_id": identity}


def _local(folder: Path | None, ranks: Ranks) -> dict[str, Any]:
    """Write to the node-local folder and read back."""
    if folder is None:
        return {}
    file, data = folder / f"probe-{ranks.rank}", os.urandom(_MEGABYTES * 10**6)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        began = time.monotonic()
        file.write_bytes(data)
        same = file.read_bytes() == data
        seconds = time.monotonic() - began
        file.unlink()
        free = os.statvfs(folder)
        room = round(free.f_bavail * free.f_frsize / 1e9, 1)
        return {"local_ok": same, "local_mb_per_s": round(2 * _MEGABYTES / seconds), "local_free_gb": room}
    except OSError as error:
        return {"local_ok": False, "local_fault": str(error)}


def _collective(mesh: Mesh, device: torch.device) -> dict[str, Any]:
    """Sum over all ranks on their devices: rightly, and how fast.

    Raises:
        CampaignError: The sum is wrong.
    """
    size = len(mesh.world)
    found = float(mesh.sum_(torch.full((1,), float(mesh.rank), device=device)))
    if found != size * (size - 1) / 2:
        what = f"the sum of all ranks is {found:g}, not {size * (size - 1) / 2:g}"
        raise CampaignError(what, "", "The collective library or its environment is broken.")
    tensor = torch.ones(_MEGABYTES * 10**6 // 4, device=device)
    mesh.sum_(tensor)
    began = time.monotonic()
    mesh.sum_(tensor)
    seconds = float(tensor[0]) * 0 + time.monotonic() - began  # reading an element waits for the device
    return {"collective_ok": True, "reduce_gb_per_s": round(_MEGABYTES / 1e3 / max(seconds, 1e-9), 2) if size > 1 else None}
