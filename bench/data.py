"""`make bench-data`: batches of 64 in random order out of our store, beside LMDB with pickled records and beside memory maps.

Every arm begins with closed files, reads them through a warm page cache and yields the same collated FP64 batches, which are
compared before anything is timed. Ours also works out its random order, which the others are given; a second arm of ours is given
it too, and tells what the order costs.
"""

from __future__ import annotations

import os
import pickle  # noqa: S403 the baseline's format, see `lmdb_batches`
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
import torch
from ase.data import chemical_symbols
from numpy.typing import NDArray
from torch import Tensor

from bench import balance, conversion, timing
from bench.structures import make_block
from model.allocator import keep_freed_memory
from model.config import ConvertConfig
from model.data import convert
from model.data.block import Block, Edges, gather_ranges
from model.data.groups import Group
from model.data.loader import build_edges, collate
from model.data.sampling import Sampler
from model.data.share import Share
from model.data.store import Store
from model.data.window import Form, Rows, Window
from model.graph import AtomGraph
from model.neighbors import neighbor_list
from model.outcome import Status
from model.parallel import Ranks

STRUCTURES, BATCH, CUTOFF = 20_000, 64, 5.0
GATHERED = 16
"""Batches gathered at once, as a training does."""
GRAPHS = 2_000
"""Structures of the arms with neighbour lists, a hundred times dearer than the ones without."""
REFERENCE_BYTES = 42_000
"""Bytes of a structure of 55 atoms in the reference's store."""
FIELDS = ("numbers", "positions", "cell", "graph", "num_atoms", "branch", "charge", "spin", "energy", "forces")
"""What a batch is made of, neighbour lists left out."""

MPIEXEC = ("timeout", "--kill-after=5", "300", str(Path(sys.executable).with_name("mpiexec")))
Batch = dict[str, Tensor]
Order = list[NDArray[np.int64]]


def main() -> None:
    """Measure and report."""
    small = timing.is_small("Random batches out of our store, LMDB and memory maps.")
    keep_freed_memory()  # in every arm, as `python -m model` does
    torch.set_num_threads(1)
    timing.say_machine()
    count, rounds = (300, 2) if small else (STRUCTURES, 5)
    with tempfile.TemporaryDirectory(prefix="bench-data-") as name:
        folder = Path(name)
        figures: timing.Figures = {"convert_extxyz_per_cpu_s": write_store(folder, make_block(count, seed=0))}
        block = Store.open(folder / "store").load()  # without what the converter refused
        count = len(block)
        write_lmdb(folder / "lmdb", block)
        write_npy(folder / "npy", block)
        figures |= plain(folder, count, rounds) | graphs(folder, min(count, GRAPHS), rounds)
        figures |= {"bytes_per_structure": sizes(folder, block)} | windows(folder / "store")
        figures |= balance.figures(block.num_atoms, num_edges(block))
    figures |= conversion.figures(small=small)
    timing.finish(figures, small=small)


def plain(folder: Path, count: int, rounds: int) -> timing.Figures:
    """Time batches without neighbour lists."""
    orders = {number: order_of(count, number) for number in range(-1, rounds)}
    sources: dict[str, Callable[[int], Iterator[Batch]]] = {
        "our store": lambda number: our_batches(folder / "store", order_of(count, number)),
        "our store, its order given": lambda number: our_batches(folder / "store", orders[number]),
        "LMDB, pickled records": lambda number: lmdb_batches(folder / "lmdb", orders[number]),
        "memory-mapped arrays": lambda number: npy_batches(folder / "npy", orders[number]),
    }
    check(sources)
    seconds = timing.take_turns({name: _drain(source) for name, source in sources.items()}, rounds)
    ours, given, pickled, mapped = seconds.values()
    rates = {name: timing.rate(count, each) for name, each in seconds.items()}
    rows = [["", "structures per CPU-s", "ours is"]]
    rows += [[name, f"{rates[name]:,.0f}", f"{timing.ratio(ours, each):.2f} x"] for name, each in seconds.items()]
    timing.say_table(f"random order, batches of {BATCH}, no neighbour lists, {count} structures, {rounds} rounds", rows)
    ratios: timing.Figures = {"loader_vs_lmdb": timing.ratio(ours, pickled), "loader_vs_mmap": timing.ratio(ours, mapped)}
    ratios |= {"loader_order_given_vs_lmdb": timing.ratio(given, pickled)}
    return ratios | {"loader_per_cpu_s": rates["our store"], "lmdb_per_cpu_s": rates["LMDB, pickled records"]}


