"""Pack the Python environment of the tasks into one archive that every node unpacks, with its lock and its hash.

The archive holds what tasks import, as it stands in this environment. It does not hold the interpreter, nor what a site's
modules bring: those stand on the nodes already, or are read from where they lie.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import platform
import sys
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

import workflow
from model.outcome import read_json, write_json
from workflow.errors import ConfigError, SiteError
from workflow.receipt import Output, digest
from workflow.site import Site, packaged
from workflow.targets import folder_in

EXTRAS = ("model", "local")
_OURS = ("workflow", "model")
_DATA = ("sites", "campaigns")
_PASSED_OVER = ("__pycache__",)


@dataclass(frozen=True)
class Archive:
    """A packed environment; the same facts stand beside it as JSON.

    Attributes:
        path: The archive.
        size: Bytes.
        sha256: Digest of the archive.
        python: Version of the interpreter that it fits, major and minor.
        machine: Kind of machine, such as x86_64.
        sources: Digest of our own packages in it.
        packages: Versions of all packages in it.
        left_out: What tasks need beside it, a sentence each.
    """

    path: str
    size: int
    sha256: str
    python: str
    machine: str
    sources: str
    packages: dict[str, str]
    left_out: tuple[str, ...]


def build(into: Path, site: Site | None, extras: tuple[str, ...] = EXTRAS) -> Archive:
    """Pack the environment of this interpreter.

    Args:
        into: Folder for the archive and its facts; the name carries the digest of the lock.
        site: Site that it is for; none: this machine.
        extras: Extras of our own package whose dependencies are packed.

    Raises:
        ConfigError: Our own package is not installed here, or the folder cannot be made for want of the one above it.
    """
    into = folder_in(into)
    found, missing = closure(f"campaign[{','.join(extras)}]")
    own = [each for each in found if _is_inside(each)]
    files = dict(_files(own))
    lock = {each.name: each.version for each in own}
    left_out = (*_outside(found, own), *missing, *_of_the_site(site))
    named = "\n".join((*(f"{name}=={number}" for name, number in sorted(lock.items())), sources()))
    name = hashlib.sha256(named.encode()).hexdigest()[:12]
    path = into / f"campaign-env-{name}.tar.gz"
    _pack(path, files)
    facts = (str(path), path.stat().st_size, digest(path), _python(), platform.machine(), sources(), lock, left_out)
    archive = Archive(*facts)
    write_json(_facts_path(path), asdict(archive))
    return archive


def read_archive(path: Path) -> Archive:
    """Return the facts of an archive, and see that it fits this interpreter and these sources.

    Raises:
        SiteError: It has none beside it, or was built for another interpreter, machine or version of this program.
    """
    remedy = "Build it anew: campaign env build."
    if not path.is_absolute():
        raise SiteError("not a whole path to a packed environment", str(path), "Begin it with /: jobs run in other folders.")
    try:
        fields: dict[str, Any] | None = read_json(_facts_path(path))
        if fields is None or not path.is_file():
            raise SiteError("no packed environment", str(path), remedy)
        archive = Archive(**{**fields, "path": str(path), "left_out": tuple(fields["left_out"])})
    except (TypeError, KeyError) as error:
        raise SiteError("not the facts of a packed environment", str(_facts_path(path)), remedy) from error
    for what, theirs, ours in (
        ("Python", archive.python, _python()),
        ("machine", archive.machine, platform.machine()),
        ("version of this program", archive.sources, sources()),
    ):
        if theirs != ours:
            raise SiteError(f"the packed environment is of another {what}: {theirs[:12]}, not {ours[:12]}", str(path), remedy)
    return archive


def packed(path: Path) -> Output:
    """Return an archive as something to stage, once it is known to fit.

    Raises:
        SiteError: It does not fit, or is not there.
    """
    archive = read_archive(path)
    return Output("environment", archive.path, archive.size, archive.sha256)


def closure(requirement: str) -> tuple[list[Distribution], list[str]]:
    """Return the installed packages that one needs, itself first, and a sentence about each that is not installed.

    Raises:
        ConfigError: It is not installed itself.
    """
    first = Requirement(requirement)
    found: dict[str, Distribution] = {}
    seen: set[tuple[str, str]] = set()
    missing: list[str] = []
    queue = [(first, "")]
    while queue:
        need, by = queue.pop(0)
        for extra in ("", *sorted(need.extras)):
            if (key := (need.name.lower(), extra)) in seen:
                continue
            seen.add(key)
            try:
                package = found.setdefault(need.name.lower(), distribution(need.name))
            except PackageNotFoundError:
                missing.append(f"{need.name}, which {by or 'this program'} needs, is not installed here")
                continue
            queue += [(each, package.name) for each in _needs(package, extra)]
    if not found:
        raise ConfigError(f"'{first.name}' is not installed here", sys.prefix, "pip install it into this environment.")
    return list(found.values()), missing


def _needs(package: Distribution, extra: str) -> Iterator[Requirement]:
    for line in package.requires or ():
        need = Requirement(line)
        of_extra = need.marker is not None and "extra" in str(need.marker)
        if of_extra == bool(extra) and (need.marker is None or need.marker.evaluate({"extra": extra})):
            yield need


def sources() -> str:
    """Return a digest of our own packages: an archive with others would run other code than the agent."""
    total = hashlib.sha256()
    for name, path in sorted(_own_files()):
        total.update(f"{name}\0{digest(path)}\n".encode())
    return total.hexdigest()


def _own_files() -> Iterator[tuple[str, Path]]:
    root = Path(workflow.__file__).resolve().parent.parent
    for package in _OURS:
        yield from ((str(path.relative_to(root)), path) for path in (root / package).rglob("*") if _is_ours(path))
    for folder in _DATA:
        yield from ((f"workflow/{folder}/{path.name}", path) for path in packaged(folder).glob("*.yaml"))


def _is_ours(path: Path) -> bool:
    return path.is_file() and not set(_PASSED_OVER) & set(path.parts)


def _files(packages: Iterable[Distribution]) -> Iterator[tuple[str, Path]]:
    """Yield the name in the archive and the file, of all files that lie where Python looks for packages."""
    for package in packages:
        for file in package.files or ():
            path = Path(str(package.locate_file(file))).resolve()
            if ".." not in file.parts and path.is_file() and not set(_PASSED_OVER) & set(file.parts):
                yield str(file), path
    yield from _own_files()  # an editable installation lists none of them


def _is_inside(package: Distribution) -> bool:
    return Path(str(package.locate_file(""))).resolve().is_relative_to(Path(sys.prefix).resolve())


def _outside(found: list[Distribution], own: list[Distribution]) -> list[str]:
    rest = [each for each in found if each not in own and each.name.lower() != "campaign"]
    lines = [f"{each.name} {each.version} lies in {each.locate_file('')}: the nodes must have it there" for each in rest]
    return [f"the interpreter {getattr(sys, '_base_executable', sys.executable)} and its standard library", *lines]


def _of_the_site(site: Site | None) -> list[str]:
    """Say which of the site's modules are not here, so that what is compiled against them cannot be in the archive."""
    if site is None:
        return []
    loads = [line for line in site.setup if line.startswith("module load")]
    modules = [name for line in loads for name in line.split()[2:]]
    loaded = [each for each in os.environ.get("LOADEDMODULES", "").split(":") if each]
    versions = {each.partition("/")[0]: each for each in loaded}
    lines = []
    for name in modules:
        other = versions.get(name.partition("/")[0])
        if other is None:
            lines.append(f"module {name} of {site.name} is not loaded here: what it brings is left to the nodes")
        elif "/" in name and name not in loaded:
            lines.append(f"module {name} of {site.name}: {other} is loaded here; what was compiled with it may not run there")
    return lines


def _pack(path: Path, files: dict[str, Path]) -> None:
    """Write the archive beside and rename; the same files give the same bytes."""
    beside = path.with_name(f".{path.name}.part")
    with (
        open(beside, "wb") as raw,
        gzip.GzipFile("", "wb", compresslevel=1, fileobj=raw, mtime=0) as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for name, file in sorted(files.items()):
            tar.add(file, arcname=name, recursive=False, filter=_anonymous)
    beside.replace(path)


def _anonymous(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    entry.mtime = int(entry.mtime)
    return entry


def _facts_path(path: Path) -> Path:
    return path.with_name(f"{path.name.removesuffix('.tar.gz')}.json")


def _python() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"
