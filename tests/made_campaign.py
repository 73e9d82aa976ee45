"""A campaign's folder as drivers and agents leave it, made without running one; the journal is written by `Journal` itself."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

from model.outcome import Cause, Outcome, Status, write_json, write_outcome
from workflow.journal import Journal
from workflow.receipt import Output, Receipt, vouch, write_receipt
from workflow.rundir import AttemptDir, RunDir
from workflow.site import Periods

VERSIONS = {"campaign": "0.1.0", "python": "3.11.4", "torch": "2.13.0", "parsl": "2026.10.26"}
BRANCHES = ("gfn1", "gfn2", "emt")
_NEEDS: dict[str, tuple[str, tuple[str, ...], int, int]] = {
    "data": ("convert", (), 1, 1),
    "painn": ("hpo", ("data",), 2, 2),
    "egnn": ("hpo", ("data",), 2, 1),
    "best": ("promote", ("painn", "egnn"), 0, 1),
    "train/1": ("train", ("best",), 2, 2),
    "train/2": ("train", ("best",), 2, 2),
    "lead": ("promote", ("train/1", "train/2"), 0, 1),
    "tune": ("finetune", ("lead",), 2, 1),
    "weights": ("blend", ("lead",), 1, 1),
    "screen": ("screen", ("lead", "weights"), 2, 1),
}
_SPACE = {"hidden": {"choices": [32, 48]}, "learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}, "layers": 3}
_SPECS: dict[str, dict[str, Any]] = {
    "hpo": {"space": _SPACE, "seed": 1, "backbone": "painn", "trial": {"nodes": 1, "epochs": 4}},
    "finetune": {"task": "scarce"},
    "screen": {"candidates": "gfn1", "top": 25, "precision": "fp32"},
}


class MadeCampaign:
    """Writes events, receipts, heartbeats, metrics and records in the forms that the code that runs campaigns uses."""

    def __init__(self, folder: Path) -> None:
        self.rundir, self.tokens = RunDir(folder), 0
        folder.mkdir(parents=True, exist_ok=True)
        write_json(self.rundir.campaign, _campaign_json())
        self.journal = Journal.take(self.rundir, Periods(heartbeat_s=60))
        self.journal.commit("created", campaign_id="c0ffee" * 5, name="gfm", file="gfm.yaml", sha256="ab" * 32, versions=VERSIONS)

    def begin(self, stage: str, link: int = 1, attempt: int = 1, *, running: bool = True) -> str:
        """Ask for an attempt and let it run."""
        kind, _, nodes, _ = _NEEDS[stage]
        self.tokens += 1
        token = f"gfm-{self.tokens:04d}"
        where = {"stage": stage, "link": link, "attempt": attempt, "token": token}
        cost = {"nodes": nodes, "walltime_s": 1800, "node_hours": nodes / 2}
        self.journal.commit("intent", kind=kind, **where, **cost, script_sha256="0" * 64)
        self.journal.commit("submitted", token=token, job_id=str(1000 + self.tokens))
        if running:
            self.journal.commit("started", token=token)
            self.attempt(stage, link, attempt).tasks.mkdir(parents=True)
            start = {"job_id": str(1000 + self.tokens), "nodes": ["node1"], "host": "h"}
            write_json(self.attempt(stage, link, attempt).start, start)
        return token

    def end(self, stage: str, status: str, link: int = 1, attempt: int = 1, **fact: Any) -> None:
        """End the newest attempt with a receipt and settle it."""
        token, cause = f"gfm-{self.tokens:04d}", fact.get("cause")
        result, roles, message = fact.get("result", {}), fact.get("roles", ()), fact.get("message", "")
        outputs = tuple(Output(role, f"stages/{stage}/{role}", 10, "0" * 64) for role in roles)
        outputs += tuple(each for role, value in fact.get("files", {}).items() for each in self._written(stage, role, value))
        why = Cause(cause) if cause else None
        made = Receipt(token, stage, link, attempt, Status(status), why, message, {}, outputs, result, 2, 0.0, 9.0)
        write_receipt(self.attempt(stage, link, attempt).receipt, made)
        self.journal.commit(
            "settled", token=token, stage=stage, link=link, attempt=attempt, status=status, cause=cause, message=message,
            evidence={}, node_hours=fact.get("node_hours", 0.2),
        )  # fmt: skip
        if status == "done":
            self.done(stage, made)

    def done(self, stage: str, receipt: Receipt) -> None:
        """Give a stage its verdict."""
        self.rundir.stage(stage).mkdir(parents=True, exist_ok=True)
        write_receipt(self.rundir.stage_receipt(stage), receipt)
        self.journal.commit("stage", stage=stage, state="done", cause=None, message="")

    def decide(self, stage: str, result: dict[str, Any]) -> None:
        """Let the driver do a stage on the login node."""
        self.done(stage, Receipt("", stage, 1, 1, Status.DONE, result=result))

    def beat(self, stage: str, link: int = 1, attempt: int = 1, count: int = 7, **facts: Any) -> None:
        """Write a heartbeat."""
        nodes = {"free": 0, "busy": 1, "quarantined": 0, "spare": 1, "allocated": 2}
        beat = {"count": count, "t": 0, "pid": 1, "host": "h", "phase": "working", "time_left_s": 754.0, "nodes": nodes, **facts}
        write_json(self.attempt(stage, link, attempt).heartbeat, beat)

    def metrics(self, stage: str, task: str, epochs: int, link: int = 1, attempt: int = 1) -> None:
        """Write the validation lines and the outcome of a training."""
        folder = self.attempt(stage, link, attempt).tasks / task
        folder.mkdir(parents=True, exist_ok=True)
        lines = [
            {"epoch": epoch, "step": 40 * epoch, "t": 0.0, "learning_rate": 1e-3, "train": {}, "objective": 2 / epoch,
             "validation": {name: errors(number, epoch) for number, name in enumerate(BRANCHES)}, "structures_per_s": 90.0}
            for epoch in range(1, epochs + 1)
        ]  # fmt: skip
        (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        spent = {"assemble": 0.5, "data": 2.0, "forward": 11.0, "backward": 21.0, "reduce": 4.0, "update": 0.4, "validate": 2.5,
                 "checkpoint": 1.2, "command": 47.0}  # fmt: skip
        result = {"checkpoints": {"count": epochs, "seconds": 1.2, "longest_s": 0.3}}
        write_outcome(folder, Outcome(Status.DONE, result=result, world_size=2, versions=VERSIONS, timings_s=spent))

    def told(self, stage: str, task: str, link: int = 1, attempt: int = 1, *, precision: str = "fp64") -> None:
        """Write the outcome of a task that says with what it worked."""
        folder = self.attempt(stage, link, attempt).tasks / task
        folder.mkdir(parents=True, exist_ok=True)
        found = {**training_result(0.4), "training": {"seed": 3, "precision": precision, "layout": "branch"}}
        used = {key: found[key] for key in ("training", "layout", "model", "parameters")}
        write_outcome(folder, Outcome(Status.DONE, result=used, world_size=2, versions=VERSIONS))

    def record(self, stage: str, rows: list[dict[str, Any]], link: int = 1, attempt: int = 1) -> None:
        """Write the record of a search that came to these rows, one trial a minute, two at a time."""
        lines: list[dict[str, Any]] = []
        for row in rows:
            number = row["id"]
            lines.append({"event": "ask", "t": 1e9 + 60 * number, "trials": [{"trial": number, "point": row["config"]}]})
            told = {key: row.get(key) for key in ("status", "cause", "message", "objective", "epochs", "seconds")}
            result = {"parameters": 1000 * row["config"]["hidden"]}
            lines.append({"event": "end", "t": 1e9 + 60 * number + 110, "trial": number, **told, "result": result})
        self.attempt(stage, link, attempt).record.write_text("".join(json.dumps(line) + "\n" for line in lines))

    def stage_in(self, stage: str, link: int = 1, attempt: int = 1) -> None:
        """Write what a stage-in leaves."""
        folder = self.attempt(stage, link, attempt).run / "staging" / "1"
        folder.mkdir(parents=True)
        copied = {"files": 12, "bytes": 5_000_000, "nodes": 2, "done_files": 24, "done_bytes": 10_000_000, "skipped_files": 0}
        write_json(folder / "staged.json", {**copied, "seconds": 2.5, "elapsed_s": 3.25})

    def attempt(self, stage: str, link: int, attempt: int) -> AttemptDir:
        """Return an attempt's folder."""
        return self.rundir.attempt(stage, link, attempt)

    def _written(self, stage: str, role: str, value: Any) -> list[Output]:
        path = self.rundir.stage(stage) / f"{role.replace(':', '-')}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, value)
        return vouch(self.rundir.root, role, path)