def graphs(folder: Path, count: int, rounds: int) -> timing.Figures:
    """Time batches with neighbour lists made on the fly, beside the lists alone."""
    orders = {number: order_of(count, number) for number in range(-1, rounds)}
    block = Store.open(folder / "store").read(0, count)
    parts = {number: [block.take(rows) for rows in order] for number, order in orders.items()}

    def lists(number: int) -> None:
        for part in parts[number]:
            neighbor_list(part.positions, part.offsets, part.cell, part.pbc, CUTOFF)

    def loader(number: int) -> None:
        for several, stops in gathered(held(folder / "store", count=count), order_of(count, number)):
            list(collate([(0, several)], CUTOFF, None, [None], torch.float64).cut(stops))

    seconds = timing.take_turns({"loader": loader, "lists": lists}, rounds)
    rows = [["", "structures per CPU-s"]] + [[name, f"{timing.rate(count, each):,.0f}"] for name, each in seconds.items()]
    timing.say_table(f"the same with neighbour lists within {CUTOFF} Å, {count} structures, half of them periodic", rows)
    share = timing.ratio(seconds["loader"], seconds["lists"])
    return {"graph_loader_vs_lists": share, "graph_loader_per_cpu_s": timing.rate(count, seconds["loader"])}


def windows(store: Path) -> timing.Figures:
    """Let ranks hold the store together, and take batches at the same time: on one node, and each on one of its own."""
    arms = {"window_per_rank_2": (2, []), "window_per_rank_4": (4, []), "window_apart_per_rank_2": (2, ["apart"])}
    figures: timing.Figures = {}
    for name, (ranks, more) in arms.items():
        command = [*MPIEXEC, "-n", str(ranks), sys.executable, "-m", "bench.window", str(store), *more]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        figures[name] = float(done.stdout.splitlines()[-1])
    rows = [["", "structures per CPU-s and rank"], *([name, f"{rate:,.0f}"] for name, rate in figures.items())]
    timing.say_table("batches of 64 a rank out of a window that ranks share (the reference: 1,640 on 2)", rows)
    return figures


def sizes(folder: Path, block: Block) -> float:
    """Return the bytes of a structure in our store, and print those of the others."""
    each = {name: _bytes(folder / name) / len(block) for name in ("store", "lmdb", "npy")}
    atoms = len(block.numbers) / len(block)
    rows = [["", "bytes"], *([name, f"{size:,.0f}"] for name, size in each.items())]
    timing.say_table(f"a structure of {atoms:.0f} atoms on disk (the reference at 55: {REFERENCE_BYTES:,})", rows)
    return each["store"]


def num_edges(block: Block) -> NDArray[np.int64]:
    """Return the edges of each structure."""
    several = (block.span(start, min(start + GRAPHS, len(block))) for start in range(0, len(block), GRAPHS))
    return np.concatenate([np.diff(build_edges(part, CUTOFF, None).offsets) for part in several])


def check(sources: dict[str, Callable[[int], Iterator[Batch]]]) -> None:
    """Compare all batches of all arms, bit for bit.

    Raises:
        AssertionError: Two arms differ.
    """
    for batches in zip(*(source(0) for source in sources.values()), strict=True):
        for name in FIELDS:
            first = batches[0][name]
            assert all(b[name].dtype == first.dtype and torch.equal(b[name], first) for b in batches), name
    timing.say("all arms yield the same batches, bit for bit")


def order_of(count: int, number: int) -> Order:
    """Return the indices of each batch of one epoch."""
    sampler = Sampler({0: count}, BATCH, seed=0)
    return [sampler.batch(number + 1, step)[0] for step in range(sampler.steps_per_epoch)]


def our_batches(store: Path, order: Order) -> Iterator[Batch]:
    """Read our store in blocks, then gather; empty neighbour lists stand in for those that `collate` would make."""
    return collated(held(store), order)


def collated(window: Window, order: Order) -> Iterator[Batch]:
    """Yield batches out of a window."""
    for block, stops in gathered(window, order):
        yield from map(_fields, collate([(0, _without_lists(block))], CUTOFF, None, [None], torch.float64).cut(stops))


def gathered(window: Window, order: Order) -> Iterator[tuple[Block, list[int]]]:
    """Yield the structures of some batches at a time, and where these begin and end."""
    for first in range(0, len(order), GATHERED):
        batches = order[first : first + GATHERED]
        yield window.take(np.concatenate(batches)), np.cumsum([0, *map(len, batches)]).tolist()


def held(store: Path, group: Group | None = None, count: int | None = None) -> Window:
    """Read this rank's share of the first structures of a store into a window."""
    group = group or Group()
    whole = Share.of(Store.open(store), group.rank, group.size)
    share = replace(whole, stop=whole.stop if count is None else min(whole.stop, count))
    atoms, width = share.extent()
    window = Window(group, Form(max(group.allgather(width))), Rows(len(share), atoms, 0))
    for _, block in share.blocks():
        window.append(block)
    window.seal()
    return window


def lmdb_batches(path: Path, order: Order) -> Iterator[Batch]:
    """Yield the baseline's batches: fetch, unpickle, concatenate, as the loaders of published trainings do.

    This is the one place that unpickles anything: records that this very process has written into its own temporary
    folder. Pickle is the rival's format; nothing of ours reads it.
    """
    with lmdb.open(str(path), readonly=True, lock=False, readahead=False) as environment, environment.begin() as reader:
        for rows in order:
            records = [pickle.loads(reader.get(b"%d" % row) or b"") for row in rows.tolist()]  # noqa: S301 see above
            yield _collated(records)


