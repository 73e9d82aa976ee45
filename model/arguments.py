"""Arguments that several `python -m model` commands take on their command lines."""

from __future__ import annotations

import argparse


def positive(text: str) -> int:
    """Return a whole number above zero; for `type=` of an argument.

    Raises:
        ArgumentTypeError: It is none.
    """
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is no whole number above zero")
    return int(text)
