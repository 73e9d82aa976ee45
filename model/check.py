"""`python -m model check`: build a model once without memory, to see that its options fit together, and how large it is."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
import yaml
from pydantic import ValidationError

from model.feasibility import large_structure_gb, large_structure_gflop
from model.multitask import MultiTaskModel, unit_statistics
from model.outcome import CampaignError
from model.specs import ModelSpec


def run(path: Path) -> int:
    """Build the model of a YAML file (keys of `ModelSpec`) on the meta device; print its size as JSON.

    Returns:
        0, or 1 where it cannot be built; then the JSON has `what` and `remedy` instead.
    """
    try:
        spec = ModelSpec.model_validate(yaml.safe_load(path.read_text()))
        facts = {
            "parameters": num_parameters(spec),
            "large_structure_gb": large_structure_gb(spec),
            "large_structure_gflop": large_structure_gflop(spec),
        }
    except (CampaignError, ValidationError, yaml.YAMLError, OSError) as error:
        what, remedy = _told(error)
        sys.stdout.write(json.dumps({"what": what, "remedy": remedy}) + "\n")
        return 1
    sys.stdout.write(json.dumps(facts) + "\n")
    return 0


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
