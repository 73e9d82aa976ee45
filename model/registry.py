"""Find plug-ins by file name, without importing torch."""

from __future__ import annotations

import ast
import difflib
import importlib
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import BaseModel, ValidationError

from model.outcome import CampaignError

_ROOT = Path(__file__).parent


def backbones() -> list[str]:
    """List the backbone names: the modules of `model/backbones`."""
    return _modules(_ROOT / "backbones")


def readers() -> list[str]:
    """List the reader names: the modules of `model/data/readers`."""
    return _modules(_ROOT / "data" / "readers")


def reader(name: str) -> ModuleType:
    """Import one reader module; readers import their file libraries only when they read."""
    require(name, readers(), "reader", "branches")
    return importlib.import_module(f"model.data.readers.{name}")


@cache
def backbone_config(name: str) -> type[BaseModel]:
    """Return a backbone's `Config` without importing torch.

    A backbone's file imports torch, which a login node may not have. Only its `Config` class and the
    imports from pydantic and typing are executed here; a contract test compares the result with the
    class that a full import gives.

    Args:
        name: A name out of `backbones()`.

    Returns:
        The pydantic class of the backbone's own options.
    """
    require(name, backbones(), "backbone", "backbone")
    path = _ROOT / "backbones" / f"{name}.py"
    wanted = [node for node in ast.parse(path.read_text()).body if _is_torch_free(node)]
    namespace: dict[str, Any] = {"__name__": f"model.backbones.{name}"}
    exec(compile(ast.Module(wanted, []), str(path), "exec"), namespace)  # noqa: S102 our own source
    config: type[BaseModel] = namespace["Config"]
    config.model_rebuild(_types_namespace=namespace)
    return config


def backbone_options(options: dict[str, Any]) -> BaseModel:
    """Check a backbone's options, `name` among them, without importing torch.

    Raises:
        CampaignError: No such backbone, or an option is unknown or out of range.
    """
    name = str(options.get("name", ""))
    config = backbone_config(name)
    try:
        return config.model_validate(options)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(["backbone", *(str(part) for part in first["loc"])])
        raise CampaignError(first["msg"], key, f"Options of {name}: {', '.join(config.model_fields)}.") from error


def require(name: str, known: list[str], noun: str, where: str) -> None:
    """Refuse an unknown plug-in name and offer the nearest one.

    Raises:
        CampaignError: `name` is not in `known`.
    """
    if name in known:
        return
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"Did you mean '{near[0]}'? " if near else ""
    raise CampaignError(f"no {noun} '{name}'", where, f"{hint}Known: {', '.join(known)}.")


def _modules(folder: Path) -> list[str]:
    return sorted(p.stem for p in folder.glob("*.py") if p.stem not in ("__init__", "base") and p.stem[0] != "_")


def _is_torch_free(node: ast.stmt) -> bool:
    if isinstance(node, ast.ImportFrom):
        return node.module in ("__future__", "typing", "pydantic")
    return isinstance(node, ast.ClassDef) and node.name == "Config"
