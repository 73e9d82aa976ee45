"""`python -m model screen`: predict all candidates and rank them by a named score; finished shards outlive an interruption."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import adios2
import numpy as np
from ase.symbols import Symbols
from numpy.typing import NDArray

from model.config import ScreenConfig
from model.data.shard import file_hash
from model.data.store import Store
from model.device import device_of
from model.inference.fused import FusedPredictor
from model.inference.predictor import Predictor
from model.inference.ranking import SCORES, Ranking, Score, histogram, histogram_json
from model.inference.screened import FLAGS, UNITS, Columns, ShardFile, open_shard, read_steps, write_step
from model.inference.weights import WEIGHTS_FILE
from model.outcome import CampaignError, Outcome, Status, write_json
from model.owner import StopFlag, require_commit
from model.parallel import Ranks
from model.progress import Progress
from model.timers import Timers

FOLDER, TOP_FILE, INDEX_FILE = "screened", "top.json", "index.json"
_IN_SHARD, _SHARDS, _IN_STEP = 16_384, 64, 1_024
"""Most structures of a shard; shards that a small store is cut into; most structures of a step."""
_SHOWN = 20


def run(config: ScreenConfig, folder: Path, ranks: Ranks) -> Outcome:
    """Screen what is not yet screened; partial when asked to stop."""
    start, timers = time.monotonic(), Timers()
    with timers("load"):
        screening = Screening(config, folder, ranks, timers)
        standing, left = screening.divide()
    is_complete = screening.work(left)
    if not all(ranks.allgather(is_complete)):
        return Outcome(Status.PARTIAL, message="stopped on request; finished shards are kept", timings_s=timers.rounded())
    with timers("rank"):
        screening.reread(standing)
        result = screening.rank()
    result |= {"seconds": round(time.monotonic() - start, 3)}
    return Outcome(Status.DONE, result=result, outputs={"screened": FOLDER, "top": TOP_FILE}, timings_s=timers.rounded())


class _Stopped(Exception):  # noqa: N818 an order, not an error
    """A stop was asked for in the middle of a shard, which must not count."""


@dataclass(frozen=True)
class Span:
    """Consecutive candidates that make one shard."""

    start: int
    stop: int
    file: ShardFile


class Screening:
    """One rank's part of a screening.

    Args:
        config: The task.
        folder: Task folder.
        ranks: All ranks.
        timers: Where the seconds go.
    """

    def __init__(self, config: ScreenConfig, folder: Path, ranks: Ranks, timers: Timers) -> None:
        self.config, self.folder, self.ranks, self.timers = config, folder, ranks, timers
        predictor = Predictor.load(config.checkpoint, precision=config.precision, device=device_of(config, ranks))
        _require_rankable(config, predictor)
        self.fused = FusedPredictor(predictor, config.blend)
        self.store = Store.open(config.candidates)
        self.atoms = max(1, round(config.batch * self.store.num_atoms / max(self.store.num_structures, 1)))
        self.scores = Scores(SCORES[config.score])
        self.reused, self._done, self._total, self._began = 0, 0, 0, time.monotonic()
        # Every rank looks for itself, since no collective happens between shards; the more ranks, the more seldom.
        self._stop = StopFlag(config.stop, every_s=1.0 + ranks.size / 100)
        self._progress = Progress(folder, writes=ranks.is_first, every_s=config.progress_every_s, owner=config.owner)
        (folder / FOLDER).mkdir(exist_ok=True)

    def spans(self) -> Iterator[Span]:
        """Yield the shards of all ranks; where they begin depends on the number of candidates alone."""
        count = self.store.num_structures
        size = min(_IN_SHARD, max(1, -(-count // _SHARDS)))
        origin = self._origin()
        for number, start in enumerate(range(0, count, size)):
            stop = min(start + size, count)
            key = hashlib.sha256(f"{origin} {start} {stop}".encode()).hexdigest()
            yield Span(start, stop, ShardFile(self.folder / FOLDER, number, key))

    def divide(self) -> tuple[list[Span], list[Span]]:
        """Return this rank's part of the shards that stand, here or in the run to resume, and of those to make."""
        spans, earlier = list(self.spans()), None if self.config.resume is None else self.config.resume / FOLDER
        mine = spans[self.ranks.rank :: self.ranks.size]
        standing = [s for s in mine if s.file.is_done() or (earlier and s.file.adopt(earlier, self.config.owner))]
        everywhere = {n for part in self.ranks.allgather([s.file.number for s in standing]) for n in part}
        self.reused = len(everywhere)
        left = [span for span in spans if span.file.number not in everywhere]
        return standing, left[self.ranks.rank :: self.ranks.size]

    def work(self, spans: list[Span]) -> bool:
        """Screen shards; False where a stop was asked for before the last one stood."""
        self._total = sum(span.stop - span.start for span in spans)
        self._progress.begin("screen", self._total, "structures")
        try:
            for span in spans:
                with open_shard(span.file, self._attributes(), self.config.owner) as stream:
                    for first in range(span.start, span.stop, _IN_STEP):
                        self._step(stream, first, min(first + _IN_STEP, span.stop))
        except _Stopped:
            return False
        return True

    def reread(self, spans: list[Span]) -> None:
        """Take the scores of shards that stood already."""
        for span in spans:
            for columns in read_steps(span.file.data):
                self.scores.keep(columns)

    def rank(self) -> dict[str, Any]:
        """Join all ranks' scores; rank 0 writes the best and what the shards hold."""
        score, top = self.scores.score, self.config.top
        joined = Ranking.join([*self.ranks.allgather(self.scores.best(top))], score, top)
        rows = self._rows(joined)
        facts = {"score": score.name, "unit": score.unit, "order": score.order, "meaning": score.meaning}
        flagged, ranked = (sum(self.ranks.allgather(n)) for n in (self.scores.flagged, len(self.scores.values())))
        counts = {"count": self.store.num_structures, "flagged": flagged, "ranked": ranked}
        if self.ranks.is_first:
            require_commit(self.config.owner)
            write_json(self.folder / FOLDER / INDEX_FILE, self._index(counts))
            write_json(self.folder / TOP_FILE, facts | counts | {"top": rows})
        self.ranks.barrier()
        return facts | counts | {"top": rows[:_SHOWN], "histogram": self._histogram(), "reused_shards": self.reused}

    def _step(self, stream: adios2.Stream, start: int, stop: int) -> None:
        if self._stop.asked():
            raise _Stopped
        with self.timers("read"):
            block = self.store.read(start, stop)
        with self.timers("predict"):
            columns = self.fused.columns(block, start, self.atoms)
        with self.timers("write"):
            write_step(stream, columns)
        self.scores.keep(columns)
        self._done += stop - start
        rate = self.ranks.size * self._done / (time.monotonic() - self._began)
        self._progress.update("screen", self._done, self._total, "structures", rate=round(rate, 1))

    def _rows(self, ranking: Ranking) -> list[dict[str, Any]]:
        found = []
        for place, (value, index) in enumerate(zip(ranking.values.tolist(), ranking.index.tolist(), strict=True), start=1):
            block = self.store.read(index, index + 1)
            formula = Symbols(block.numbers).get_chemical_formula()
            row = {"place": place, "id": str(block.ids[0]), "index": index, "formula": formula, "num_atoms": len(block.numbers)}
            found.append(row | {self.scores.score.name: value})
        return found

    def _histogram(self) -> dict[str, Any] | None:
        """Return the distribution of the scores over all ranks; none where nothing has a score."""
        values = self.scores.values()
        ends = [end for end in self.ranks.allgather((values.min(), values.max()) if len(values) else None) if end]
        low, high = (min(a for a, _ in ends), max(b for _, b in ends)) if ends else (0.0, 0.0)
        low, high = (low, high) if low < high else (low - 0.5, high + 0.5)
        counts = sum(self.ranks.allgather(histogram(values, low, high)))
        return histogram_json(counts, low, high, self.scores.score.unit) if ends else None

    def _origin(self) -> str:
        """Return all that the predictions depend on, as text."""
        contents = [shard["content_sha256"] for shard in self.store.manifest["shards"]]
        blend = self.config.blend and file_hash(self.config.blend / WEIGHTS_FILE)
        return json.dumps([contents, self.fused.predictor.fingerprint, blend, self.config.precision, self.atoms])

    def _attributes(self) -> dict[str, str]:
        predictor = self.fused.predictor
        facts = {"branches": ",".join(predictor.branches), "model": predictor.fingerprint, "flags": "; ".join(FLAGS)}
        return facts | {f"unit_{name}": unit for name, unit in UNITS.items()}

    def _index(self, counts: dict[str, int]) -> dict[str, Any]:
        shards = [{"folder": s.file.data.name, "start": s.start, "stop": s.stop} for s in self.spans()]
        return {**self._attributes(), **counts, "precision": self.config.precision, "shards": shards}


