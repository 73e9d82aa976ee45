"""The configuration files of the test cluster."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

ACCOUNT, PARTITION = "campaign", "batch"


@dataclass(frozen=True)
class Layout:
    """Where everything of one cluster is, and who it consists of.

    Attributes:
        root: Folder of the cluster; short, for sockets lie in it.
        names: Node names.
        ports: Free TCP ports: of slurmctld, of slurmdbd, then one for each node.
        cores: CPU cores that each node claims to have, more than the host may have.
    """

    root: Path
    names: tuple[str, ...]
    ports: tuple[int, ...]
    cores: int = 4

    @property
    def slurm_conf(self) -> Path:
        return self.root / "slurm.conf"

    @property
    def database_socket(self) -> Path:
        return self.root / "db.sock"

    @property
    def is_rewritten(self) -> bool:
        """Whether the configuration differs from the one that the cluster starts with."""
        return self.slurm_conf.read_text() != self._text({})

    def rewrite(self, values: Mapping[str, object]) -> None:
        """Write the configuration anew, with these values in place of its own."""
        self.slurm_conf.write_text(self._text(values))

    def write(self) -> None:
        """Write all files."""
        for name in (
            "state",
            "log",
            "db",
            *(f"nodes/{node}/bb" for node in self.names),
            *(f"spool/{node}" for node in self.names),
        ):
            (self.root / name).mkdir(parents=True)
        self.rewrite({})
        (self.root / "slurmdbd.conf").write_text(self._database())
        (self.root / "slurmdbd.conf").chmod(0o600)  # slurmdbd insists: a password may stand in it
        names = (*self.names, socket.gethostname(), "localhost")
        (self.root / "hosts").write_text("".join(f"127.0.0.1 {name}\n" for name in names))

    def _text(self, values: Mapping[str, object]) -> str:
        lines = (self._controller() + "".join(self._nodes())).splitlines()
        assert set(values) <= {line.partition("=")[0] for line in lines}, values
        named = ((line.partition("=")[0], line) for line in lines)
        return "".join(f"{name}={values[name]}\n" if name in values else f"{line}\n" for name, line in named)

    def _controller(self) -> str:
        root = self.root
        return f"""\
ClusterName=tests
SlurmctldHost={socket.gethostname()}(127.0.0.1)
SlurmctldPort={self.ports[0]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={root}/munge.sock
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool/%n
SlurmctldPidFile={root}/slurmctld.pid
SlurmdPidFile={root}/slurmd.%n.pid
SlurmctldLogFile={root}/log/slurmctld.log
SlurmdLogFile={root}/log/slurmd.%n.log
SwitchType=switch/none
MpiDefault=pmi2
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=2,bf_interval=3,batch_sched_delay=1
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={self.ports[1]}
AccountingStoragePass={root}/munge.sock
AccountingStorageEnforce=associations,limits,qos
EnforcePartLimits=ALL
ReturnToService=2
SlurmctldTimeout=30
SlurmdTimeout=20
KillWait=5
MinJobAge=10
InactiveLimit=0
MessageTimeout=10
TreeWidth=16
"""

    def _nodes(self) -> Iterator[str]:
        for name, port in zip(self.names, self.ports[2:], strict=True):
            yield (
                f"NodeName={name} NodeAddr=127.0.0.1 Port={port} Sockets=1 CoresPerSocket={self.cores} ThreadsPerCore=1 "
                f"RealMemory=4000 Feature=nvme State=UNKNOWN\n"
            )
        every = ",".join(self.names)
        yield f"PartitionName={PARTITION} Nodes={every} Default=YES MaxTime=120 OverSubscribe=EXCLUSIVE State=UP\n"
        yield f"PartitionName=extended Nodes={every} MaxNodes=2 MaxTime=240 OverSubscribe=EXCLUSIVE State=UP\n"

    def _database(self) -> str:
        return f"""\
AuthType=auth/munge
AuthInfo=socket={self.root}/munge.sock
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort={self.ports[1]}
SlurmUser=root
LogFile={self.root}/log/slurmdbd.log
PidFile={self.root}/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=root
StorageLoc=accounting
"""


def free_ports(count: int) -> tuple[int, ...]:
    """Return TCP ports that nobody listens on now."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return tuple(each.getsockname()[1] for each in sockets)
