"""What is a shared backbone worth to a scarce branch? Four ways to train, three seeds, equal CPU time: `make demo-science`.

    alone     the scarce branch by itself
    sibling   with the ample branch beside it, each with a head of its own
    all       with the metals as well
    one head  all of them through a single head

Splits are those of the quickstart campaign: the molecules tested on were seen by no branch. What a step costs is
measured for each way first, and every way then gets as many steps as the same CPU time buys. Everything is done by
`python -m model` commands in a folder that is kept; what stands there is not done again. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from model.outcome import read_json, write_json
from workflow import intervals

SCARCE = "gfn2"
ARMS: dict[str, tuple[tuple[str, ...], str]] = {
    "alone": ((SCARCE,), "branch"),
    "sibling": (("gfn1", SCARCE), "branch"),
    "all": (("gfn1", SCARCE, "emt"), "branch"),
    "one head": (("gfn1", SCARCE, "emt"), "shared"),
}
"""Branches and heads of each way to train."""
REQUIRED = 1.3
"""The sibling must lower the scarce branch's force error by this factor."""
SEEDS = (0, 1, 2)
BATCH, VALIDATIONS = 32, 12
PILOT_STEPS = (12, 60)
METRICS = {"force": "force_mae_mev_per_angstrom", "energy": "energy_mae_mev_per_atom"}