def errors(number: int, epoch: int) -> dict[str, Any]:
    """Return one branch's errors after an epoch."""
    fall = math.exp(-epoch / (4 + number)) + 0.05
    return {
        "energy_mae_mev_per_atom": 90 * (number + 1) * fall, "energy_baseline_mev_per_atom": 95.0 * (number + 1),
        "force_mae_mev_per_angstrom": 700 / (number + 1) * fall, "force_baseline_mev_per_angstrom": 720.0 / (number + 1),
        "energy_rmse_mev_per_atom": 110 * (number + 1) * fall, "force_rmse_mev_per_angstrom": 900 / (number + 1) * fall,
        "num_structures": 100 * (number + 1), "num_energies": 100 * (number + 1), "num_force_components": 2700 * (number + 1),
    }  # fmt: skip


def parity(*branches: str, count: int = 80, split: str = "test") -> dict[str, Any]:
    """Return what a test leaves of its predictions beside labels."""
    draw = random.Random(5)

    def pairs(spread: float) -> list[list[float]]:
        labels = [draw.gauss(0, spread) for _ in range(count)]
        return [[label, label + draw.gauss(0, 0.1 * spread)] for label in labels]

    return {"split": split, "units": {}, "branches": {name: {"energies": pairs(0.2), "forces": pairs(2.0)} for name in branches}}


