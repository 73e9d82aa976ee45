"""Carry a campaign through in miniature on this machine, killing one job on the way."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import yaml

from model.outcome import write_json
from workflow.campaign import Campaign, Instance
from workflow.draft import draft_campaign
from workflow.errors import ConfigError, StageError
from workflow.rehearsal.evidence import Proof, Row, proofs, rows
from workflow.rehearsal.interference import Interference
from workflow.rehearsal.miniature import NODES, data_orders, left_out, small_fields
from workflow.site import packaged
from workflow.targets import folder_in

FILE = "rehearsal.yaml"
RESULT = "rehearsal.json"
_LOCK = "rehearsal.lock"
_CHECKPOINT, _ANY_WORK = "*/checkpoints/last", "*/progress.json"
_DISTURBED = {
    "train": _CHECKPOINT,
    "hpo": _CHECKPOINT,
    "finetune": _CHECKPOINT,
    "screen": _ANY_WORK,
    "blend": _ANY_WORK,
    "convert": _ANY_WORK,
}
"""Kinds whose first job may be killed, in the order of preference, and what must stand below its tasks before."""


@dataclass(frozen=True)
class Rehearsal:
    """What came of it.

    Attributes:
        folder: Where everything lies; `run` in it is the campaign's folder.
        rows: Every stage.
        proofs: What it had to show.
        seconds: Wall time of everything.
        left_out: By stage, what its miniature did not do at all, or less often.
    """

    folder: Path
    rows: list[Row]
    proofs: list[Proof]
    seconds: float
    left_out: dict[str, list[str]]

    @property
    def holds(self) -> bool:
        """Say whether everything that it had to show was seen."""
        return all(each.holds for each in self.proofs)


def rehearse(file: Path, folder: Path) -> Rehearsal:
    """Carry a campaign file through in miniature.

    Args:
        file: The campaign file; neither its site nor its data need be here.
        folder: Where everything goes; an earlier rehearsal there is replaced.

    Raises:
        CampaignError: The file is wrong, or something else lies in the folder.
    """
    began = time.monotonic()
    campaign = _campaign(file, folder)
    with _room(folder):
        _write_site(folder)
        small = small_fields(campaign, _write_data(campaign, folder))
        (folder / FILE).write_text(yaml.safe_dump(small, sort_keys=False))
        killed = _run(campaign, folder)
    run, seconds = folder / "run", time.monotonic() - began
    result = Rehearsal(folder, rows(run), proofs(run, killed), seconds, left_out(campaign))
    write_json(folder / RESULT, {**asdict(result), "folder": str(folder)})
    return result


def _campaign(file: Path, folder: Path) -> Campaign:
    """Return the campaign as it is on this machine; where it would keep its files elsewhere does not matter here."""
    draft = draft_campaign(file, "local")
    wrong = [fault for fault in draft.faults if not fault.where.endswith(": folder")]
    if wrong or draft.header is None or draft.site is None:
        raise wrong[0] if wrong else ConfigError("no campaign", str(file), "See `campaign check`.")
    return Campaign(draft.document.path.resolve(), draft.header, draft.site, draft.stages, folder / "run")


@contextlib.contextmanager
def _room(folder: Path) -> Iterator[None]:
    """Empty the folder of an earlier rehearsal, and keep it to this one.

    Raises:
        ConfigError: Another one is at work there, something else lies there, or its name cannot stand in a path of a site.
    """
    other = "Give another folder with --into."
    if set("{}") & set(str(folder)):
        raise ConfigError("braces in the name of a folder are filled in", str(folder), other)
    if folder.is_dir() and any(folder.iterdir()) and not any((folder / name).exists() for name in (FILE, _LOCK)):
        raise ConfigError("something else lies there", str(folder), other)
    folder_in(folder)
    with open(folder / _LOCK, "a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError("another rehearsal is at work there", str(folder), other) from error
        for each in folder.iterdir():
            if each.is_dir() and not each.is_symlink():
                shutil.rmtree(each, ignore_errors=True)
            elif each.name != _LOCK:
                each.unlink()
        yield


def _write_site(folder: Path) -> None:
    """Write a site like `local`, with nodes for several jobs at once, and with a spool and node-local folders of its own.

    Most of the time of so small a job goes into starting Python and torch, one after the other: two jobs keep two cores busy.
    """
    nodes = NODES * max(2, (os.cpu_count() or 1) // NODES)
    fields = yaml.safe_load((packaged("sites") / "local.yaml").read_text())
    fields["scheduler"] |= {"options": {"spool": str(folder / "spool")}, "poll_s": 0.2}
    fields["node"] |= {"local": str(folder / "node-local" / "{job}" / "{node}")}
    fields["periods"] |= {"heartbeat_s": 0.3, "stop_margin_s": 3}
    fields["nodes"] = fields["queues"][0]["max_nodes"] = nodes
    (folder / "sites").mkdir()
    (folder / "sites" / "rehearsal.yaml").write_text(yaml.safe_dump(fields))


def _write_data(campaign: Campaign, folder: Path) -> dict[str, str]:
    """Write a few made-up structures into the published container of each branch and source; return their folders."""
    wanted = data_orders(campaign, folder / "data")
    orders = folder / "data" / "orders.json"
    orders.parent.mkdir()
    write_json(orders, wanted)
    command = [sys.executable, "-m", "model.data.miniature.orders", str(orders)]
    done = subprocess.run(command, capture_output=True, text=True, env=_environment(folder))
    if done.returncode:
        what = f"no data to rehearse with: {done.stderr.strip()[-500:]}"
        raise StageError(what, str(orders), "Install the extras: pip install 'campaign[model,local]'.")
    return {name: order["folder"] for name, order in wanted.items()}


def _run(campaign: Campaign, folder: Path) -> str | None:
    """Run the small campaign to its end; return the stage whose job was killed."""
    disturbed = _disturbed(campaign)
    interference = _interference(folder / "run", disturbed) if disturbed else None
    if interference:
        interference.start()
    command = [sys.executable, "-m", "workflow", "run", str(folder / FILE), "--plain"]
    process = subprocess.Popen(command, env=_environment(folder), cwd=folder)
    try:
        process.wait()
    except BaseException:  # interrupted: the jobs of a rehearsal are nobody's
        process.terminate()
        process.wait()
        subprocess.run(
            [*command[:3], "cancel", "-c", str(folder / FILE), "--yes"], env=_environment(folder), cwd=folder, check=False
        )
        raise
    finally:
        if interference:
            interference.end()
    return interference.key if interference and interference.killed else None


def _interference(folder: Path, disturbed: Instance) -> Interference:
    """Return what kills a job of an instance; a training, which has links enough, is also told that its time is up."""
    kind = disturbed.spec.kind
    return Interference(folder, disturbed.key, _DISTURBED[kind], warns=kind == "train")


def _disturbed(campaign: Campaign) -> Instance | None:
    """Return the stage instance whose job will be killed."""
    for kind in _DISTURBED:
        for instance in campaign.instances():
            if instance.spec.kind == kind:
                return instance
    return None


def _environment(folder: Path) -> dict[str, str]:
    own = {"CAMPAIGN_SITES": str(folder / "sites"), "XDG_CONFIG_HOME": str(folder / "config"), "OMP_NUM_THREADS": "1"}
    return {**os.environ, **own}
