"""Convert published containers into stores: one task for each branch and source, packed on the nodes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import Field

from model.config import ConvertConfig
from model.outcome import Outcome, Status
from model.registry import reader
from model.specs import Storage
from workflow.receipt import Output
from workflow.request import Request
from workflow.rundir import RunDir
from workflow.stages._inputs import earlier_tasks, finished
from workflow.stages._recipe import Problem, configuration, splits
from workflow.stages._tries import Work, carry_out, verdict
from workflow.stages.base import Allocation, Pieces, Stage, StageResult, StageSpec
from workflow.validation import nearest


class ConvertSpec(StageSpec):
    """Keys of a stage of kind `convert`."""

    only: tuple[str, ...] = Field((), description="Branches and sources to convert; empty: all.")
    shard: int = Field(100_000, ge=1, description="Structures in one shard of a store.")
    storage: Storage = Field(Storage(), description="How the store keeps its arrays: type of positions, compression.")


class Kind(Stage):
    """Make a store of each branch and source, resumable at the shard, deterministic whatever the ranks."""

    Spec = ConvertSpec

    def problems(self, spec: ConvertSpec, campaign: Any) -> list[Problem]:
        """Check names; readers, their options and their files are checked with the branches themselves."""
        sources = {**campaign.header.sources, **campaign.header.branches}
        twice = [
            (f"'{name}' is a branch and a source", "only", "Give one of the two another name.")
            for name in campaign.header.sources
            if name in campaign.header.branches
        ]
        unknown = [
            (f"no branch or source '{name}'", "only", f"{nearest(name, list(sources))}Known: {', '.join(sources) or 'none'}.")
            for name in spec.only
            if name not in sources
        ]
        if len(set(spec.only)) < len(spec.only):
            twice.append(("a branch or source stands twice", "only", "Name each one once."))
        each = [("data do not depend on a model", "each", "Take `each` away.")] if spec.each else []
        return twice + unknown + each

    def calls(self, spec: ConvertSpec, campaign: Any) -> list[tuple[str, str, int]]:
        """Return the conversion of one source."""
        names = [each for each in (*campaign.header.branches, *campaign.header.sources) if each in spec.only or not spec.only]
        return [("each source", "convert", max(1, ((spec.nodes or 1) - spec.spares) // max(1, len(names))))]

    def pieces(self, spec: ConvertSpec, campaign: Any) -> Pieces:
        """Return the sources, which share the nodes; finished shards count."""
        count = len(spec.only) or len({*campaign.header.branches, *campaign.header.sources})
        return Pieces(count, max(1, ((spec.nodes or 1) - spec.spares) // max(1, count)))

    def miniature(self, spec: ConvertSpec) -> dict[str, Any]:  # noqa: ARG002
        """Return shards small enough for several of them."""
        return {"shard": 10}

    def work(self, allocation: Allocation) -> StageResult:
        """Convert what no earlier attempt has finished; vouch for all stores."""
        request = allocation.request
        spec = ConvertSpec.model_validate(request.spec)
        sources = {**request.sources, **request.branches}
        names = [name for name in sources if name in spec.only or not spec.only]
        done = {name: old[1] for name in names if (old := _finished(allocation, name)) is not None}
        missing = [name for name in names if name not in done]
        allocation.progress(sources={"total": len(names), "done": len(done)})
        share = max(1, allocation.num_nodes // max(1, len(missing)))
        works = [_work(allocation, spec, name, share) for name in missing]
        results = carry_out(allocation, works, spec.attempts)
        verdict_ = verdict(list(results.values()), allocation)
        done |= {name: r.outcome for name in missing if (r := results[f"convert-{name}"]).status is Status.DONE and r.outcome}
        allocation.progress(sources={"total": len(names), "done": len(done)})
        return _result(allocation, verdict_, done)


def store_folder(campaign: Path, request: Request, name: str) -> Path:
    """Return where a store is made: the same place for all attempts, so that finished shards count.

    The name carries a digest of what is converted and how: another source, option or version of its reader is another store.
    """
    source = {**request.sources, **request.branches}[name]
    how = (request.spec.get("shard"), request.spec.get("storage"), reader(source["reader"]).INFO.version)
    what = json.dumps([source, request.splits, *how], sort_keys=True)
    return RunDir(campaign).stage(request.stage) / "stores" / f"{name}-{hashlib.sha256(what.encode()).hexdigest()[:12]}"


def _finished(allocation: Allocation, name: str) -> tuple[Path, Outcome] | None:
    earlier = finished(earlier_tasks(allocation.campaign, allocation.request, f"convert-{name}"))
    return earlier if store_folder(allocation.campaign, allocation.request, name).is_dir() else None


def _work(allocation: Allocation, spec: ConvertSpec, name: str, nodes: int) -> Work:
    request = allocation.request
    source = {**request.sources, **request.branches}[name]
    store = store_folder(allocation.campaign, request, name)
    store.parent.mkdir(parents=True, exist_ok=True)
    fields = {
        "name": name,
        "reader": {"name": source["reader"], **source.get("options", {})},
        "sources": source["path"],
        "store": store,
        "shard": spec.shard,
        "storage": spec.storage.model_dump(),
        "limit": source.get("limit"),
        "splits": splits(request),
    }
    return Work(f"convert-{name}", "convert", lambda _: configuration(ConvertConfig, request, fields), nodes)


def _result(allocation: Allocation, summary: StageResult, done: dict[str, Outcome]) -> StageResult:
    outputs: list[Output] = []
    facts: dict[str, Any] = {}
    for name, outcome in done.items():
        store = store_folder(allocation.campaign, allocation.request, name)
        outputs += allocation.vouch(f"store:{name}", store)
        facts[name] = {**outcome.result, "store": str(store.relative_to(allocation.campaign))}
    message = "; ".join([*filter(None, [summary.message]), *_empty_splits(allocation.request.branches, facts)])
    return StageResult(summary.status, summary.cause, message, tuple(outputs), {"branches": facts}, summary.evidence)


def _empty_splits(branches: Iterable[str], facts: dict[str, Any]) -> list[str]:
    """Say which branches have no structure for something that a training does with them."""
    uses = {"train": "train on", "validation": "validate on", "test": "test on"}
    counts = {name: facts[name].get("splits") or {} for name in branches if name in facts}
    empty = {name: [use for part, use in uses.items() if each.get(part) == 0] for name, each in counts.items()}
    return [f"{name} has no structure to {' or to '.join(parts)}" for name, parts in empty.items() if parts]
