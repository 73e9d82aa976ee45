"""Convert one branch from published containers to a store: `python -m model convert`.

Records are cut into spans, each span becomes one shard, and a shard counts when its summary stands beside it.
So a conversion that died at any instruction goes on where it was, and what it writes depends on the sources and
the options, never on the number of ranks.
"""

from __future__ import annotations

import itertools
import json
import logging
import os
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import chemical_symbols
from pydantic import ValidationError

from model import registry
from model.config import ConvertConfig, Splits, Strict
from model.data import plan as planning
from model.data import references, splits
from model.data.block import Block, pack
from model.data.plan import Plan, Span
from model.data.readers.base import Reader
from model.data.references import Moments
from model.data.shard import content_hash, file_hash, file_hashes, file_sizes, write_shard
from model.data.store import FORMAT, MANIFEST, REFERENCES, REJECTS, Store
from model.data.structure import Structure
from model.data.validation import fault
from model.outcome import CampaignError, Outcome, Status, read_json, sync_folder, write_bytes, write_json
from model.owner import StopFlag, require_commit
from model.parallel import Ranks
from model.progress import Progress

logger = logging.getLogger(__name__)

UNITS = {"energy": "eV", "forces": "eV/Å", "length": "Å", "stress": "eV/Å³"}


@dataclass(frozen=True)
class Conversion:
    """What one rank needs to convert a span."""

    config: ConvertConfig
    reader: Reader
    options: Strict
    store: Path
    plan: Plan


def run(config: ConvertConfig, folder: Path, ranks: Ranks) -> Outcome:
    """Convert what is not yet converted; partial when asked to stop.

    Raises:
        CampaignError: Wrong options, nothing to read, or damaged files (the others have been converted by then).
    """
    begin = time.monotonic()
    job = _prepare(config, folder, ranks)
    progress = Progress(folder, writes=ranks.is_first, every_s=config.progress_every_s, owner=config.owner)
    done, damaged = _convert_spans(job, ranks, progress)
    if damaged:
        raise _damaged(damaged)
    timings = {"convert": time.monotonic() - begin}
    if not done:
        return Outcome(Status.PARTIAL, message="stopped on request; finished shards are kept", timings_s=timings)
    sources = _hash_sources(job, ranks, progress)
    if ranks.is_first and not (job.store / MANIFEST).exists():
        _finish(job, sources)
    ranks.barrier()
    result = _result(Store.open(job.store)) | {"seconds": time.monotonic() - begin}
    inside = job.store.is_relative_to(folder)
    return Outcome(
        Status.DONE,
        result=result,
        outputs={"store": str(job.store.relative_to(folder) if inside else job.store)},
        timings_s=timings,
    )


def _prepare(config: ConvertConfig, folder: Path, ranks: Ranks) -> Conversion:
    """Plan the work and clear what a killed conversion left half-written."""
    reader: Any = registry.reader(config.reader["name"])
    options = _options(reader, config)
    store = folder / config.store
    plan = planning.make(config, reader, options, ranks)
    # All ranks must have listed the sources before one of them writes: the store may stand below a source folder.
    ranks.barrier()
    if ranks.is_first:
        (store / "shards").mkdir(parents=True, exist_ok=True)
        planning.pin(store, plan, config, options)
        for leftover in (store / "shards").glob(".*"):
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
    ranks.barrier()
    return Conversion(config, reader, options, store, plan)


def _options(reader: Any, config: ConvertConfig) -> Strict:
    given = {key: value for key, value in config.reader.items() if key != "name"}
    try:
        options: Strict = reader.Config.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        known = ", ".join(reader.Config.model_fields) or "none"
        where = f"branch '{config.name}', reader '{config.reader['name']}', option '{key}'"
        raise CampaignError(first["msg"], where, f"Known options: {known}.") from error
    return options


