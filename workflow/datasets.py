"""What readers know of published data sets, and what a file or a store holds."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from model.registry import reader, readers, require
from workflow.errors import CampaignError, ConfigError


@dataclass(frozen=True)
class Option:
    """One option of a reader.

    Attributes:
        name: Its key under `options`.
        type: What it takes, in the words of JSON schema, or the values it may have.
        default: Its value when left out.
        description: What it does.
    """

    name: str
    type: str
    default: Any
    description: str


@dataclass(frozen=True)
class DataSet:
    """A data set, or a container that anyone may fill, as its reader knows it.

    Attributes:
        name: Name of the reader.
        summary: First line of the reader's own description.
        layout: What the container holds, with keys, shapes and units; empty where the reader does not say.
        facts: Its `SourceInfo`, as JSON values.
        options: The reader's options.
    """

    name: str
    summary: str
    layout: str
    facts: dict[str, Any]
    options: tuple[Option, ...]

    def to_json(self) -> dict[str, Any]:
        """Return all of it as JSON values."""
        return {
            "name": self.name,
            "summary": self.summary,
            "layout": self.layout,
            **self.facts,
            "options": [asdict(each) for each in self.options],
        }


def all_datasets() -> list[DataSet]:
    """Return every data set that a reader knows: those for pre-training, for fine-tuning, then containers."""
    order = ("pretraining", "finetuning", "container")
    return sorted(map(_dataset, readers()), key=lambda each: (order.index(each.facts["role"]), each.name))


def dataset(name: str) -> DataSet:
    """Return one data set.

    Raises:
        ConfigError: There is none of this name.
    """
    try:
        require(name, readers(), "data set", "campaign datasets")
    except CampaignError as error:
        raise ConfigError(error.what, error.where, error.remedy) from error
    return _dataset(name)


def inspect(path: Path, reader_name: str | None, options: dict[str, Any], records: int) -> dict[str, Any]:
    """Return what a file, a folder or a store holds; see `model.data.inspection`.

    Raises:
        CampaignError: Nothing can be read there.
    """
    if reader_name is not None:
        dataset(reader_name)
    elif options:
        raise ConfigError("options without a reader", "--option", "Name the reader with --reader.")
    chosen = [] if reader_name is None else ["--reader", reader_name, "--options", json.dumps(options)]
    found = _ask("model.data.inspection", str(path), "--records", str(records), *chosen)
    if "what" in found:
        raise ConfigError(found["what"], found["where"], found["remedy"])
    return found


def verify(store: Path) -> dict[str, Any]:
    """Return counts of a store and every file of it that is damaged; see `model.data.verification`."""
    return _ask("model.data.verification", str(store))


def edges(store: Path, cutoff: float, max_neighbors: int | None) -> dict[str, Any]:
    """Return edges of a store's structures within a cutoff; see `model.data.counting`.

    Raises:
        CampaignError: No finished store there.
    """
    cap = [] if max_neighbors is None else ["--max-neighbors", str(max_neighbors)]
    found = _ask("model.data.counting", str(store), "--cutoff", repr(cutoff), *cap)
    if "what" in found:
        raise ConfigError(found["what"], found["where"], found["remedy"])
    return found


def _dataset(name: str) -> DataSet:
    module: Any = reader(name)
    summary, _, rest = (module.__doc__ or "").partition("\n")
    layout = " ".join(rest.partition("Layout: ")[2].split())
    schema = module.Config.model_json_schema()
    options = [Option(key, _type(about), about.get("default"), about["description"]) for key, about in _properties(schema)]
    return DataSet(name, summary, layout, json.loads(json.dumps(asdict(module.INFO))), tuple(options))


def _properties(schema: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return list(schema.get("properties", {}).items())


def _type(about: dict[str, Any]) -> str:
    if "anyOf" in about:
        return " or ".join(_type(each) for each in about["anyOf"])
    if "enum" in about:
        return " | ".join(map(str, about["enum"]))
    return str(about.get("const", about.get("type", "any")))


def _ask(module: str, *arguments: str) -> dict[str, Any]:
    """Run a module of `model` in a process of its own: a library that reads a damaged file may end the process."""
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        answer: dict[str, Any] = json.loads(done.stdout)
    except ValueError as error:
        last = (done.stderr.strip().splitlines() or ["no word"])[-1]
        missing = "ModuleNotFoundError" in last
        remedy = "Install what reads data: pip install 'campaign[model]'." if missing else f"By hand: {' '.join(command)}"
        raise CampaignError(f"`python -m {module}` ended with code {done.returncode}: {last}", arguments[0], remedy) from error
    return answer
