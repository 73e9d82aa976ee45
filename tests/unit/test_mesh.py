"""Where the store listens by which ranks on several machines find each other."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
import torch.distributed as dist

from model.mesh import served


def own_address() -> str:
    """Return this machine's address on its network, or skip; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # RFC 5737: an example's
        except OSError:
            pytest.skip("this machine has no network but its loopback")
        return str(probe.getsockname()[0])


def listening(port: int) -> set[str]:
    """Return the addresses at which somebody listens on a port, as /proc writes them."""
    rows = [line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]]
    places = [row[1].split(":") for row in rows if row[3] == "0A"]
    return {address for address, number in places if int(number, 16) == port}


def meets(store: dist.TCPStore, host: str) -> None:
    """Require that another rank finds what this one has put there."""
    store.set("a", "b")
    assert dist.TCPStore(host, store.port, 2, is_master=False).get("a") == b"b"


def test_it_listens_at_the_address_of_its_name_alone() -> None:
    address = own_address()
    store = served(address, 2)
    assert listening(store.port) == {socket.inet_aton(address)[::-1].hex().upper()}
    meets(store, address)
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", store.port), timeout=5)


def test_a_name_that_leads_to_the_loopback_does_not_keep_others_out() -> None:
    store = served("localhost", 2)
    assert listening(store.port) & {"0" * 8, "0" * 32}
    meets(store, "localhost")
