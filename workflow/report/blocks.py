"""What a section of a report is made of: pictures with a text alternative and their origin, tables, facts, sentences."""

from __future__ import annotations

from dataclasses import dataclass, field

from markupsafe import Markup

from workflow.report.provenance import Origin
from workflow.report.tables import Table


@dataclass(frozen=True)
class Picture:
    """A figure.

    Attributes:
        title: What it shows.
        alternative: The same in words, for those who do not see it.
        svg: The drawing, made by us.
        caption: How to read it.
        origin: Where it comes from.
    """

    title: str
    alternative: str
    svg: str
    caption: str = ""
    origin: Origin = ()

    @property
    def drawing(self) -> Markup:
        """Return the drawing with its text alternative."""
        label = Markup('<svg role="img" aria-label="{}" ').format(self.alternative)
        return label + Markup(self.svg.removeprefix("<svg "))  # noqa: S704 what is drawn was escaped when it was


@dataclass(frozen=True)
class Block:
    """A picture, a table, a list of facts or a sentence.

    Attributes:
        title: Heading, or empty.
        text: Sentence.
        warning: Sentence that must not be overlooked.
        picture: The picture.
        table: The table.
        folded: Whether the table is shown on request only.
        facts: Names and values.
        origin: Where the table comes from.
    """

    title: str = ""
    text: str = ""
    warning: str = ""
    picture: Picture | None = None
    table: Table | None = None
    folded: bool = False
    facts: tuple[tuple[str, str], ...] = ()
    origin: Origin = ()


@dataclass(frozen=True)
class Section:
    """A part of the report.

    Attributes:
        id: Anchor.
        title: Heading.
        about: A sentence on how to read it.
        cards: Figures that stand out, with their names.
        blocks: What it shows; none: not done yet.
    """

    id: str
    title: str
    about: str = ""
    cards: tuple[tuple[str, str], ...] = ()
    blocks: tuple[Block, ...] = field(default=())