def _convert_spans(job: Conversion, ranks: Ranks, progress: Progress) -> tuple[bool, list[str]]:
    """Convert this rank's share; return whether all ranks' spans are done, and what was damaged."""
    left = ranks.bcast([s for s in job.plan.spans if not _summary_path(job, s).exists()] if ranks.is_first else None)
    stop = StopFlag(job.config.stop)
    unfinished = 0
    damaged = [str(error) for error in job.plan.damaged] if ranks.is_first else []
    progress.begin("convert", job.plan.records, "structures", rate=0.0)
    mine = left[ranks.rank :: ranks.size]
    for number, span in enumerate(mine):
        if stop.asked():
            unfinished = len(mine) - number
            break
        try:
            _convert(job, span)
        except CampaignError as error:
            damaged.append(str(error))
        progress.update("convert", _finished_records(job), job.plan.records, "structures")
    shared = ranks.allgather((unfinished, damaged))
    return not any(u for u, _ in shared), [message for _, part in shared for message in part]


def _convert(job: Conversion, span: Span) -> None:
    """Write one shard and, last, its summary, which makes it count."""
    block, rejects = _read(job, span)
    summary: dict[str, Any] = {"span": asdict(span), "rejects": rejects, **_describe(block, job.config.splits)}
    if len(block):
        beside = job.store / "shards" / f".{span.index:06d}.bp"
        write_shard(beside, block, _attributes(job, span, block))
        sizes, hashes = file_sizes(beside), file_hashes(beside)
        summary |= {"folder": span.shard, "files": {n: {"size": sizes[n], "sha256": hashes[n]} for n in sizes}}
        require_commit(job.config.owner)
        shutil.rmtree(job.store / span.shard, ignore_errors=True)
        beside.replace(job.store / span.shard)
        sync_folder(job.store / "shards")
    require_commit(job.config.owner)
    write_json(_summary_path(job, span), summary)


def _read(job: Conversion, span: Span) -> tuple[Block, list[dict[str, Any]]]:
    rejects: list[dict[str, Any]] = []
    path = job.plan.files[span.file]
    records = job.reader.read(path, job.options, range(span.start, span.stop))
    kept = list(_sound(records, span, job.plan.labels[span.file], rejects))
    if len(kept) + len(rejects) != span.stop - span.start:
        found = len(kept) + len(rejects)
        raise CampaignError(f"records {span.start} to {span.stop} gave {found}", str(path), "Did the file change? Convert anew.")
    return pack(kept), rejects


def _sound(records: Iterator[Structure], span: Span, label: str, rejects: list[dict[str, Any]]) -> Iterator[Structure]:
    """Yield what makes physical sense; note the rest with its place."""
    for position, record in zip(itertools.count(span.start), records, strict=False):
        reason = fault(record)
        if reason is None:
            yield record
        else:
            rejects.append({"file": label, "position": position, "id": record.id, "reason": reason})


def _describe(block: Block, by: Splits) -> dict[str, Any]:
    elements, atoms = np.unique(block.numbers, return_counts=True)
    return {
        "structures": len(block),
        "atoms": len(block.numbers),
        "largest": int(block.num_atoms.max(initial=0)),
        "elements": {str(z): int(n) for z, n in zip(elements, atoms, strict=True)},
        "labels": {
            "energy": int(np.isfinite(block.energy).sum()),
            "forces": int(np.isfinite(block.forces[block.offsets[:-1], 0]).sum()),
            "stress": int(np.isfinite(block.stress[:, 0, 0]).sum()),
        },
        "splits": splits.counts(block.identity, by),
        "moments": references.training_moments(block, by).to_json(),
        "content_sha256": content_hash(block),
    }


def _attributes(job: Conversion, span: Span, block: Block) -> dict[str, str | int]:
    info = job.reader.INFO
    return {
        "format": FORMAT,
        "branch": job.config.name,
        "reader": job.config.reader["name"],
        "source": info.title,
        "source_file": job.plan.labels[span.file],
        "source_start": span.start,
        "source_stop": span.stop,
        "level_of_theory": info.level_of_theory,
        "licence": info.licence,
        "citation": info.citation,
        "energy_kind": info.energy_kind,
        "structures": len(block),
        **{f"unit_{name}": unit for name, unit in UNITS.items()},
    }


