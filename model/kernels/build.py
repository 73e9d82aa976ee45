"""Compile a kernel at its first use, keep it by the hash of all it depends on, and load it.

A kernel is plain C++17 with `extern "C"` functions on pointers: no header of torch, so that it compiles in seconds.
"""

from __future__ import annotations

import ctypes
import fcntl
import functools
import hashlib
import os
import platform
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

_FLAGS = ("-O3", "-std=c++17", "-shared", "-fPIC", "-pthread", "-Wno-psabi")
_NATIVE = ("-march=native", "-mcpu=native", "")
"""For this very processor, in the words of x86 and of others; without, where a compiler knows neither."""
_COMPILERS = ("c++", "g++", "clang++")
_TIMEOUT_S = 300.0


@dataclass(frozen=True)
class Kernel:
    """A kernel, or why there is none.

    Attributes:
        library: Its functions; None where it could not be had.
        reason: Why there is none; empty otherwise.
        compile_s: Seconds that compiling took in this process; 0 where it was there already.
    """

    library: ctypes.CDLL | None
    reason: str = ""
    compile_s: float = 0.0


_tried: dict[str, Kernel] = {}


def modes() -> dict[str, str]:
    """Return how each kernel that this process has asked for runs: the name of its library, or `eager` where there is none."""
    return {name: Path(found.library._name).stem if found.library else "eager" for name, found in sorted(_tried.items())}


@functools.cache
def load(name: str) -> Kernel:
    """Return the kernel of `model/kernels/<name>.cpp`, compiled where it is not there; says once where it cannot be had.

    It is kept in `$XDG_CACHE_HOME/campaign/kernels` (`~/.cache/…`), by the hash of its source, of the compiler and of the
    processor's abilities, so that unlike nodes may share the folder. `CXX` names another compiler than the first of c++, g++
    and clang++ on the PATH.

    Args:
        name: Of the source, without its ending.
    """
    source = Path(__file__).with_name(f"{name}.cpp")
    try:
        _tried[name] = _kernel(source)
    except (OSError, subprocess.SubprocessError) as error:
        reason = f"no compiled kernel for {name}: {_why(error)}; plain torch runs instead, several times slower"
        sys.stderr.write(f"{reason}\n")
        _tried[name] = Kernel(None, reason)
    return _tried[name]


def _kernel(source: Path) -> Kernel:
    compiler = _compiler()
    kept = _folder() / f"{source.stem}-{_fingerprint(source, compiler)}.so"
    seconds = 0.0
    if not kept.exists():
        with _alone(kept):
            if not kept.exists():
                began = time.monotonic()
                _compile(source, compiler, kept)
                seconds = time.monotonic() - began
    return Kernel(ctypes.CDLL(str(kept)), compile_s=seconds)


def _compiler() -> str:
    for name in filter(None, (os.environ.get("CXX"), *_COMPILERS)):
        if (found := shutil.which(name)) is not None:
            return found
    raise FileNotFoundError(f"no C++ compiler on the PATH (looked for {', '.join(_COMPILERS)}, and CXX is not set to one)")


def _fingerprint(source: Path, compiler: str) -> str:
    version = subprocess.run([compiler, "--version"], capture_output=True, check=True, timeout=_TIMEOUT_S).stdout
    parts = [source.read_bytes(), " ".join(_FLAGS + _NATIVE).encode(), version, platform.machine().encode(), _abilities()]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:24]


def _abilities() -> bytes:
    """Return what this processor says that it can; empty where the system does not tell."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_bytes().splitlines():
            if line.startswith((b"flags", b"Features", b"cpu\t")):
                return line
    return b""


def _folder() -> Path:
    """Return where kernels are kept; a folder of this process where others could write into that one, or it cannot be made."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(base) / "campaign" / "kernels"
    with suppress(OSError):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        state = folder.stat()
        others = stat.S_IWGRP | stat.S_IWOTH
        if state.st_uid == os.geteuid() and not state.st_mode & others and os.access(folder, os.W_OK):
            return folder
    return _own_folder()


@functools.cache
def _own_folder() -> Path:
    folder = tempfile.TemporaryDirectory(prefix="campaign-kernels-")
    _kept_folders.append(folder)  # removed when the process ends
    return Path(folder.name)


_kept_folders: list[tempfile.TemporaryDirectory[str]] = []


@contextmanager
def _alone(kept: Path) -> Iterator[None]:
    """Let one process of this node compile while others wait; on a file system without locks each compiles for itself."""
    with kept.with_suffix(".lock").open("w") as lock:
        with suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _compile(source: Path, compiler: str, kept: Path) -> None:
    """Write the library beside and rename it: whoever finds it finds it whole."""
    beside = kept.with_name(f".{kept.name}.{platform.node()}.{os.getpid()}")
    try:
        for native in _NATIVE:
            command = [compiler, *_FLAGS, *filter(None, [native]), "-o", str(beside), str(source)]
            done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S)
            if done.returncode == 0:
                beside.replace(kept)
                return
        said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise OSError(f"{compiler} fails: {said[-1]}")
    finally:
        beside.unlink(missing_ok=True)


def _why(error: Exception) -> str:
    return str(error) or type(error).__name__
