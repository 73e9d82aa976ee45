"""Copy outputs of earlier stages to the node-local folder of every node, verified by digest on each.

`python -m workflow.allocation.staging ORDER.json` is what runs on each node; `Staging` is the agent's side.
"""

from __future__ import annotations

import logging
import os
import shutil
import socket
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from typing import Any

from model.outcome import CampaignError, Cause, read_json, write_json
from workflow.allocation.broadcast import SENT, SentFile
from workflow.allocation.deadline import Deadline
from workflow.allocation.ground import make_own
from workflow.allocation.health import after, call_on_each
from workflow.allocation.heartbeat import replace_json
from workflow.allocation.launch import Setting
from workflow.allocation.sending import by_command, over_mpi
from workflow.allocation.unpacking import environment_folder, sent_archive, unpack
from workflow.errors import StageError
from workflow.receipt import LOST, Output, is_right

logger = logging.getLogger(__name__)
_CLEAN_S = 60.0
STAGED = "staged.json"
"""What a stage-in moved and how long it took, in the folder of its call."""


class StageInError(StageError):
    """Not every node has its copies: a matter of storage, which may go better another time, or an output that is lost.

    Attributes:
        cause: Whose fault it is.
    """

    def __init__(self, what: str, where: str = "", remedy: str = "", cause: Cause = Cause.STORAGE) -> None:
        super().__init__(what, where, remedy)
        self.cause = cause


@dataclass(frozen=True)
class Order:
    """What each node does.

    Attributes:
        campaign: Folder to copy from.
        folder: Node-local folder to copy to; `{node}` stands for the node's name.
        node_variable: Environment variable with the node's name; empty: the host name.
        outputs: Files to copy, paths relative to both folders.
        remove: Node-local folders to remove, with `{node}` likewise.
        environment: Packed environment to unpack, by absolute path.
        make: Node-local folders to make.
    """

    campaign: str
    folder: str
    node_variable: str
    outputs: tuple[Output, ...] = ()
    remove: tuple[str, ...] = ()
    environment: Output | None = None
    make: tuple[str, ...] = ()


