"""Jobs out of the JSON of a PBS server, older releases of which write texts of users as they are: quotes, backslashes, lines."""

from __future__ import annotations

import json
import re
from typing import Any

# They end at a brace below their own name with the job's next key or its end behind it: exported shell functions have
# lines of a brace alone.
_VARIABLES = re.compile(
    r'^([\t ]+)"Variable_List":\s*\{(.*?)\n\1\}(?=,\n\1"\w+":|\n[\t ]*\}(?:,\n[\t ]*"\d|\s*\}))', re.DOTALL | re.MULTILINE
)
_WORKDIR = re.compile(r'"PBS_O_WORKDIR":\s*"((?:[^"\\]|\\.)*)"')
_BEGIN = re.compile(r'"Jobs":\s*\{[\t ]*\n')
_HEAD = re.compile(r'^([\t ]+)"(\d+(?:\[\d*\])?(?:\.[\w.-]+)?)":\s*(?=\{)', re.MULTILINE)
_END = re.compile(r"\n[\t ]*\}\s*\}\s*\Z")
_ARGUMENTS = re.compile(
    r'^([\t ]+)"(Submit_arguments|executable|argument_list)":\s*"(.*?)"(?=,\n\1"\w+":|\n[\t ]*\}\Z)', re.DOTALL | re.MULTILINE
)
_OWNER = re.compile(r'^[\t ]+"Job_Owner":\s*"([^"@]*)', re.MULTILINE)


def jobs_of(text: str) -> dict[str, dict[str, Any] | str] | None:
    """Return jobs by id, one that cannot be read as its text; None where the whole cannot be read."""
    plainer = _VARIABLES.sub(_folder_alone, text)
    for attempt in (text, plainer):
        try:
            answer = json.loads(attempt, strict=False)
        except ValueError:
            continue
        jobs = answer.get("Jobs", {}) if isinstance(answer, dict) else None  # absent when there is nothing to list
        return jobs if isinstance(jobs, dict) and all(isinstance(job, dict) for job in jobs.values()) else None
    return _one_by_one(plainer)


def may_be_of(text: str, owner: str) -> bool:
    """Say whether a job that cannot be read may be this user's: nothing may follow from that it was not seen."""
    owners = _OWNER.findall(text)
    return owner in owners or not owners


def _one_by_one(text: str) -> dict[str, dict[str, Any] | str] | None:
    """Read each job for itself, so that one with broken text costs none but itself.

    Ids stand on lines of their own, one as deep as the other, and nothing of a broken text moves them. The list must be there
    from its beginning to its end, for else jobs may be missing; so must no id come twice, which a text may hold that looks like
    one. What stands behind a job, such as an id of a form that is not known here, makes it unreadable, and is not left out.
    """
    begin, end = _BEGIN.search(text), _END.search(text)
    heads = list(_HEAD.finditer(text, begin.end())) if begin and end else []
    heads = [head for head in heads if head[1] == heads[0][1]]
    if not begin or not end or not heads or heads[0].start() != begin.end() or len({head[2] for head in heads}) < len(heads):
        return None
    ends = [*(head.start() for head in heads[1:]), end.start()]
    pieces = [text[head.end() : stop].strip() for head, stop in zip(heads, ends, strict=True)]
    return {head[2]: _read(piece.removesuffix(",")) for head, piece in zip(heads, pieces, strict=True)}


def _read(piece: str) -> dict[str, Any] | str:
    for attempt in (piece, _ARGUMENTS.sub(r'\1"\2": ""', piece)):
        try:
            job = json.loads(attempt, strict=False)
        except ValueError:
            continue
        return job if isinstance(job, dict) else piece
    return piece


def _folder_alone(found: re.Match[str]) -> str:
    folder = _WORKDIR.search(found[2])
    return f'{found[1]}"Variable_List": {{"PBS_O_WORKDIR": "{folder[1] if folder else ""}"}}'
