"""The work of one stage instance as a simulation sees it: equal pieces, and how much of each stands."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from workflow.simulation.assumptions import Assumptions
from workflow.site import Site
from workflow.stages.base import Pieces, StageSpec

ROUNDING_S = 1e-6


@dataclass
class StageWork:
    """What is to be done and what is done.

    Attributes:
        pieces: How it is divided.
        slots: Pieces that fit side by side on the nodes that are not spares.
        piece_s: Seconds of one piece.
        interval_s: Seconds between two moments at which a piece writes what it can go on from.
        kept: Seconds of each piece that stand, whatever happens.
    """

    pieces: Pieces
    slots: int
    piece_s: float
    interval_s: float
    kept: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Begin with nothing done."""
        self.reset()

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to do."""
        return all(self.left_s(piece) == 0.0 for piece in range(self.pieces.count))

    @property
    def is_enough(self) -> bool:
        """Whether what is done suffices when the links have run out: parts of one piece, or whole ones of several."""
        if self.pieces.count == 1:
            return self.kept[0] >= self.pieces.enough * self.piece_s - ROUNDING_S
        whole = sum(self.left_s(piece) == 0.0 for piece in range(self.pieces.count))
        return whole >= math.ceil(self.pieces.enough * self.pieces.count - ROUNDING_S)

    @property
    def node_s(self) -> float:
        """Node-seconds of all of it."""
        return self.pieces.count * self.pieces.nodes * self.piece_s

    @property
    def share(self) -> float:
        """Share of the work that stands."""
        return sum(self.kept) / (self.pieces.count * self.piece_s)

    def left_s(self, piece: int) -> float:
        """Return the seconds that a piece still takes."""
        left = self.piece_s - self.kept[piece]
        return left if left > ROUNDING_S else 0.0

    def written_s(self, worked_s: float) -> float:
        """Return how much of a piece's last seconds stands when its task dies."""
        if not self.pieces.keeps:
            return 0.0
        return math.floor((worked_s + ROUNDING_S) / self.interval_s) * self.interval_s

    def reset(self) -> None:
        """Lose everything."""
        self.kept = [0.0] * self.pieces.count


def work_of(spec: StageSpec, key: str, pieces: Pieces, site: Site, assumed: Assumptions) -> StageWork:
    """Return the work of a stage instance: what fills its planned chain when nothing fails, times the share that is assumed.

    A stage that cannot go on from what it has written must fit into one job.
    """
    links = spec.links if pieces.keeps else 1
    slots = max(1, ((spec.nodes or 1) - spec.spares) // pieces.nodes)
    working_s = site.periods.working_s(spec.walltime_s)
    whole_s = assumed.work_of(key) * links * (working_s - assumed.start_up_s(working_s))
    piece_s = whole_s / -(-pieces.count // slots)
    every_s = assumed.checkpoint_s or pieces.checkpoint_s
    return StageWork(pieces, slots, piece_s, min(every_s, piece_s / pieces.epochs))