class Staging:
    """Node-local copies of an allocation.

    Args:
        setting: How nodes are reached.
        campaign: The campaign's folder.
        folder: Node-local folder of this attempt alone, with `{node}` where nodes have different ones.
        logs: Where the calls leave their logs.
        deadline: When the allocation stops.

    Attributes:
        folder: As given.
    """

    def __init__(self, setting: Setting, campaign: Path, folder: str, logs: Path, deadline: Deadline) -> None:
        self._setting, self._campaign, self.folder, self._logs, self._deadline = setting, campaign, folder, logs, deadline
        self._ended = False
        self._numbers = count(1)
        self._call: Path | None = None
        self._sending: Path | None = None
        self._planned: dict[str, Any] = {}
        self._staged: dict[str, Any] | None = None

    def stage(self, nodes: tuple[str, ...], outputs: Sequence[Output]) -> Path:
        """Bring outputs to all nodes; what is there already and right stays. Returns the folder, `{node}` left in.

        Raises:
            StageInError: A copy is missing or wrong somewhere, or the allocation stops.
        """
        self._staged = None
        self._planned = {"files": len(outputs), "bytes": sum(each.size for each in outputs), "nodes": len(nodes)}
        began = time.monotonic()
        self._send(nodes, [SentFile(str(self._campaign / each.path), f"{self.folder}/{each.path}", each) for each in outputs])
        done = self._carry_out(Order(**self._common(), outputs=tuple(outputs)), nodes, self._must_stop)
        if done and self._call is not None:
            self._staged = self.progress()
            write_json(self._call / STAGED, {**self._staged, "elapsed_s": round(time.monotonic() - began, 3)})
            return Path(self.folder)
        raise self._error()

    def unpack(self, nodes: tuple[str, ...], archive: Output) -> None:
        """Bring a packed environment to all nodes.

        Args:
            nodes: Where to.
            archive: Absolute path, size and digest.

        Raises:
            StageInError: It is missing or wrong somewhere, or the allocation stops.
        """
        self._send(nodes, [SentFile(archive.path, str(sent_archive(Path(environment_folder(self.folder)))), archive)])
        if not self._carry_out(Order(**self._common(), environment=archive), nodes, self._must_stop):
            raise self._error()

    def _send(self, nodes: tuple[str, ...], files: Sequence[SentFile]) -> None:
        """Send large files to all nodes at once, so that not every node reads them from the parallel file system.

        Nothing rests on it: a broadcast that fails may leave parts of files on some nodes (Frontier User Guide), so each
        node checks what it has by digest afterwards, and copies what is wrong itself.
        """
        least, launcher = self._setting.node.broadcast_mb, self._setting.launcher
        large = [each for each in files if least is not None and each.output.size >= least * 1e6]
        if not large:
            return
        folders = tuple(sorted({str(Path(each.target).parent) for each in large}))
        if launcher.broadcast and not self._carry_out(Order(**self._common(), make=folders), nodes, self._must_stop):
            return
        send, folder = (by_command if launcher.broadcast else over_mpi), self._logs / f"broadcast-{next(self._numbers)}"
        self._sending = folder
        sent = send(self._setting, nodes, large, folder, self._must_stop)
        self._sending = None
        self._planned = {**self._planned, "broadcast_files": sent}
        if sent < len(large):
            logger.warning("%d of %d broadcasts failed; nodes copy for themselves", len(large) - sent, len(large))

    def _error(self) -> StageInError:
        """Return why not all nodes have what they should."""
        if self._must_stop():
            cause = Cause.PREEMPTED if self._deadline.is_cancelled or self._ended else Cause.WALLTIME
            return StageInError("the allocation stops before all files are on the nodes", str(self._call), "", cause)
        fault, is_lost = self._fault()
        if is_lost:
            return StageInError(fault, str(self._campaign), LOST, Cause.BAD_CONFIG)
        remedy = "See stderr.log there; space on the nodes may be short."
        return StageInError(f"stage-in failed: {fault}", str(self._call), remedy)

    def end(self) -> None:
        """Give up what is being copied."""
        self._ended = True

    def clean(self, nodes: tuple[str, ...], older: Sequence[str]) -> None:
        """Remove the copies from all nodes, and what killed attempts may have left in the folders `older`."""
        own = (self.folder, str(Path(environment_folder(self.folder)).parent)) if self._call else ()
        if (own or older) and not self._carry_out(Order(**self._common(), remove=(*own, *older)), nodes, after(_CLEAN_S)):
            logger.warning("node-local copies were not removed everywhere; see %s", self._call)

    def _must_stop(self) -> bool:
        return self._ended or self._deadline.is_due

    def progress(self) -> dict[str, Any]:
        """Return what is planned on each node and how far all nodes together are, for the heartbeat.

        While nodes copy it reads a file of each, and afterwards none.
        """
        if self._staged is not None:
            return self._staged
        if self._planned and self._sending is not None:
            sent = _reading(self._sending / SENT)
            done = {f"done_{each}": sent.get(each, 0) * self._planned.get("nodes", 0) for each in ("files", "bytes")}
            return {**self._planned, **done, "is_broadcast": True}
        if not self._planned or self._call is None:
            return {}
        nodes = [fields for path in sorted(self._call.glob("staged.*.json")) if (fields := _reading(path))]
        return {
            **self._planned,
            "done_files": sum(each["files"] for each in nodes),
            "done_bytes": sum(each["bytes"] for each in nodes),
            "skipped_files": sum(each["skipped"] for each in nodes),
            "seconds": max((each["seconds"] for each in nodes), default=0.0),
        }

    def _common(self) -> dict[str, Any]:
        return {"campaign": str(self._campaign), "folder": self.folder, "node_variable": self._setting.launcher.node_variable}

    def _carry_out(self, order: Order, nodes: tuple[str, ...], give_up: Callable[[], bool]) -> bool:
        number = next(self._numbers)
        orders = self._logs / f"order-{number}.json"
        orders.parent.mkdir(parents=True, exist_ok=True)
        write_json(orders, asdict(order))
        self._call = self._logs / str(number)
        command = (sys.executable, "-m", "workflow.allocation.staging", str(orders), str(self._call))
        return call_on_each(self._setting, nodes, command, self._call, give_up)

    def _fault(self) -> tuple[str, bool]:
        """Return what went wrong, and whether an output itself is lost, which trying again cannot mend."""
        paths = sorted(self._call.glob("fault.*.json")) if self._call else []
        for path in paths:
            if (fields := _reading(path)).get("is_lost"):
                return str(fields["fault"]), True
        faults = [f"{path.name[6:-5]}: {_reading(path).get('fault', '')}" for path in paths]
        return (faults[0] if faults else "a node did not end well"), False


