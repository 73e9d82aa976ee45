"""What `qsub` reads: its arguments and the directives of the script, before anything reaches the server."""

from __future__ import annotations

import getopt
import json
import os
import re
import shlex
from pathlib import Path
from typing import Any

PREFIX = "#PBS "
_VALUED, _FLAGS = "AeFjklNoqrvW", "hV"
_NAME = re.compile(r"[A-Za-z0-9_.+-]+")
_USAGE = "usage: qsub [-A account] [-e path] [-h] [-j oe] [-k d|o|e] [-l resource_list] [-N name] [-o path] [-q queue] ..."
_ENVIRONMENT = ("HOME", "LANG", "LOGNAME", "PATH", "MAIL", "SHELL", "TZ")


class Usage(Exception):  # noqa: N818 it is an answer, not a fault
    """The command is called wrongly.

    Attributes:
        code: Its exit code.
    """

    def __init__(self, words: str, code: int = 2) -> None:
        super().__init__(words)
        self.code = code


def read(arguments: list[str]) -> dict[str, Any]:
    """Return a submission; what stands on the command line goes before what the script says."""
    given, rest = options("qsub", arguments, _FLAGS, _VALUED)
    if len(rest) != 1:
        raise Usage(_USAGE)
    try:
        script = Path(rest[0]).read_text()
    except OSError as error:
        raise Usage(f"qsub: script file:: {error.strerror}", 1) from error
    written = [pair for line in directives(script) for pair in options("qsub", shlex.split(line), _FLAGS, _VALUED)[0]]
    fields: dict[str, Any] = {}
    resources: dict[str, str] = {}
    for letter, value in [*written, *given]:  # the later one counts
        _take(letter, value, fields, resources)
    named = {"name": Path(rest[0]).name, "workdir": str(Path.cwd()), "script": script, "arguments": " ".join(arguments)}
    variables = _variables(fields.pop("v", ""), bool(fields.pop("V", "")))
    return {**named, **fields, "resources": resources, "variables": variables}


def options(command: str, arguments: list[str], flags: str, valued: str) -> tuple[list[tuple[str, str]], list[str]]:
    """Return options by letter, and what follows them."""
    try:
        pairs, rest = getopt.gnu_getopt(arguments, flags + "".join(f"{letter}:" for letter in valued))
    except getopt.GetoptError as error:
        raise Usage(f"{command}: {error}\n{_USAGE if command == 'qsub' else f'usage: {command} ...'}") from error
    return [(name[1:], value) for name, value in pairs], rest


def directives(script: str) -> list[str]:
    """Return the directives of a script: all that stand before its first command."""
    found = []
    for line in script.splitlines():
        if line.startswith(PREFIX):
            found.append(line.removeprefix(PREFIX))
        elif line.strip() and not line.lstrip().startswith(("#", ":")):
            break
    return found


def _take(letter: str, value: str, fields: dict[str, Any], resources: dict[str, str]) -> None:
    if letter == "l":
        for part in value.split(","):
            name, sign, amount = part.partition("=")
            if not sign:
                raise Usage(f"qsub: illegal -l value\n{_USAGE}")
            resources[name] = amount
        return
    allowed = {"j": ("oe", "eo", "n"), "r": ("y", "n")}
    if (letter in allowed and value not in allowed[letter]) or (letter == "k" and not set(value) <= {"d", "o", "e", "n"}):
        raise Usage(f"qsub: illegal -{letter} value\n{_USAGE}")
    if letter == "N" and not (_NAME.fullmatch(value) and len(value) <= _name_limit()):
        raise Usage(f"qsub: illegal -N value\n{_USAGE}")
    if letter == "W" and not re.fullmatch(r"depend=after(any|ok):[\w.:-]+", value):
        raise Usage(f"qsub: illegal -W value\n{_USAGE}")
    names = {"A": "account", "e": "error", "h": "hold", "j": "join", "k": "keep", "N": "name", "o": "output", "q": "queue",
             "r": "rerunable", "W": "depend"}  # fmt: skip
    fields[names.get(letter, letter)] = value or "yes"


def _name_limit() -> int:
    return int(json.loads((Path(os.environ["PBS_CONF_FILE"]).parent / "settings.json").read_text())["name_limit"])


def _variables(asked: str, everything: bool) -> dict[str, str]:
    """Return the job's variables: where it comes from, and those that `-v` and `-V` name."""
    found = {f"PBS_O_{name}": os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    found |= {"PBS_O_INTERACTIVE_AUTH_METHOD": "resvport", "PBS_O_INTERACTIVE_ENCRYPT_METHOD": ""}
    found |= dict(os.environ) if everything else {}
    for part in filter(None, asked.split(",")):
        name, sign, value = part.partition("=")
        if not sign and name not in os.environ:
            raise Usage("qsub: cannot send environment with the job", 1)
        found[name] = value if sign else os.environ[name]
    return {**found, "PBS_O_WORKDIR": str(Path.cwd()), "PBS_O_SYSTEM": "Linux"}
