"""Convert one branch from published containers to a store: `python -m model convert`.

Records are cut into spans, each span becomes one shard, and a shard counts when its summary stands beside it.
So a conversion that died at any instruction goes on where it was, and what it writes depends on the sources and
the options, never on the number of ranks.
"""

from __future__ import annotations

import itertools
import json
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from model import registry
from model.config import ConvertConfig
from model.data import plan as planning
from model.data import references, sources
from model.data.block import Block, pack
from model.data.manifest import attributes, manifest, result, summarise
from model.data.plan import PLAN, Plan, Span
from model.data.readers.base import Reader, SourceInfo, info_of, is_forward
from model.data.references import Moments
from model.data.shard import file_hashes, file_sizes, stored, write_shard
from model.data.sources import stamp
from model.data.store import MANIFEST, REFERENCES, REJECTS, Store
from model.data.structure import Refused, Structure
from model.data.validation import fault
from model.outcome import CampaignError, Outcome, Status, read_json, sync, write_bytes, write_json
from model.owner import StopFlag, require_commit
from model.parallel import Ranks
from model.progress import Progress
from model.specs import Strict


@dataclass(frozen=True)
class Conversion:
    """What one rank needs to convert a span."""

    config: ConvertConfig
    reader: Reader
    options: Strict
    store: Path
    plan: Plan

    @property
    def info(self) -> SourceInfo:
        """Return the facts about the source as it is read here."""
        return info_of(self.reader, self.options)

    def summary_path(self, span: Span) -> Path:
        """Return where the summary of a span stands, which makes its shard count."""
        return self.store / "shards" / f"{span.name}.json"

    def is_done(self, span: Span) -> bool:
        """Return whether a span's shard stands and was made from the records that it would be made from now."""
        summary = read_json(self.summary_path(span))
        return summary is not None and summary["origin"] == self.plan.origin(span)


def run(config: ConvertConfig, folder: Path, ranks: Ranks) -> Outcome:
    """Convert what is not yet converted; partial when asked to stop.

    Raises:
        CampaignError: Wrong options, nothing to read, or damaged files (the others have been converted by then).
    """
    begin = time.monotonic()
    progress = Progress(folder, writes=ranks.is_first, every_s=config.progress_every_s, owner=config.owner)
    job = _prepare(config, folder, ranks, progress)
    is_complete, damaged = _convert_spans(job, ranks, progress)
    if damaged:
        raise _damaged(damaged)
    timings = {"convert": time.monotonic() - begin}
    if not is_complete:
        return Outcome(Status.PARTIAL, message="stopped on request; finished shards are kept", timings_s=timings)
    if ranks.is_first:
        _finish(job)
    ranks.barrier()
    facts = (result(Store.open(job.store)) if ranks.is_first else {}) | {"seconds": time.monotonic() - begin}
    place = job.store.relative_to(folder) if job.store.is_relative_to(folder) else job.store
    return Outcome(Status.DONE, result=facts, outputs={"store": str(place)}, timings_s=timings)


def _prepare(config: ConvertConfig, folder: Path, ranks: Ranks, progress: Progress) -> Conversion:
    """Plan the work and clear what a killed conversion left half-written."""
    reader: Any = registry.reader(str(config.reader.get("name", "")))
    options = _options(reader, config)
    store = folder / config.store
    files = reader.files(config.sources, options)
    # All ranks must have listed the sources before one of them writes: the store may stand below a source folder.
    ranks.barrier()
    if ranks.is_first:
        for inside in ("shards", sources.FOLDER):
            (store / inside).mkdir(parents=True, exist_ok=True)
        planning.pin(store, config, reader, options)
        for leftover in (store / "shards").glob(".*"):
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
    ranks.barrier()
    plan = planning.make(config, (reader, options, store), files, ranks, progress)
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
    left = ranks.bcast(_left(job) if ranks.is_first else None)
    stop = StopFlag(job.config.stop)
    mine, unfinished = _mine(job, left, ranks), 0
    damaged = [str(error) for error in job.plan.damaged] if ranks.is_first else []
    progress.at_once()
    progress.update("convert", _finished_records(job), job.plan.records, "structures")
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
    messages = [message for _, part in shared for message in part]
    return not any(u for u, _ in shared), list(dict.fromkeys(messages))


def _mine(job: Conversion, left: Sequence[Span], ranks: Ranks) -> list[Span]:
    """Return what this rank converts; which rank does it changes no byte."""
    return planning.shared_out(left, lambda file: is_forward(job.reader, job.plan.files[file]), ranks.size)[ranks.rank]