@dataclass(frozen=True)
class Study:
    """One run of the whole comparison.

    Attributes:
        folder: Where stores, trainings and answers are kept.
        campaign: The quickstart campaign, for branches and splits.
        data: Folder of the made data.
        cpu_s: CPU seconds of each training's steps and validations.
        seeds: Seeds of weights and order.
    """

    folder: Path
    campaign: dict[str, Any]
    data: Path
    cpu_s: float
    seeds: tuple[int, ...]

    def store(self, branch: str) -> Path:
        """Return where a branch is converted to."""
        return self.folder / "stores" / branch

    def steps_per_epoch(self, arm: str) -> int:
        """Return the steps of an epoch over all branches of an arm."""
        return math.ceil(sum(self.structures(name) for name in ARMS[arm][0]) / BATCH)

    def training(self, arm: str, seed: int, epochs: int) -> dict[str, Any]:
        """Return the configuration of one training."""
        names, heads = ARMS[arm]
        return {
            "model": {"backbone": {"name": "painn", "layers": 3, "hidden": 48}, "cutoff": 5.0, "heads": heads},
            "branches": {n: {"store": str(self.store(n)), "share": self.campaign["branches"][n]["share"]} for n in names},
            "splits": self.campaign["splits"],
            "loss": {"energy": 20.0, "forces": 10.0},
            "optimizer": {"learning_rate": 0.002, "ema": 0.99},
            "batch": BATCH,
            "epochs": epochs,
            "validate_every": max(1, epochs // VALIDATIONS),
            "checkpoint_every_s": 3600.0,
            "seed": seed,
        }

    def structures(self, branch: str) -> int:
        """Return the training structures of a branch."""
        outcome = read_json(self.folder / f"convert-{branch}" / "outcome.json")
        return int(outcome["result"]["splits"]["train"])


def main() -> int:
    """Run the comparison; 0 where the sibling is worth what is required."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder that `python -m model.data.quickstart` filled")
    parser.add_argument("--folder", type=Path, default=Path("runs/demo-science"), help="where everything is kept")
    parser.add_argument("--cpu-s", type=float, default=60.0, help="CPU seconds of each training (default 60)")
    parser.add_argument(
        "--seeds", type=int, default=len(SEEDS), choices=sorted(intervals.T_95), help="number of seeds (default 3)"
    )
    parser.add_argument("--processes", type=int, default=2, help="trainings at a time, one core each (default 2)")
    arguments = parser.parse_args()
    campaign = yaml.safe_load(Path(__file__).with_name("quickstart.yaml").read_text())
    folder = arguments.folder.resolve()
    study = Study(folder, campaign, arguments.data.resolve(), arguments.cpu_s, tuple(range(arguments.seeds)))
    with ThreadPoolExecutor(arguments.processes) as pool:
        answer = compare(study, pool)
    sys.stdout.write(f"{table(answer)}\n{json.dumps(answer)}\n")
    return 0 if answer["passed"] else 1


def compare(study: Study, pool: ThreadPoolExecutor) -> dict[str, Any]:
    """Convert, measure what steps cost, train and test every way; return what came out."""
    list(pool.map(lambda branch: convert(study, branch), study.campaign["branches"]))
    costs = dict(zip(ARMS, pool.map(lambda arm: step_cost(study, arm), ARMS), strict=True))
    jobs = [(arm, seed) for seed in study.seeds for arm in ARMS]
    epochs = {arm: max(1, round(study.cpu_s / costs[arm] / study.steps_per_epoch(arm))) for arm in ARMS}
    tests = list(pool.map(lambda job: train_and_test(study, *job, epochs[job[0]]), jobs))
    arms = {arm: [test for (name, _), test in zip(jobs, tests, strict=True) if name == arm] for arm in ARMS}
    rows = {arm: row(found) | {"cpu_s_per_step": round(costs[arm], 4)} for arm, found in arms.items()}
    gains = {arm: gain(arms["alone"], arms[arm]) for arm in ARMS if arm != "alone"}
    passed = gains["sibling"]["force"]["mean"] >= REQUIRED
    return {"branch": SCARCE, "arms": rows, "gain_over_alone": gains, "required": REQUIRED, "passed": passed}


def convert(study: Study, branch: str) -> None:
    """Convert one branch, with the quickstart's splits."""
    source = study.campaign["branches"][branch]
    reader = {"name": source["reader"], **source.get("options", {})}
    path = str(study.data / Path(source["path"]).name)
    fields = {"name": branch, "reader": reader, "sources": [path], "store": str(study.store(branch))}
    command(study, "convert", f"convert-{branch}", fields | {"splits": study.campaign["splits"]})


def step_cost(study: Study, arm: str) -> float:
    """Return the CPU seconds of a step, its share of validations included: the slope between two short trainings."""
    points, per_epoch = [], study.steps_per_epoch(arm)
    for epochs in (max(1, PILOT_STEPS[0] // per_epoch), max(3, PILOT_STEPS[1] // per_epoch)):
        outcome = command(study, "train", f"pilot-{slug(arm)}-{epochs}", study.training(arm, 0, epochs))
        points.append((outcome["result"]["steps"], outcome["cpu_s"]))
    (few, cheap), (many, dear) = points
    return (dear - cheap) / (many - few)


def train_and_test(study: Study, arm: str, seed: int, epochs: int) -> dict[str, Any]:
    """Train one way with one seed, then test the epoch that was best on validation on the scarce branch's unseen molecules."""
    name = f"{slug(arm)}-{seed}"
    trained = command(study, "train", name, study.training(arm, seed, epochs))
    question = {
        "checkpoint": str(study.folder / name / "checkpoints" / "best"),
        "branches": {SCARCE: {"store": str(study.store(SCARCE))}},
        "splits": study.campaign["splits"],
    }
    tested = command(study, "evaluate", f"{name}-test", question)["result"]["metrics"][SCARCE]
    return tested | {"cpu_s": trained["cpu_s"], "steps": trained["result"]["steps"]}


def command(study: Study, name: str, folder: str, fields: dict[str, Any]) -> dict[str, Any]:
    """Run `python -m model <name>` in a folder of its own unless it is done there; return its outcome and its CPU seconds.

    Raises:
        SystemExit: The command failed.
    """
    place = study.folder / folder
    done = read_json(place / "measured.json")
    if done is not None and done["fields"] == fields:
        return done
    place.mkdir(parents=True, exist_ok=True)
    (place / "config.yaml").write_text(yaml.safe_dump(fields))
    cpu_s = run([sys.executable, "-m", "model", name, "config.yaml"], place)
    outcome = read_json(place / "outcome.json") or {"status": "failed", "message": "it left no outcome"}
    if outcome["status"] != "done":
        raise SystemExit(f"{place}: {outcome['message']}\n  Look into {place / 'log'}.")
    write_json(place / "measured.json", {"fields": fields, "result": outcome["result"], "cpu_s": cpu_s})
    sys.stderr.write(f"{folder}: {cpu_s:.1f} CPU s\n")
    return {"result": outcome["result"], "cpu_s": cpu_s}


def run(argv: list[str], folder: Path) -> float:
    """Run a program on one thread, its output in `log`; return the CPU seconds that it took."""
    root = str(Path(__file__).resolve().parents[1])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([root, *sys.path[1:]])}
    with open(folder / "log", "w") as log:
        process = subprocess.Popen(argv, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT)
        _, _, usage = os.wait4(process.pid, 0)
    return usage.ru_utime + usage.ru_stime


def slug(arm: str) -> str:
    """Return an arm's name as part of a folder's."""
    return arm.replace(" ", "-")


def row(tests: list[dict[str, Any]]) -> dict[str, Any]:
    """Return an arm's errors over the seeds, with what they cost."""
    found: dict[str, Any] = {name: interval(test[key] for test in tests) for name, key in METRICS.items()}
    baselines = {
        "force_baseline": tests[0]["force_baseline_mev_per_angstrom"],
        "energy_baseline": tests[0]["energy_baseline_mev_per_atom"],
    }
    return found | baselines | {name: round(statistics.mean(test[name] for test in tests), 1) for name in ("cpu_s", "steps")}


def gain(alone: list[dict[str, Any]], other: list[dict[str, Any]]) -> dict[str, Any]:
    """Return by what factor each error falls, seed against seed: geometric mean and its interval."""
    found = {}
    for name, key in METRICS.items():
        logs = interval(math.log(a[key] / b[key]) for a, b in zip(alone, other, strict=True))
        low, high = math.exp(logs["mean"] - logs["ci95"]), math.exp(logs["mean"] + logs["ci95"])
        found[name] = {"mean": round(math.exp(logs["mean"]), 4), "ci95": [round(low, 4), round(high, 4)]}
    return found


def interval(values: Iterable[float]) -> dict[str, Any]:
    """Return mean, half width of the 95 % confidence interval over seeds, and the values."""
    numbers = list(values)
    found = intervals.interval(numbers)
    return {"mean": round(found.mean, 5), "ci95": round(found.half, 5), "values": [round(n, 5) for n in numbers]}


def table(answer: dict[str, Any]) -> str:
    """Return the comparison as text."""
    first = next(iter(answer["arms"].values()))
    seeds = len(first["force"]["values"])
    lines = [
        f"{answer['branch']}: molecules that no branch was trained on; mean ± 95 % interval over {seeds} seeds",
        f"{'':10}{'forces, meV/Å':>18}{'energy, meV/atom':>20}{'gain in forces':>24}{'CPU s':>8}{'steps':>8}",
        f"{'baseline':10}{first['force_baseline']:>11.1f}{first['energy_baseline']:>20.1f}   (zero force; per-element fit)",
    ]
    for arm, each in answer["arms"].items():
        force, energy = (f"{each[name]['mean']:.1f} ± {each[name]['ci95']:.1f}" for name in ("force", "energy"))
        won = answer["gain_over_alone"].get(arm, {}).get("force")
        factor = f"{won['mean']:.2f}× ({won['ci95'][0]:.2f}–{won['ci95'][1]:.2f})" if won else ""
        lines.append(f"{arm:10}{force:>18}{energy:>20}{factor:>24}{each['cpu_s']:>8.0f}{each['steps']:>8.0f}")
    verdict = "reached" if answer["passed"] else "NOT reached"
    return "\n".join([*lines, f"required: the sibling lowers the force error by at least {answer['required']}×: {verdict}"])


if __name__ == "__main__":
    sys.exit(main())
