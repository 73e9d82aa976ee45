"""The batch script of an attempt: take the fence, set the environment, become the agent."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import workflow
from workflow.errors import SiteError
from workflow.rundir import AttemptDir
from workflow.site import Site

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_CANNOT_CREATE = 73  # EX_CANTCREAT of sysexits.h; `workflow/batch/causes.py` knows it


def script_text(site: Site, attempt: AttemptDir, token: str, *, directives: tuple[str, ...] = ()) -> str:
    """Return the text of a batch script.

    Its first act makes the attempt's run folder: whoever makes it runs, everybody else ends at once. It ends
    by becoming the agent, so that the agent's death is the job's end. Variables with braces are the agent's to set: they
    name the job or its node-local folder.

    Args:
        site: The site; its `setup` lines are shell text by design, everything else is quoted.
        attempt: The attempt's folder.
        token: The attempt's token.
        directives: Lines for the batch system, as its own module writes them.

    Raises:
        SiteError: A name in `environment` is none that a shell takes; a directive would take more than its line.
    """
    root = shlex.quote(str(attempt.root))
    agent = [sys.executable, "-m", "workflow.allocation.agent", str(attempt.root)]
    lines = [
        *(_line(site, text) for text in (f"#!{site.shell}", *directives)),
        f"# token {token}",
        "umask 077",
        f"cd {root} || exit {_CANNOT_CREATE}",
        f"mkdir -m 700 run || {{ [ -d run ] && exit 0; exit {_CANNOT_CREATE}; }}  # the fence",
        *site.setup,
        *(f"export {_name(site, name)}={shlex.quote(value)}" for name, value in site.environment.items() if "{" not in value),
        f"PYTHONPATH={shlex.quote(_package_root())}${{PYTHONPATH:+:$PYTHONPATH}}; export PYTHONPATH",
        f"exec {shlex.join(agent)}",
    ]
    return "\n".join(lines) + "\n"


def _line(site: Site, text: str) -> str:
    if len(text.splitlines()) > 1:
        what = f"a line break in {text!r}"
        raise SiteError(what, f"sites/{site.name}.yaml", "Take it out of account, shell, options or folder.")
    return text


def _package_root() -> str:
    return str(Path(workflow.__file__).resolve().parent.parent)


def _name(site: Site, name: str) -> str:
    if not _NAME.fullmatch(name):
        raise SiteError(
            f"'{name}' is no name of an environment variable",
            f"sites/{site.name}.yaml: environment",
            "Use letters, digits and _.",
        )
    return name
