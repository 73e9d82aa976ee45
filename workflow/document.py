"""A YAML file together with the line on which every key stands, so that a fault can be pointed at."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from workflow.errors import CampaignError, ConfigError

Key = tuple[str, ...]
_MOST_NODES, _MOST_DIGITS = 100_000, 1000
_PLAIN = tuple(f"tag:yaml.org,2002:{name}" for name in ("null", "bool", "int", "float"))


@dataclass(frozen=True)
class Document:
    """A mapping read out of a YAML file.

    Attributes:
        path: The file.
        fields: Its content.
        lines: Line number, from 1, of every key, by its way from the top.
        faults: Keys written twice; YAML itself would silently take the last.
    """

    path: Path
    fields: dict[str, Any]
    lines: dict[Key, int]
    faults: tuple[ConfigError, ...] = ()

    def where(self, key: Key) -> str:
        """Return `file:line: dotted.key`; a key that is missing is shown at the line of what should hold it."""
        line = next((self.lines[key[:end]] for end in range(len(key), 0, -1) if key[:end] in self.lines), None)
        head = str(self.path) if line is None else f"{self.path}:{line}"
        return f"{head}: {'.'.join(key)}" if key else head

    def fault(self, what: str, key: Key, remedy: str) -> ConfigError:
        """Return an error that points at a key of this file."""
        return ConfigError(what, self.where(key), remedy)


class _Loader(yaml.SafeLoader):
    """Plain scalars as in YAML 1.2: PyYAML's 1.1 reads `on` as true, 06:00 as 360 and 1e-3 as text. Keys are text."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Take keys as they are written: `1` is a name as good as `one`, and `01` another."""
        if isinstance(node, yaml.MappingNode):
            self.flatten_mapping(node)
            node.value = [(_as_text(key), value) for key, value in node.value]
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9][0-9_]*", list("-+0123456789")),
    (
        "float",
        r"[-+]?(?:\.[0-9]+|[0-9][0-9_]*(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
    ("merge", r"<<", ["<"]),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), _first)


def _whole_number(_: yaml.SafeLoader, node: yaml.Node) -> int:
    if len(node.value) > _MOST_DIGITS:
        raise yaml.constructor.ConstructorError(None, None, f"a number of {len(node.value)} digits", node.start_mark)
    return int(node.value.replace("_", ""))


_Loader.add_constructor("tag:yaml.org,2002:int", _whole_number)


def _as_text(key: yaml.Node) -> yaml.Node:
    if key.tag not in _PLAIN:
        return key
    return yaml.ScalarNode("tag:yaml.org,2002:str", key.value, key.start_mark, key.end_mark)


def read_document(path: Path, missing: str, *, may_be_empty: bool = False) -> Document:
    """Read a YAML mapping.

    Args:
        path: The file.
        missing: What to do when it is not there.
        may_be_empty: Take a file of nothing, or of comments only, as an empty mapping.

    Raises:
        ConfigError: No such file, no YAML, or no mapping.
    """
    try:
        loader = _Loader(path.read_text())
        node = loader.get_single_node()
        if _size(node, {}) > _MOST_NODES:
            raise ConfigError("aliases repeat one another beyond measure", str(path), "Write out what they stand for.")
        lines, faults = _walk(path, node)
        fields = loader.construct_document(node) if node is not None else None
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ConfigError("no such file", str(path), missing) from error
    except IsADirectoryError as error:
        raise ConfigError("that is a folder, not a file", str(path), missing) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise _not_yaml(path, error) from error
    except RecursionError as error:
        raise ConfigError("nested too deeply", str(path), "Close the brackets; no key here needs ten levels.") from error
    if node is None and may_be_empty:
        return Document(path, {}, lines, faults)
    if node is None:
        raise ConfigError("the file is empty", str(path), "Write keys and values: `name: …`, `stages: …`.")
    if not isinstance(fields, dict):
        raise ConfigError("not a mapping", str(path), "Write keys and values: `name: …`, `stages: …`.")
    return Document(path, fields, lines, faults)


def _size(node: yaml.Node | None, known: dict[int, int]) -> int:
    """Count the values that stand below a node when every alias is written out; one inside itself counts once."""
    if id(node) not in known:
        known[id(node)] = 1
        if isinstance(node, yaml.MappingNode):
            known[id(node)] += sum(_size(part, known) for pair in node.value for part in pair)
        elif isinstance(node, yaml.SequenceNode):
            known[id(node)] += sum(_size(part, known) for part in node.value)
    return known[id(node)]


def _not_yaml(path: Path, error: Exception) -> CampaignError:
    mark = getattr(error, "problem_mark", None)
    where = str(path) if mark is None else f"{path}:{mark.line + 1}"
    problem = getattr(error, "problem", None) or str(error)
    tab = "\\t" in problem
    remedy = "Mend this line or the one before: indentation, colon, quotes, brackets."
    remedy = "Indent with spaces; YAML allows no tabs." if tab else remedy
    return ConfigError(f"not valid YAML: {problem}", where, remedy)


def _walk(path: Path, top: yaml.Node | None) -> tuple[dict[Key, int], tuple[ConfigError, ...]]:
    lines: dict[Key, int] = {}
    faults: list[ConfigError] = []
    seen: set[int] = set()  # an alias gives a node a second place, or one inside itself
    queue: list[tuple[Key, yaml.Node | None]] = [((), top)]
    while queue:
        way, node = queue.pop(0)
        if id(node) in seen:
            continue
        seen.add(id(node))
        for name, line, value in _entries(node):
            key = (*way, name)
            if key in lines and isinstance(node, yaml.MappingNode):
                where = f"{path}:{line}: {'.'.join(key)}"
                faults.append(ConfigError(f"written twice, first on line {lines[key]}", where, "Keep one of the two."))
                continue
            lines[key] = line
            queue.append((key, value))
    return lines, tuple(faults)


def _entries(node: yaml.Node | None) -> list[tuple[str, int, yaml.Node]]:
    if isinstance(node, yaml.MappingNode):
        return [(str(key.value), key.start_mark.line + 1, value) for key, value in node.value]
    if isinstance(node, yaml.SequenceNode):
        return [(str(index), each.start_mark.line + 1, each) for index, each in enumerate(node.value)]
    return []
