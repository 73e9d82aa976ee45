"""What all figures of a report share: inline SVG in the page's own colours, on light and on dark paper."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import matplotlib as mpl
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path as Outline
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

INK, FAINT = "#010203", "#040506"
MOST_COLORS = 8
COLORS = tuple(f"#0a0b{number:02x}" for number in range(MOST_COLORS))
"""Stand-ins that the page replaces by its own variables: `--ink`, `--faint`, `--c0` to `--c7`, which every eye tells apart."""
DONE, FAILED, RUNNING, PARTIAL, NEUTRAL = (COLORS[number] for number in (2, 1, 0, 4, 7))
MARKERS, DASHES = "osD^vP*X", ("-", "--", "-.", ":")
_COORDINATE = re.compile(r"(\d\.\d\d)\d+")
"""A hundredth of a point is enough."""
_DOT = re.compile(r"M (\S+ \S+) L \1(?= |\")")
_STYLE = {
    "svg.fonttype": "none",  # text stays text: searchable, in the page's font
    "path.simplify": False,
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": FAINT,
    "axes.titlesize": 10,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": FAINT,
    "grid.linewidth": 0.5,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "legend.fontsize": 9,
}


@contextmanager
def figure(name: str, width: float, height: float) -> Iterator[Figure]:
    """Open a figure of a size in inches; `name` keeps its inner names apart from those of others."""
    with mpl.rc_context({**_STYLE, "svg.hashsalt": f"figure {name}"}):
        yield Figure(figsize=(width, height), layout="constrained")


def svg(picture: Figure) -> str:
    """Return the figure as SVG for the inside of a page: no fixed size, the page's colours, no ids that could clash."""
    buffer = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    picture.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    text = buffer.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    text = re.sub(r'<g id="[^"]*">', "<g>", text)
    text = re.sub(r"<[^>]+>", lambda tag: _COORDINATE.sub(r"\1", tag.group()), text)
    text = re.sub(r"\s*\n\s*", " ", text)
    text = _DOT.sub(r"M\1h0", text)
    text = re.sub(r" font-family: [^;]*;", "", text)  # the page's own
    text = re.sub(r' transform="rotate\(-0 [^"]*"', "", text)
    text = re.sub(r'<svg [^>]*?(viewBox="[^"]*")[^>]*>', r'<svg \1 xmlns:xlink="http://www.w3.org/1999/xlink">', text)
    for number, color in enumerate(COLORS):
        text = text.replace(color, f"var(--c{number})")
    return text.replace(INK, "var(--ink)").replace(FAINT, "var(--faint)")


_MOST_LETTERS, _LETTER_PT, _HANDLE_PT = 28, 5.2, 40.0
"""Of a name in a key; what a letter and the line before it take, in points."""


def dots(axes: Axes, x: Sequence[float], y: Sequence[float], color: str, *, along_top: bool = False) -> None:
    """Draw points as one path of dots: a tenth of the text that markers of their own would take.

    Args:
        axes: Where.
        x: Places in the data's scale.
        y: Heights likewise, or, `along_top`, as shares of the height of the axes.
        color: Colour.
        along_top: Whether the dots take no part in the scale of the heights.
    """
    places = np.repeat(np.column_stack([np.asarray(x, float), np.asarray(y, float)]), 2, axis=0)
    codes = np.tile([Outline.MOVETO, Outline.LINETO], len(places) // 2)
    outline = Outline(places, codes)
    outline.should_simplify = False
    patch = PathPatch(outline, fill=False, edgecolor=color, lw=2.6, capstyle="round", alpha=0.6)
    if along_top:
        patch.set(transform=axes.get_xaxis_transform(), clip_on=False)
        axes.add_artist(patch)
        return
    axes.add_patch(patch)
    axes.update_datalim(places)
    axes.autoscale_view()


def legend_below(picture: Figure, columns: int = 4) -> None:
    """Put one key for all panels below them, in as many columns as there is room for; long names lose their middle."""
    found: dict[str, Artist] = {}
    for axes in picture.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    if found:
        names = [shortened(name, _MOST_LETTERS) for name in found]
        room = int(picture.get_figwidth() * 72 / (_LETTER_PT * max(map(len, names)) + _HANDLE_PT))
        ncols = max(1, min(columns, len(found), room))
        picture.legend(list(found.values()), names, loc="outside lower center", ncols=ncols)


def shortened(name: str, most: int) -> str:
    """Return a name of at most so many letters; a longer one loses its middle."""
    return name if len(name) <= most else f"{name[: most // 2]}…{name[len(name) - (most - most // 2 - 1) :]}"


def scale_log(axes: Axes) -> None:
    """Scale by powers, labelled with plain figures at 1, 2 and 5."""
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def whole_numbers(axes: Axes) -> None:
    """Label the horizontal axis by whole numbers only."""
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def time_unit(seconds: float) -> tuple[float, str]:
    """Return the seconds of the unit in which a span reads well, and its name."""
    units = ((86400.0, "days"), (3600.0, "hours"), (60.0, "minutes"))
    return next(((scale, unit) for scale, unit in units if seconds > 2 * scale), (1.0, "seconds"))