def _require_rankable(config: ScreenConfig, predictor: Predictor) -> None:
    """Refuse at once what would end with nothing ranked.

    Raises:
        CampaignError: No branch has energies, or the score compares branches and there is one.
    """
    where = str(config.checkpoint)
    if not any(predictor.meta.references.values()):
        raise CampaignError("no branch was trained on energies", where, "Screen with a model of a branch that has energies.")
    if config.score == "branch_spread" and len(predictor.branches) < 2:
        raise CampaignError("the model has one branch", where, "Rank by another score: 'branch_spread' needs two branches.")


class Scores:
    """The scores of one rank's candidates: all of them for the distribution, with their places for the best.

    Args:
        score: What to rank by.
    """

    def __init__(self, score: Score) -> None:
        self.score, self.flagged = score, 0
        self._values: list[NDArray[np.float64]] = []
        self._index: list[NDArray[np.int64]] = []

    def keep(self, columns: Columns) -> None:
        """Add a step's scores."""
        values = getattr(columns, self.score.name)
        scored = np.isfinite(values)
        self._values.append(values[scored])
        self._index.append(columns.index[scored])
        self.flagged += int(np.count_nonzero(columns.flag))

    def values(self) -> NDArray[np.float64]:
        """Return all scores, (n,)."""
        return np.concatenate([np.zeros(0), *self._values])

    def best(self, top: int) -> Ranking:
        """Return the best `top`."""
        return Ranking.of(self.score, top, self.values(), np.concatenate([np.zeros(0, np.int64), *self._index]))
