"""The colours of a report's figures: told apart by every kind of eye, and from the paper."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import numpy as np
import pytest

import workflow.report
from workflow.report.figures import MOST_COLORS

TEMPLATE = Path(workflow.report.__file__).with_name("report.html.j2").read_text()
# What dichromats see, in linear RGB: Machado, Oliveira and Fernandes, IEEE Trans. Vis. Comput. Graph. 15, 1291 (2009).
EYES = {
    "trichromat": np.eye(3),
    "protanope": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranope": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanope": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
LEAST_DIFFERENCE = 12.0
"""CIE 1976 ΔE; 2.3 is just noticeable side by side."""
LEAST_CONTRAST = 3.0
"""WCAG 2.2, 1.4.11."""


def schemes() -> dict[str, tuple[str, list[str]]]:
    papers = re.findall(r"--paper:(#[0-9a-f]{6})", TEMPLATE)
    colors = re.findall(r"--c[0-7]:(#[0-9a-f]{6})", TEMPLATE)
    assert len(papers) == 2 and len(colors) == 2 * MOST_COLORS
    return {"light": (papers[0], colors[:MOST_COLORS]), "dark": (papers[1], colors[MOST_COLORS:])}


def linear(color: str) -> np.ndarray:
    values = np.array([int(color[place : place + 2], 16) / 255 for place in (1, 3, 5)])
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    """Return CIE L*a*b* of linear RGB under D65."""
    ratio = TO_XYZ @ np.clip(rgb, 0, 1) / np.array([0.9505, 1.0, 1.089])
    f = np.where(ratio > 0.008856, np.cbrt(ratio), 7.787 * ratio + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("eye", EYES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_any_two_colours_differ(scheme: str, eye: str) -> None:
    seen = [lab(np.array(EYES[eye]) @ linear(color)) for color in schemes()[scheme][1]]
    for (one, a), (other, b) in itertools.combinations(enumerate(seen), 2):
        assert np.linalg.norm(a - b) >= LEAST_DIFFERENCE, (one, other)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_colour_stands_out_from_the_paper(scheme: str) -> None:
    paper, colors = schemes()[scheme]
    for color in colors:
        bright, dark = sorted((TO_XYZ[1] @ linear(each) for each in (paper, color)), reverse=True)
        assert (bright + 0.05) / (dark + 0.05) >= LEAST_CONTRAST, color
