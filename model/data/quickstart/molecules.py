"""Name small organic molecules and make their geometries: the G2 set and substituted derivatives of it."""

from __future__ import annotations

from functools import cache

import numpy as np
from ase import Atoms
from ase.build import molecule as g2_molecule
from ase.data import covalent_radii
from numpy.typing import NDArray

from model.data import identity
from model.data.quickstart.physics import relax


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split())


# Closed-shell molecules of C, H, N, O in the G2/97 set (Curtiss et al., J. Chem. Phys. 106, 1063 (1997)), and
# derivatives `parent:i+group`: a hydrogen on heavy atom i of the parent is replaced by the group.
PRETRAINING = _names(
    "C2H6 C3H8 trans-butane isobutane C2H4 C3H6_Cs isobutene butadiene C2H2 C3H4_C3v 2-butyne C3H4_D2d "
    "cyclobutane C3H6_D3h C6H6 CH3OH CH3CH2OH C2H6CHOH CH3OCH3 CH3CH2OCH3 CH2OCH2 H2CO CH3CHO CH3COCH3 OCHCHO "
    "HCOOH CH3COOH HCOOCH3 CH3CONH2 H3CNH2 CH3CH2NH2 C2H6NH C3H9N CH2NHCH2 CH3CN H2CCHCN C4H4O C4H4NH C5H5N CH4 "
    "C3H8:1+OH C3H8:0+NH2 C3H8:1+NH2 isobutane:0+OH C2H4:0+OH C2H4:0+NH2 C3H6_Cs:5+OH C3H6_Cs:5+NH2 C3H6_Cs:5+CH3 "
    "C3H6_Cs:0+CH3 CH3CH2OH:1+OH CH3CH2OH:0+OH CH3OCH3:0+OH CH3CHO:3+CH3 CH3CHO:3+NH2 CH3COCH3:2+CH3 CH3COCH3:2+OH "
    "CH3CONH2:3+CH3 H2CO:1+NH2 CH3COOH:4+CH3 C6H6:0+CH3 C6H6:0+OH C6H6:0+NH2 C4H4O:1+CH3 C4H4O:2+OH C5H5N:1+CH3 "
    "C5H5N:2+NH2 CH3CN:0+CH3 CH3CN:0+NH2 cyclobutane:0+OH C3H6_D3h:0+CH3 C3H6_D3h:0+OH CH2OCH2:0+CH3 H3CNH2:0+OH "
    "C3H6_Cs:0+OH C3H6_Cs:1+NH2 isobutene:4+OH butadiene:0+CH3 butadiene:1+OH butadiene:0+NH2 C3H4_C3v:2+OH "
    "C3H4_C3v:2+CH3 2-butyne:0+OH C3H4_D2d:1+CH3 CH3OH:0+OH CH3CH2OH:1+NH2 C2H6CHOH:4+OH CH3CH2OCH3:3+OH "
    "CH2OCH2:0+NH2 OCHCHO:0+CH3 OCHCHO:0+NH2 HCOOCH3:0+NH2 HCOOCH3:4+OH CH3CONH2:3+NH2 CH3CH2NH2:0+NH2 "
    "CH3CH2NH2:2+CH3 C2H6NH:0+OH CH2NHCH2:1+CH3 H2CCHCN:0+CH3 H2CCHCN:1+NH2 C4H4NH:2+OH C4H4NH:1+CH3"
)
SCARCE = _names("CH3CH2OH CH3CHO CH3COCH3 C3H6_Cs HCOOCH3 CH3COOH CH3OH C2H4")
TASK = _names(
    "CH3CONH2:2+CH3 CH3COOH:4+NH2 CH3COCH3:2+NH2 CH3CH2OCH3:2+OH CH3CH2OH:0+NH2 CH3CHO:3+OH trans-butane:0+NH2 isobutane:2+OH "
    "CH3CH2NH2:1+NH2 CH2NHCH2:0+OH C4H4O:3+NH2 H2CCHCN:0+NH2 HCOOCH3:4+NH2 CH3CH2OCH3:2+NH2 CH3COOH:2+NH2"
)
CANDIDATES = _names(
    "CH3COOH:4+OH CH2OCH2:0+OH C4H4O:1+NH2 cyclobutane:0+NH2 cyclobutane:0+CH3 C3H6_D3h:0+NH2 CH3CN:0+OH CH3OCH3:0+NH2 "
    "CH3CONH2:3+OH trans-butane:0+OH isobutane:0+NH2 C4H4NH:2+CH3 C5H5N:3+CH3 CH2NHCH2:0+CH3 HCOOCH3:4+CH3 CH3COOH:2+CH3"
)

# Atoms of a group with the first at the origin and the bond to the parent along -z, Å.
_GROUPS = {
    "OH": Atoms("OH", [(0, 0, 0), (0.93, 0, 0.26)]),
    "NH2": Atoms("NHH", [(0, 0, 0), (0.95, 0, 0.36), (-0.47, 0.82, 0.36)]),
    "CH3": Atoms("CHHH", [(0, 0, 0), (1.03, 0, 0.36), (-0.51, 0.89, 0.36), (-0.51, -0.89, 0.36)]),
}


@cache
def geometry(name: str) -> Atoms:
    """Return a molecule near its equilibrium; a derived one is relaxed with GFN1-xTB.

    Args:
        name: A name of the G2 set, or `parent:i+group`.
    """
    atoms = assembled(name)
    if ":" in name:
        atoms = relax(atoms, "gfn1")
    atoms.info = {"molecule": name}
    return atoms


def assembled(name: str) -> Atoms:
    """Return a molecule with the right bonds, a derived one with standard bond lengths."""
    parent, _, rest = name.partition(":")
    site, _, group = rest.partition("+")
    return substituted(g2_molecule(parent), int(site), group) if rest else g2_molecule(parent)


def substituted(parent: Atoms, site: int, group: str) -> Atoms:
    """Replace the first hydrogen on atom `site` by a group, turned so that it keeps clear of the parent."""
    hydrogen = next(j for i, j in _directed(parent) if i == site and parent[j].symbol == "H")
    axis = parent.positions[hydrogen] - parent.positions[site]
    axis /= np.linalg.norm(axis)
    rest = parent.copy()
    del rest[hydrogen]
    new = _GROUPS[group].copy()
    length = covalent_radii[parent.numbers[site]] + covalent_radii[new.numbers[0]]
    new.rotate("z", axis)
    new.translate(parent.positions[site] + length * axis)
    turned = [_turned(new, axis, angle) for angle in range(0, 360, 30)]
    return rest + max(turned, key=lambda each: _clearance(rest, each))


def bonds(atoms: Atoms) -> NDArray[np.int64]:
    """Return bonded pairs i < j, as the identity of a molecule sees them, (num_bonds, 2)."""
    return np.argwhere(np.triu(identity.bonds(atoms.numbers.astype(np.uint8), atoms.positions)))


def _directed(atoms: Atoms) -> list[tuple[int, int]]:
    pairs = [(int(i), int(j)) for i, j in bonds(atoms)]
    return pairs + [(j, i) for i, j in pairs]


def _turned(group: Atoms, axis: NDArray[np.float64], angle: float) -> Atoms:
    copy = group.copy()
    copy.rotate(angle, axis, center=copy.positions[0])
    return copy


def _clearance(parent: Atoms, group: Atoms) -> float:
    apart = parent.positions[:, None] - group.positions[None, 1:]
    return float(np.linalg.norm(apart, axis=2).min())
