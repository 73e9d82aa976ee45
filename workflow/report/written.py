"""The tables of a campaign's results as files for other programs: one CSV for each, and all of them in one JSON."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

from model.outcome import read_json, write_bytes, write_json
from workflow.errors import ConfigError
from workflow.report import tables
from workflow.report.compared import comparison_tables
from workflow.report.facts import StageFacts, gather
from workflow.report.finetuned import finetuning_tables
from workflow.report.tables import Table
from workflow.targets import folder_in

INDEX = "tables.json"
_LONGEST_NAME = 60


def result_tables(stage: StageFacts) -> list[Table]:
    """Return what a stage has found: errors beside baselines, fine-tunings, comparisons, the best candidates."""
    found: list[Table] = []
    if stage.result.get("metrics") and stage.status.kind == "train":
        splits = tables.splits_of(stage.result).items()
        found += [tables.errors_table(f"Errors of {stage.key} on {split}", metrics) for split, metrics in splits]
    if stage.result.get("table"):
        found += finetuning_tables(stage)
    found += comparison_tables(stage)
    if stage.result.get("top"):
        found.append(tables.ranking_table(stage))
    return found


def write_tables(folder: Path, into: Path | None) -> Path:
    """Write the tables of a campaign as it stands; those that an earlier call left in the folder go.

    Args:
        folder: The campaign's folder.
        into: Folder to write; None takes `tables` in the campaign's.

    Returns:
        The folder.

    Raises:
        ConfigError: No stage has found anything that a table tells, or the folder cannot be made.
    """
    found = [(stage.key, table) for stage in gather(folder).stages for table in result_tables(stage)]
    if not found:
        raise ConfigError("no stage has results in tables yet", str(folder), "See `campaign status`.")
    target = folder_in(into or folder / "tables")
    for old in read_json(target / INDEX) or []:
        (target / Path(old["file"]).name).unlink(missing_ok=True)
    index = []
    for place, (stage, table) in enumerate(found, start=1):
        name = f"{place:02d}-{_slug(table.caption)}.csv"
        write_bytes(target / name, _csv(table))
        columns = [column.lstrip(">") for column in table.columns]
        index.append({"file": name, "stage": stage, "caption": table.caption, "columns": columns, "rows": table.rows})
    write_json(target / INDEX, index)
    return target


def _csv(table: Table) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([[column.lstrip(">") for column in table.columns], *table.rows])
    return text.getvalue().encode()


def _slug(caption: str) -> str:
    subject = re.split(r"[,;]", caption.lower())[0]
    words = re.sub(r"[^a-z0-9]+", "-", subject).strip("-")
    return words[:_LONGEST_NAME].rstrip("-")