def main(argv: list[str]) -> int:
    """Do one node's part of an order."""
    fields, call = _reading(Path(argv[1])), Path(argv[2])
    packed = Output(**fields["environment"]) if fields["environment"] else None
    order = Order(**{**fields, "outputs": tuple(Output(**each) for each in fields["outputs"]), "environment": packed})
    node = os.environ.get(order.node_variable, "") or socket.gethostname()
    try:
        for folder in order.remove:
            remove(Path(folder.replace("{node}", node)))
        for folder in order.make:
            make_own(Path(folder))
        if order.environment:
            unpack(order.environment, Path(environment_folder(order.folder)))
        copy(order, Path(order.folder.replace("{node}", node)), call / f"staged.{node}.json")
    except StageInError as error:
        write_json(call / f"fault.{node}.json", {"fault": error.what, "is_lost": error.cause is Cause.BAD_CONFIG})
        return 1
    except (OSError, CampaignError) as error:
        write_json(call / f"fault.{node}.json", {"fault": str(error)})
        return 1
    return 0


def copy(order: Order, folder: Path, progress: Path) -> None:
    """Copy an order's outputs below `folder`; a partial or wrong file that stands there is replaced.

    Raises:
        StageInError: A source differs from its receipt, or a copy from its source.
    """
    began = time.monotonic()
    facts = {"files": 0, "bytes": 0, "skipped": 0, "seconds": 0.0}
    if order.outputs:
        make_own(folder)
    for output in order.outputs:
        facts["skipped"] += not copy_one(Path(order.campaign) / output.path, folder / output.path, output)
        facts["files"] += 1
        facts["bytes"] += output.size
        facts["seconds"] = round(time.monotonic() - began, 3)
        replace_json(progress, facts)


def copy_one(source: Path, target: Path, output: Output) -> bool:
    """Copy one file unless a right copy stands there; say whether it was copied."""
    if is_right(target, output):
        return False
    if not source.is_file():
        raise StageInError(f"'{output.path}' is gone", str(source), LOST, Cause.BAD_CONFIG)
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.part")
    shutil.copyfile(source, part)
    if not is_right(part, output):
        part.unlink()
        if not is_right(source, output):
            raise StageInError(f"'{output.path}' differs from its receipt", str(source), LOST, Cause.BAD_CONFIG)
        raise StageInError(f"the copy of '{output.path}' differs from it", str(target), "Its disk may fail.")
    part.replace(target)
    return True


def remove(folder: Path) -> None:
    """Remove a node-local folder, and the folder of the job above it when that is empty then."""
    shutil.rmtree(folder, ignore_errors=True)
    try:
        folder.parent.rmdir()
    except OSError:
        logger.debug("%s is still in use", folder.parent)


def _reading(path: Path) -> dict[str, Any]:
    try:
        fields: dict[str, Any] = read_json(path) or {}
    except CampaignError:
        return {}
    return fields


if __name__ == "__main__":
    sys.exit(main(sys.argv))
