"""Build each model of a campaign once, on no memory, in another process: torch stays out of this one."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

from workflow.campaign import Campaign, stage_kind
from workflow.errors import CampaignError

_TIMEOUT_S = 180


def built_models(campaign: Campaign, tell: Callable[[str], None] = lambda _: None) -> dict[str, dict[str, Any]]:
    """Build every distinct model that the stages state.

    Args:
        campaign: The campaign.
        tell: Called with how far it is: the first model takes seconds.

    Returns:
        For each stage with a model: `parameters`, or `what` and `remedy` where it cannot be built. Empty where the
        stages state none.

    Raises:
        ModuleNotFoundError: torch is not installed here.
    """
    stated = {name: model for name, model in _stated(campaign).items() if model is not None}
    if stated and importlib.util.find_spec("torch") is None:
        raise ModuleNotFoundError("torch is not installed")
    distinct = {_identity(model): model for model in stated.values()}
    built: dict[str, dict[str, Any]] = {}
    tell(f"building models: {len(distinct)}, some seconds")
    for identity, facts in zip(distinct, _all_built(list(distinct.values())), strict=True):
        built[identity] = facts
        tell(f"building models: {len(built)} of {len(distinct)} done")
    return {name: built[_identity(model)] for name, model in stated.items()}


def shortcomings(campaign: Campaign) -> list[str]:
    """Return what is worth knowing of models that can be trained: energies that do not add up, forces that jump."""
    found = []
    for name, model in _stated(campaign).items():
        if (model or {}).get("readout") == "graph":
            found.append(f"model of {name}: `readout: graph` is not size-extensive: energies of parts far apart do not add up")
        if (cap := (model or {}).get("max_neighbors")) is not None:
            what = f"`max_neighbors: {cap}` lets energy and forces jump where one neighbour takes another's place"
            found.append(f"model of {name}: {what}; leave it out for dynamics and relaxation")
    return found


def _stated(campaign: Campaign) -> dict[str, dict[str, Any] | None]:
    found: dict[str, dict[str, Any] | None] = {}
    for name, spec in campaign.stages.items():
        try:
            models = stage_kind(spec.kind).models(spec)
        except CampaignError:
            continue  # told among the stage's problems
        for number, model in enumerate(models, start=1):
            found[name if len(models) == 1 else f"{name}, model {number}"] = model
    return found


def _identity(model: dict[str, Any] | None) -> str:
    return json.dumps(model, sort_keys=True, default=str)


def _all_built(models: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Give the facts of each model in turn; one that ends the process costs no other its own."""
    with tempfile.TemporaryDirectory(prefix="campaign-check-") as folder:
        files = [Path(folder) / f"{number}.yaml" for number in range(len(models))]
        for file, model in zip(files, models, strict=True):
            file.write_text(yaml.safe_dump(json.loads(_identity(model))))
        done = 0
        while done < len(files):
            for facts in _built(files[done:], Path(folder) / "stderr"):
                done += 1
                yield facts


def _built(files: list[Path], said: Path) -> Iterator[dict[str, Any]]:
    """Give the facts of models that one process builds, up to the first that it does not come through."""
    command, environment = [sys.executable, "-m", "model", "check", *map(str, files)], {"OMP_NUM_THREADS": "1", **os.environ}
    with (
        said.open("w") as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment) as process,
    ):
        for _ in files:
            began = time.monotonic()
            try:
                yield json.loads(_next_line(process))
            except ValueError:
                process.kill()
                yield _fault(process.wait(), said, time.monotonic() - began)
                return


def _next_line(process: subprocess.Popen[str]) -> str:
    """Return what it writes next; empty where it ends before, by itself or because its time is over."""
    assert process.stdout is not None
    timer = threading.Timer(_TIMEOUT_S, process.kill)
    timer.start()
    try:
        return process.stdout.readline()
    finally:
        timer.cancel()


def _fault(code: int, said: Path, seconds: float) -> dict[str, Any]:
    if seconds >= _TIMEOUT_S:
        return {"what": f"the model was not built within {_TIMEOUT_S} s", "remedy": "Try a smaller one."}
    last = (said.read_text().strip().splitlines() or ["no word"])[-1]
    return {"what": f"`python -m model check` ended with code {code}: {last}", "remedy": "Run it by hand to see more."}
