"""Ranks hold a branch together: any of them gets any structure, bit for bit, whatever the others are doing."""

from __future__ import annotations

import mpi_programs

HELD = """
import numpy as np
from structures import random_block
from model.data import groups
from model.data.loader import with_edges
from model.data.window import Form, Rows, Window

def held(whole, width=None, cutoff=3.5):
    chosen = next(g for g in groups.replicas(range(ranks.size), ranks.hosts, width) if ranks.rank in g)
    group = groups.join(ranks, chosen)
    form = Form(whole.raw_ids.dtype.itemsize, cutoff, None)
    own = range(len(whole) * group.rank // group.size, len(whole) * (group.rank + 1) // group.size)
    window = Window(group, form, Rows(len(own), len(whole.numbers), int(whole.edges.offsets[-1]) if cutoff else 0))
    for start in range(own.start, own.stop, 7):
        window.append(whole.take(np.arange(start, min(start + 7, own.stop))))
    window.seal()
    return group, window
"""
ANY_FROM_ANY = """
from model.data.block import ATOM_FIELDS, STRUCTURE_FIELDS
whole = with_edges(random_block(50, 3), 3.5, None)
random = np.random.default_rng(ranks.rank)
for width in argv:
    group, window = held(whole, int(width) or None)
    assert len(window) == 50 and window.total_edges() == whole.edges.offsets[-1]
    for wanted in (random.integers(0, 50, 23), np.arange(50)[::-1], np.zeros(0, int), np.array([49] * 3)):
        found, expected = window.take(wanted), whole.take(wanted)
        for field in ("offsets", "sender", "receiver", "shift"):
            assert np.array_equal(getattr(found.edges, field), getattr(expected.edges, field)), field
        for field in ("offsets", *ATOM_FIELDS, *STRUCTURE_FIELDS):
            a, b = getattr(found, field), getattr(expected, field)
            assert a.dtype == b.dtype and np.array_equal(a, b, equal_nan=a.dtype.kind == "f"), field
        assert np.array_equal(window.num_atoms(wanted), expected.num_atoms)
        assert np.array_equal(window.num_edges(wanted), np.diff(expected.edges.offsets))
    sys.stdout.write(f"{ranks.rank} {width} {group.nodes}\\n")
    window.close()
    group.close()
"""


def test_any_rank_takes_any_structure_within_and_across_nodes() -> None:
    """Four ranks on two nodes: all together, a group for each node, one rank each, and a group across a node's border."""
    found = mpi_programs.run(HELD + ANY_FROM_ANY, 4, "0", "2", "1", "3", nodes="aabb")
    both, one = "((0, 1), (2, 3))", "((0, 1),)"
    assert found == sorted(f"{r} {w} {nodes}" for r in range(4) for w, nodes in ((0, both), (2, one), (1, "((0,),)"), (3, both)))


REDUCTION = """
import torch, torch.distributed as dist
whole = with_edges(random_block(40), 3.5, None)
group, window = held(whole)
store = dist.FileStore(argv[0], ranks.size)
dist.init_process_group("gloo", store=store, rank=ranks.rank, world_size=ranks.size)
for reader in range(ranks.size):
    if ranks.rank == reader:  # the others sit in gloo until this rank has what it wants from all of them
        assert np.array_equal(window.take(np.arange(40)).positions, whole.positions)
    dist.all_reduce(torch.ones(1))
sys.stdout.write("read\\n")
window.close()
group.close()
dist.destroy_process_group()
"""


def test_a_read_ends_while_its_target_waits_in_a_reduction_that_waits_for_the_reader(tmp_path) -> None:
    """Were the target's MPI to answer only when its program calls MPI, this would be a deadlock."""
    assert mpi_programs.run(HELD + REDUCTION, 3, str(tmp_path / "store"), nodes="abc") == ["read"] * 3


BUSY = """
from pathlib import Path
whole = with_edges(random_block(40), 3.5, None)
group, window = held(whole)
done = Path(argv[0])
if ranks.rank == 0:
    for _ in range(20):
        assert np.array_equal(window.take(np.arange(40)).positions, whole.positions)
    done.touch()
else:
    turns, matrix = 0, np.ones((300, 300))
    while not done.exists():
        matrix = matrix @ matrix / 300
        turns += sum(range(10_000)) > 0
    assert turns
sys.stdout.write("read\\n")
window.close()
group.close()
"""


def test_a_read_ends_while_its_target_computes(tmp_path) -> None:
    """Two ranks of other nodes call no MPI until the reader has what it wants, which it tells by a file."""
    assert mpi_programs.run(HELD + BUSY, 3, str(tmp_path / "done"), nodes="abc") == ["read"] * 3


MEMORY = """
def shared():
    lines = open("/proc/self/smaps_rollup").read().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss_Shmem"))

piece = with_edges(random_block(300), 3.5, None)
ranks.barrier()
before = shared()
form = Form(piece.raw_ids.dtype.itemsize, 3.5, None)
group = groups.join(ranks, range(ranks.size))
times = 70
atoms, edges = len(piece.numbers), int(piece.edges.offsets[-1])
window = Window(group, form, Rows(300 * times, 100 * times * atoms, 100 * times * edges))
for _ in range(times):
    window.append(piece)
window.seal()
window.take(np.arange(0, len(window), 3))
ranks.barrier()
used = sum(ranks.allgather(shared() - before))
each = 300 * form.structure.itemsize + 49 * atoms + 7 * edges
if ranks.is_first:
    index = used - times * ranks.size * each
    sys.stdout.write(f"{used / (times * ranks.size * each)} {index / len(window)}\\n")
window.close()
group.close()
"""


def test_a_node_holds_one_copy_and_an_index_of_16_bytes_a_structure() -> None:
    """Shared pages, divided by the processes that map them and summed over these: what the kernel says is there."""
    copies, index = map(float, mpi_programs.run(HELD + MEMORY, 3)[0].split())
    assert 1.0 <= copies < 1.02
    assert 16.0 <= index < 17.5  # and what is left of the last pages of some arrays


LOST = """
whole = with_edges(random_block(40), 3.5, None)
group, window = held(whole)
import os, signal
if ranks.rank == 1:
    os.kill(os.getpid(), signal.SIGKILL)
time.sleep(1)
while True:
    window.take(np.arange(40))
"""


def test_a_rank_that_is_lost_ends_the_others() -> None:
    """None of them reads on from nowhere, nor waits for ever."""
    mpi_programs.run(HELD + LOST, 2, nodes="ab", code=9)