def trials(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Return a search's rows with every kind of end."""
    draw = random.Random(seed)
    rows = []
    for number in range(1, count + 1):
        cause = {3: "oom", 7: "diverged"}.get(number % 11)
        row = {"id": number, "config": {"hidden": draw.randrange(16, 256), "learning_rate": 10 ** draw.uniform(-5, -2)}}
        row |= {"status": "failed" if cause else "done", "cause": cause, "message": "needs 9 GB, has 4" if cause == "oom" else ""}
        row |= {"objective": None if cause else 0.3 + draw.expovariate(3) + 1.5 / number, "epochs": 4, "seconds": 21.5}
        if number % 8 == 6 and not cause:
            row |= {"status": "stopped", "objective": row["objective"] + 0.4, "epochs": 2}
        rows.append({**row, "tasks": [], "interrupted": int(number % 9 == 5)})
    return rows


def training_result(objective: float) -> dict[str, Any]:
    """Return what a training's receipt holds."""
    metrics = {name: errors(number, 12) for number, name in enumerate(BRANCHES)}
    training = {"seed": 3, "precision": "fp64", "layout": "branch"}
    model = {"backbone": {"name": "painn", "hidden": 48}, "cutoff": 5.0, "head_layers": 2, "head_hidden": 64, "readout": "atom"}
    test = {"split": "test", "metrics": {name: errors(number, 9) for number, name in enumerate(BRANCHES)}}
    layout = {name: [number] for number, name in enumerate(BRANCHES)}
    return {"test": test, "layout": layout, "objective": objective, "epochs": 12, "seconds": 77.0, "metrics": metrics,
            "parameters": 148993, "training": training, "model": model, "backbone": "painn",
            "checkpoint": "stages/train-1/last"}  # fmt: skip


def whole(folder: Path) -> MadeCampaign:
    """Make a campaign that is done, with failures on its way."""
    made = MadeCampaign(folder)
    splits = {"train": 800, "validation": 100, "test": 100}
    facts = {"structures": 1000, "atoms": 12345, "rejected": 2, "elements": ["H", "C", "N", "O"], "splits": splits}
    made.begin("data")
    roles = [f"store:{name}" for name in BRANCHES]
    made.end("data", "done", result={"branches": dict.fromkeys(BRANCHES, facts)}, roles=roles)
    made.begin("painn")
    made.end("painn", "partial", result={"trials": trials(10)})
    made.begin("painn", 2)
    made.end("painn", "failed", 2, cause="node_failure", message="node2 does not answer")
    made.begin("painn", 2, 2)
    made.record("painn", trials(24), 2, 2)
    made.told("painn", "trial-20", 2, 2)
    made.stage_in("painn", 2, 2)
    made.end("painn", "done", 2, 2, result={"backbone": "painn", "trials": trials(24), "best": 20}, roles=["checkpoint:20"])
    made.begin("egnn")
    made.told("egnn", "trial-4", precision="fp32")
    made.record("egnn", trials(16, 1))
    made.end("egnn", "done", result={"backbone": "egnn", "trials": trials(16, 1), "best": 4}, roles=["checkpoint:4"])
    rows = [
        {"backbone": name, "objective": value, "seconds": 21.5, "epochs": 4, "source": {"stage": name, "trial": trial}}
        for name, value, trial in (("painn", 0.42, 20), ("painn", 0.45, 18), ("egnn", 0.61, 4))
    ]
    made.decide("best", {"selected": [rows[0], rows[2]], "ranking": rows})
    for number in (1, 2):
        made.begin(f"train/{number}")
        made.metrics(f"train/{number}", "train", 6)
        made.end(f"train/{number}", "partial", result=training_result(0.5))
        made.begin(f"train/{number}", 2)
        made.metrics(f"train/{number}", "train", 12, 2)
        files = {"parity": parity(*BRANCHES)}
        made.end(f"train/{number}", "done", 2, result=training_result(0.3 + number / 10), roles=["checkpoint"], files=files)
    lead = {"backbone": "painn", "objective": 0.4, "seconds": 77.0, "epochs": 12, "source": {"stage": "train/1", "trial": None}}
    made.decide("lead", {"selected": [lead], "ranking": [lead]})
    made.begin("tune")
    strategies = ("unfrozen", "frozen", "scratch")
    table = [
        {"task": "scarce", "strategy": name, "split": "test", "objective": 0.2 * place, "epochs": 10, "seconds_to_best": 14.5,
         **errors(place, 10)}
        for place, name in enumerate(strategies)
    ]  # fmt: skip
    made.told("tune", "scarce-unfrozen")
    tested = {f"parity:scarce:{name}": parity("scarce") for name in strategies}
    made.end("tune", "done", result={"tasks": ["scarce"], "table": table}, roles=["table"], files=tested)
    blended = {
        name: {"energy_mae_mev_per_atom": 8.0, "mean_of_branches_mae_mev_per_atom": 21.0, "own_branch_mae_mev_per_atom": 9.5,
               "weights": dict.fromkeys(BRANCHES, 1 / 3)}
        for name in BRANCHES
    }  # fmt: skip
    blended[BRANCHES[-1]]["energy_mae_mev_per_atom"] = 22.5
    made.begin("weights")
    made.end("weights", "done", result={"metrics": blended}, roles=["blend"])
    made.begin("screen")
    made.told("screen", "screen")
    top = [
        {"place": place + 1, "id": f"cand-{place:04d}", "index": 7 * place, "formula": "C2H6O", "num_atoms": 9,
         "residual_per_atom": -0.9 + place / 20}
        for place in range(25)
    ]  # fmt: skip
    edges = [-1 + place / 10 for place in range(21)]
    counts = [round(400 * math.exp(-((edge - 0.1) ** 2) * 9)) for edge in edges[:-1]]
    histogram = {"edges": edges, "counts": counts, "unit": "eV/atom"}
    score = {"score": "residual_per_atom", "unit": "eV/atom", "order": "low first", "meaning": "Blended energy per atom."}
    found = {**score, "count": sum(counts), "flagged": 13, "top": top[:20], "histogram": histogram}
    made.end("screen", "done", result=found, roles=["screened"], files={"top": {**score, "top": top}})
    made.journal.close()
    return made


def half(folder: Path) -> MadeCampaign:
    """Make a campaign that is at work: a search running, another waiting in the queue."""
    made = MadeCampaign(folder)
    made.begin("data")
    made.end("data", "done", result={"branches": {}}, roles=["store:gfn1"])
    made.begin("painn")
    made.beat(
        "painn",
        progress={"trials": {"total": 24, "done": 9, "running": 2, "interrupted": 1, "failed": {"oom": 2, "diverged": 1}},
                  "best": {"trial": 8, "objective": 0.4321}},
        tasks={
            "trial-0013": {"status": "running", "nodes": ["node1"], "progress": progress(2, 4)},
            "trial-0014": {"status": "running", "nodes": ["node2"], "progress": progress(1, 4)},
            "trial-0012": {"status": "done", "nodes": ["node1"], "progress": progress(4, 4)},
        },
    )  # fmt: skip
    made.begin("painn", 2, running=False)
    made.begin("egnn", running=False)
    return made


def progress(epoch: int, epochs: int) -> dict[str, Any]:
    """Return a training's `progress.json`."""
    return {"count": 5, "phase": "training", "done": 40 * epoch, "total": 40 * epochs, "unit": "steps", "epoch": epoch,
            "epochs": epochs, "objective": 1 / epoch, "rate": 91.5}  # fmt: skip


def _campaign_json() -> dict[str, Any]:
    instances = [
        {"key": key, "kind": kind, "needs": list(needs), "nodes": nodes, "links": links, "walltime_s": 1800.0,
         "spec": {"kind": kind, "nodes": nodes or None, "links": links, "walltime": "00:30", "training": {"seed": 3},
                  **_SPECS.get(kind, {})}}
        for key, (kind, needs, nodes, links) in _NEEDS.items()
    ]  # fmt: skip
    branches = {name: {"reader": "extxyz", "path": f"{name}.extxyz", "share": share} for name, share in
                zip(BRANCHES, (0.5, *[None] * (len(BRANCHES) - 1)), strict=True)}  # fmt: skip
    splits = {"seed": 4, "validation": 0.1, "test": 0.1}
    header = {"name": "gfm", "budget": {"node_hours": 20.0}, "branches": branches, "sources": {}, "splits": splits}
    site = {"name": "local", "node": {"devices": 1}}
    return {"campaign_id": "c0ffee" * 5, "name": "gfm", "file": "gfm.yaml", "sha256": "ab" * 32, "site": site, "header": header,
            "instances": instances}  # fmt: skip