def npy_batches(folder: Path, order: Order) -> Iterator[Batch]:
    """Yield batches by one gather for each field from memory-mapped arrays: the ceiling."""
    held = {path.stem: np.load(path, mmap_mode="r") for path in folder.iterdir()}
    for rows in order:
        atoms, offsets = gather_ranges(held["offsets"], rows)
        fields = {name: held[name][atoms] for name in ("numbers", "positions", "forces")}
        fields |= {name: held[name][rows] for name in ("cell", "energy", "charge", "spin")}
        yield _as_batch(fields, np.diff(offsets))


def write_store(folder: Path, block: Block) -> float:
    """Convert an extended XYZ file to a store, as `python -m model convert` does; return its structures per CPU-second."""
    source = folder / "made.extxyz"
    with open(source, "w") as file:
        file.writelines(_frame(block.take([row])) for row in range(len(block)))
    config = ConvertConfig(
        name="made", reader={"name": "extxyz", "identity": "identity"}, sources=(source,), store=folder / "store"
    )
    (folder / "task").mkdir()
    began = timing.cpu_s()
    assert convert.run(config, folder / "task", Ranks()).status is Status.DONE
    return len(block) / (timing.cpu_s() - began)


def write_lmdb(path: Path, block: Block) -> None:
    """Write each structure as a pickled dictionary of arrays under its number."""
    with lmdb.open(str(path), map_size=1 << 30) as environment, environment.begin(write=True) as writer:
        for row in range(len(block)):
            part = block.take([row])
            record = {name: getattr(part, name) for name in ("numbers", "positions", "forces")}
            record |= {name: getattr(part, name)[0] for name in ("cell", "pbc", "energy", "charge", "spin")}
            writer.put(b"%d" % row, pickle.dumps(record, protocol=pickle.HIGHEST_PROTOCOL))


def write_npy(folder: Path, block: Block) -> None:
    """Write one array for each field."""
    folder.mkdir()
    for name in ("offsets", "numbers", "positions", "forces", "cell", "energy", "charge", "spin"):
        np.save(folder / f"{name}.npy", getattr(block, name))


def _frame(one: Block) -> str:
    """Return one structure as text; every number comes back bit for bit."""
    box = f'Lattice="{" ".join(map(repr, one.cell[0].ravel().tolist()))}" ' if one.pbc.any() else ""
    periodic = " ".join("T" if each else "F" for each in one.pbc[0])
    facts = f'energy={float(one.energy[0])!r} identity={one.ids[0]} pbc="{periodic}"'
    rows = np.concatenate([one.positions, one.forces], 1).tolist()
    symbols = [chemical_symbols[z] for z in one.numbers.tolist()]
    lines = [f"{symbol} {' '.join(map(repr, row))}" for symbol, row in zip(symbols, rows, strict=True)]
    head = f"{box}Properties=species:S:1:pos:R:3:forces:R:3 {facts}"
    return "\n".join([str(len(lines)), head, *lines]) + "\n"


def _collated(records: list[dict[str, Any]]) -> Batch:
    fields = {name: np.concatenate([r[name] for r in records]) for name in ("numbers", "positions", "forces")}
    fields |= {name: np.stack([r[name] for r in records]) for name in ("cell", "energy", "charge", "spin")}
    return _as_batch(fields, np.array([len(r["numbers"]) for r in records]))


def _as_batch(fields: dict[str, NDArray[Any]], counts: NDArray[np.int64]) -> Batch:
    whole = {name: fields[name].astype(np.int64) for name in ("numbers", "charge", "spin")}
    arrays = {**fields, **whole, "num_atoms": counts, "graph": np.repeat(np.arange(len(counts)), counts)}
    arrays["branch"] = np.zeros(len(counts), np.int64)
    return {name: torch.from_numpy(arrays[name]) for name in FIELDS}


def _without_lists(block: Block) -> Block:
    offsets, nothing = np.zeros(len(block) + 1, np.int64), np.zeros(0, np.uint16)
    return replace(block, edges=Edges(CUTOFF, None, offsets, nothing, nothing, np.zeros((0, 3), np.int8)))


def _fields(graph: AtomGraph) -> Batch:
    return {name: getattr(graph, name) for name in FIELDS}


def _drain(source: Callable[[int], Iterator[Batch]]) -> Callable[[int], object]:
    return lambda number: sum(1 for _ in source(number))


def _bytes(folder: Path) -> int:
    """Return the bytes that files hold; LMDB's are preallocated, so blocks count, not lengths."""
    files = [path.stat() for path in folder.rglob("*") if path.is_file()]
    return sum(min(each.st_size, 512 * each.st_blocks) for each in files)


if __name__ == "__main__":
    main()
