"""`python -m model check`: build models once without memory, to see that their options fit together, and how large they are."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from pydantic import ValidationError

from model.feasibility import large_structure_gb, large_structure_gflop
from model.multitask import MultiTaskModel, unit_statistics
from model.outcome import CampaignError
from model.specs import ModelSpec


def run(paths: Sequence[Path]) -> int:
    """Build the model of each YAML file (keys of `ModelSpec`) on the meta device; print its size as a line of JSON.

    Returns:
        0, or 1 where one cannot be built; then its JSON has `what` and `remedy` instead.
    """
    code = 0
    for path in paths:
        facts = _facts(path)
        code = max(code, int("what" in facts))
        sys.stdout.write(json.dumps(facts) + "\n")
        sys.stdout.flush()
    return code


def _facts(path: Path) -> dict[str, Any]:
    try:
        spec = ModelSpec.model_validate(yaml.safe_load(path.read_text()))
        return {
            "parameters": num_parameters(spec),
            "large_structure_gb": large_structure_gb(spec),
            "large_structure_gflop": large_structure_gflop(spec),
        }
    except (CampaignError, ValidationError, yaml.YAMLError, OSError) as error:
        what, remedy = _told(error)
        return {"what": what, "remedy": remedy}


def _told(error: Exception) -> tuple[str, str]:
    """Return what is wrong, and what to do about it."""
    if isinstance(error, CampaignError):
        return error.what, error.remedy
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        return f"{where}: {first['msg']}" if where else "not a mapping of keys and values", "Give the keys of a model."
    return str(error), "Give a YAML file with the keys of a model."


def num_parameters(spec: ModelSpec, branches: tuple[str, ...] = ("branch",)) -> int:
    """Count the parameters of a model that is never given memory."""
    with torch.device("meta"):
        model = MultiTaskModel(spec, branches, unit_statistics(spec, len(branches)))
    return sum(parameter.numel() for parameter in model.parameters())