def _left(job: Conversion) -> list[Span]:
    """Return the spans to convert; where some are left, an older manifest no longer tells the truth."""
    left = [span for span in job.plan.spans if not job.is_done(span)]
    if left:
        require_commit(job.config.owner)
        (job.store / MANIFEST).unlink(missing_ok=True)
    return left


def _convert(job: Conversion, span: Span) -> None:
    """Write one shard and, last, its summary, which makes it count."""
    block, rejects = _read(job, span)
    block = stored(block, job.config.storage)
    origin = job.plan.origin(span)
    summary = {"origin": origin, "rejects": rejects, **summarise(block, job.config.splits)}
    if len(block):
        beside, place = (job.store / "shards" / f"{mark}{span.name}.bp" for mark in (".", ""))
        names = (job.config.name, job.config.reader["name"])
        write_shard(beside, block, attributes(names, job.info, origin, summary), job.config.storage)
        sizes, hashes = file_sizes(beside), file_hashes(beside)
        files = {name: {"size": sizes[name], "sha256": hashes[name]} for name in sizes}
        summary |= {"folder": f"shards/{place.name}", "files": files}
        require_commit(job.config.owner)
        shutil.rmtree(place, ignore_errors=True)
        beside.replace(place)
        sync(place.parent)
    require_commit(job.config.owner)
    write_json(job.summary_path(span), summary)


def _read(job: Conversion, span: Span) -> tuple[Block, list[dict[str, Any]]]:
    rejects: list[dict[str, Any]] = []
    path = job.plan.files[span.file]
    records = job.reader.read(path, job.options, range(span.start, span.stop))
    kept = list(_sound(records, span, job.plan.source(span).name, rejects, job.info))
    found, expected = len(kept) + len(rejects), span.stop - span.start
    if found != expected or stamp(path) != job.plan.stamps[span.file]:
        what = f"changed while it was read ({found} records from {span.start} on, counted {expected})"
        raise CampaignError(what, str(path), "Is it being written? Run again when it is complete.")
    return pack(kept), rejects


def _sound(
    records: Iterator[Structure | Refused], span: Span, label: str, rejects: list[dict[str, Any]], info: SourceInfo
) -> Iterator[Structure]:
    """Yield what makes physical sense; note the rest with its place."""
    checks = info.checks
    for position, record in zip(itertools.count(span.start), records, strict=False):
        reason = fault(record, **checks)
        if isinstance(record, Structure) and reason is None:
            yield record
        else:
            rejects.append({"file": label, "position": position, "id": record.id, "reason": reason})


def _finish(job: Conversion) -> None:
    """Join the summaries: rejects, references, and last the manifest, whose presence makes the store.

    Raises:
        CampaignError: No structure is left.
    """
    summaries: list[Any] = [read_json(job.summary_path(span)) for span in job.plan.spans]
    rejects = [reject for s in summaries for reject in s["rejects"]]
    if len(rejects) == job.plan.records:
        reasons = ", ".join(f"{n} × {reason}" for reason, n in Counter(r["reason"] for r in rejects).most_common(3))
        raise CampaignError(f"no usable structure ({reasons or 'no records'})", str(job.store), "Is it the right reader?")
    lines = "".join(json.dumps(reject, ensure_ascii=False) + "\n" for reject in rejects)
    require_commit(job.config.owner)
    write_bytes(job.store / REJECTS, lines.encode())
    fitted = references.solve(Moments.sum(Moments.from_json(s["moments"]) for s in summaries), job.config.splits)
    if fitted is not None:
        references.write(job.store / REFERENCES, fitted)
    else:  # those of an earlier source, perhaps, that had energies
        (job.store / REFERENCES).unlink(missing_ok=True)
    pinned: Any = read_json(job.store / PLAN)
    facts = manifest(job.store, pinned, job.info, [asdict(source) for source in job.plan.sources if source], summaries)
    require_commit(job.config.owner)
    write_json(job.store / MANIFEST, facts)


def _finished_records(job: Conversion) -> int:
    standing = {path.name for path in (job.store / "shards").iterdir()}
    return sum(s.stop - s.start for s in job.plan.spans if job.summary_path(s).name in standing)


def _damaged(messages: Sequence[str]) -> CampaignError:
    first = " ".join(messages[0].split())
    what = f"{len(messages)} damaged: {first}" if len(messages) > 1 else first
    return CampaignError(what, "", "Mend or remove the file and run again; what was converted is kept.")
