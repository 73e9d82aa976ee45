"""Random batches out of a window that MPI ranks share: `mpiexec -n 2 python -m bench.window STORE [apart]`.

Started by `bench.data`. Prints structures per CPU-second and rank as JSON; a thread that answers others is in the time.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

from model import parallel

RANKS = parallel.discover()  # before torch is imported

import torch  # noqa: E402

from bench import data, timing  # noqa: E402
from model.allocator import keep_freed_memory  # noqa: E402
from model.data.groups import join  # noqa: E402
from model.data.sampling import Sampler  # noqa: E402
from model.data.window import Window  # noqa: E402


def main() -> None:
    """Hold the store together, check that all of it is there, then take batches of 64 a rank."""
    torch.set_num_threads(1)
    keep_freed_memory()  # in every arm, as `python -m model` does
    store, apart = Path(sys.argv[1]), sys.argv[2:] == ["apart"]
    ranks = replace(RANKS, hosts=tuple(str(rank) if apart else "node" for rank in range(RANKS.size)))
    group = join(ranks, range(ranks.size))
    window = data.held(store, group)
    sampler = Sampler({0: len(window)}, data.BATCH * ranks.size, seed=0)
    orders = [[sampler.batch(epoch, k)[0][ranks.rank :: ranks.size] for k in range(sampler.steps_per_epoch)] for epoch in (0, 1)]
    spent = []
    for order in orders:
        ranks.barrier()
        began = timing.cpu_s()
        taken = drain(window, order)
        spent.append(timing.cpu_s() - began)
        ranks.barrier()  # in MPI meanwhile, as DDStore's fences are: what it answers then is not counted
    rates = ranks.gather(taken / min(spent))
    if rates is not None:
        sys.stdout.write(json.dumps(sum(rates) / len(rates)) + "\n")
    window.close()
    group.close()


def drain(window: Window, order: data.Order) -> int:
    """Take all batches, collated without neighbour lists; return how many structures they had."""
    return sum(len(batch["energy"]) for batch in data.collated(window, order))


if __name__ == "__main__":
    main()