def _hash_sources(job: Conversion, ranks: Ranks, progress: Progress) -> list[str]:
    """Return the SHA-256 of each source file, the ranks dividing the files."""
    mine = ranks.share_of(len(job.plan.files))
    hashes = []
    for number, k in enumerate(mine):
        hashes.append(file_hash(job.plan.files[k]))
        progress.update("hash sources", number + 1, len(mine), "files")
    return [digest for part in ranks.allgather(hashes) for digest in part]


def _finish(job: Conversion, sources: list[str]) -> None:
    """Join the summaries: rejects, references, and last the manifest, whose presence makes the store."""
    summaries = [read_json(_summary_path(job, span)) for span in job.plan.spans]
    if not sum(s["structures"] for s in summaries):
        reasons = Counter(r["reason"] for s in summaries for r in s["rejects"])
        raise CampaignError(f"no usable structure ({reasons})", str(job.store), "See the reasons; is it the right reader?")
    rejects = [reject for s in summaries for reject in s["rejects"]]
    write_bytes(job.store / REJECTS, "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rejects).encode())
    moments = Moments.sum(Moments.from_json(s["moments"]) for s in summaries)
    fitted = references.solve(moments, job.config.splits)
    if fitted is not None:
        references.write(job.store / REFERENCES, fitted)
    require_commit(job.config.owner)
    write_json(job.store / MANIFEST, _manifest(job, summaries, sources))


def _manifest(job: Conversion, summaries: Sequence[dict[str, Any]], sources: list[str]) -> dict[str, Any]:
    files = [name for name in (REJECTS, REFERENCES) if (job.store / name).exists()]
    kept = ("folder", "structures", "atoms", "files", "content_sha256")
    return {
        "format": FORMAT,
        "name": job.config.name,
        "reader": {**job.config.reader, **job.options.model_dump(mode="json")},
        "source": asdict(job.reader.INFO),
        "sources": [
            {"name": label, "size": path.stat().st_size, "sha256": digest}
            for label, path, digest in zip(job.plan.labels, job.plan.files, sources, strict=True)
        ],
        "units": UNITS,
        "structures": sum(s["structures"] for s in summaries),
        "atoms": sum(s["atoms"] for s in summaries),
        "largest": max(s["largest"] for s in summaries),
        "rejected": sum(len(s["rejects"]) for s in summaries),
        "elements": _total(s["elements"] for s in summaries),
        "labels": _total(s["labels"] for s in summaries),
        "splits": job.config.splits.model_dump(),
        "split_counts": _total(s["splits"] for s in summaries),
        "shards": [{key: s[key] for key in kept} for s in summaries if s["structures"]],
        "files": {n: {"size": (job.store / n).stat().st_size, "sha256": file_hash(job.store / n)} for n in files},
    }


def _total(parts: Iterator[dict[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for part in parts:
        total.update(part)
    return dict(total)


def _result(store: Store) -> dict[str, Any]:
    manifest, fitted = store.manifest, store.references
    return {
        "structures": manifest["structures"],
        "atoms": manifest["atoms"],
        "rejected": manifest["rejected"],
        "elements": {chemical_symbols[int(z)]: n for z, n in manifest["elements"].items()},
        "splits": manifest["split_counts"],
        "labels": manifest["labels"],
        "references": None if fitted is None else _shown(fitted.to_json()),
    }


def _shown(fitted: dict[str, Any]) -> dict[str, Any]:
    return fitted | {"energies_ev": {chemical_symbols[int(z)]: e for z, e in fitted["energies_ev"].items()}}


def _finished_records(job: Conversion) -> int:
    finished = {name for name in os.listdir(job.store / "shards") if name.endswith(".json") and name[0] != "."}
    return sum(s.stop - s.start for s in job.plan.spans if _summary_path(job, s).name in finished)


def _summary_path(job: Conversion, span: Span) -> Path:
    return job.store / "shards" / f"{span.index:06d}.json"


def _damaged(messages: Sequence[str]) -> CampaignError:
    first = " ".join(messages[0].split())
    what = f"{len(messages)} damaged: {first}" if len(messages) > 1 else first
    return CampaignError(what, "", "Mend or remove the file and run again; what was converted is kept.")
