"""Build each model of a campaign once, on no memory, in a process of its own: torch stays out of this one."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import yaml

from workflow.campaign import Campaign, stage_kind
from workflow.errors import CampaignError

_AT_ONCE = 2
_TIMEOUT_S = 180


def built_models(campaign: Campaign, tell: Callable[[str], None] = lambda _: None) -> dict[str, dict[str, Any]]:
    """Build every distinct model that the stages state.

    Args:
        campaign: The campaign.
        tell: Called with how far it is: each model takes seconds.

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
    tell(f"building models: {len(distinct)}, seconds each")
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for identity, facts in zip(distinct, pool.map(_build, distinct.values()), strict=True):
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


def _build(model: dict[str, Any]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="campaign-check-") as folder:
        file = Path(folder) / "model.yaml"
        file.write_text(yaml.safe_dump(json.loads(_identity(model))))
        environment = {"OMP_NUM_THREADS": "1", **os.environ}
        command = [sys.executable, "-m", "model", "check", str(file)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, env=environment, check=False)
        except subprocess.TimeoutExpired:
            return {"what": f"the model was not built within {_TIMEOUT_S} s", "remedy": "Try a smaller one."}
    return _answer(done)


def _answer(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    try:
        facts: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        last = (done.stderr.strip().splitlines() or ["no word"])[-1]
        return {
            "what": f"`python -m model check` ended with code {done.returncode}: {last}",
            "remedy": "Run it by hand to see more.",
        }
    return facts
