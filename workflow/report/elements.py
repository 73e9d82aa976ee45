"""The periodic table: symbols by atomic number, and where each element stands."""

from __future__ import annotations

SYMBOLS = [
    "H",
    "He",
    "Li",
    "Be",
    "B",
    "C",
    "N",
    "O",
    "F",
    "Ne",
    "Na",
    "Mg",
    "Al",
    "Si",
    "P",
    "S",
    "Cl",
    "Ar",
    "K",
    "Ca",
    "Sc",
    "Ti",
    "V",
    "Cr",
    "Mn",
    "Fe",
    "Co",
    "Ni",
    "Cu",
    "Zn",
    "Ga",
    "Ge",
    "As",
    "Se",
    "Br",
    "Kr",
    "Rb",
    "Sr",
    "Y",
    "Zr",
    "Nb",
    "Mo",
    "Tc",
    "Ru",
    "Rh",
    "Pd",
    "Ag",
    "Cd",
    "In",
    "Sn",
    "Sb",
    "Te",
    "I",
    "Xe",
    "Cs",
    "Ba",
    "La",
    "Ce",
    "Pr",
    "Nd",
    "Pm",
    "Sm",
    "Eu",
    "Gd",
    "Tb",
    "Dy",
    "Ho",
    "Er",
    "Tm",
    "Yb",
    "Lu",
    "Hf",
    "Ta",
    "W",
    "Re",
    "Os",
    "Ir",
    "Pt",
    "Au",
    "Hg",
    "Tl",
    "Pb",
    "Bi",
    "Po",
    "At",
    "Rn",
    "Fr",
    "Ra",
    "Ac",
    "Th",
    "Pa",
    "U",
    "Np",
    "Pu",
    "Am",
    "Cm",
    "Bk",
    "Cf",
    "Es",
    "Fm",
    "Md",
    "No",
    "Lr",
    "Rf",
    "Db",
    "Sg",
    "Bh",
    "Hs",
    "Mt",
    "Ds",
    "Rg",
    "Cn",
    "Nh",
    "Fl",
    "Mc",
    "Lv",
    "Ts",
    "Og",
]
_SHORT = ((3, 1), (11, 2))
_LONG = ((19, 3), (37, 4))
_LONGEST = ((55, 5), (87, 6))
_F_BLOCK_ROWS = 2.4
"""Rows that the lanthanides and actinides stand below their own."""


def place(number: int) -> tuple[float, int]:
    """Return row and column, from 0 on, of an element in the table of 18 columns; the f block stands below."""
    if number <= 2:
        return 0, 0 if number == 1 else 17
    for first, row in _SHORT:
        if first <= number < first + 8:
            offset = number - first
            return row, offset if offset < 2 else offset + 10
    for first, row in _LONG:
        if first <= number < first + 18:
            return row, number - first
    first, row = _LONGEST[number >= _LONGEST[1][0]]
    offset = number - first
    if 2 <= offset < 17:
        return row + _F_BLOCK_ROWS, offset
    return row, offset if offset < 2 else offset - 14
