"""Read the YAML that people write: plain data only, bounded, with errors that name the file and line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from ..errors import ZeroshotError

MAX_BYTES = 4_000_000
"""A larger file is no list of labels or templates; the limit also bounds what parsing may cost."""

SUFFIXES = (".yaml", ".yml", ".json")
"""Endings of the files that are read as YAML; JSON is YAML too."""


class _PlainLoader(yaml.BaseLoader):
    """Plain data as it is written, `no`, `1e3` and dates included, without anchors.

    A few hundred bytes of nested aliases unfold to gigabytes (billion laughs). A key that stands twice in a mapping is
    refused too: the first would be lost without a word. So are tags, which the base loader would ignore.
    """

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        start: Any = event.start_mark  # the stubs of some versions name two kinds of it
        if isinstance(event, yaml.events.AliasEvent):
            raise yaml.constructor.ConstructorError(None, None, "anchors and aliases (&, *) are not read here", start)
        if getattr(event, "tag", None) is not None:
            raise yaml.constructor.ConstructorError(None, None, f"the tag {event.tag!r} is not read here", start)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} is given twice", key.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def read_text(path: Path, error: type[ZeroshotError], max_bytes: int = MAX_BYTES) -> str:
    """Read a UTF-8 text file of bounded size (a byte order mark is dropped).

    Raises:
        error: It cannot be read, is too large, or is not UTF-8.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(max_bytes + 1)
    except OSError as problem:
        raise error(f"cannot read {path}: {problem.strerror}", "check the path") from problem
    if len(raw) > max_bytes:
        raise error(f"{path} is over {max_bytes // 1_000_000} MB", "is it the right file?")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        raise error(f"{path} is not UTF-8 text (byte {problem.start})", "save it as UTF-8") from problem


def parse_yaml(text: str, name: str, error: type[ZeroshotError]) -> Any:
    """Parse one YAML document to dicts, lists and strings.

    Raises:
        error: It is malformed; the message names file, line and column.
    """
    try:
        return yaml.load(text, Loader=_PlainLoader)
    except yaml.YAMLError as problem:
        mark = getattr(problem, "problem_mark", None)
        where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        what = getattr(problem, "problem", None) or str(problem)
        raise error(f"{name}{where}: {' '.join(str(what).split())}", "fix the YAML there") from problem
    except (RecursionError, ValueError) as problem:
        raise error(f"{name}: nested too deeply or malformed", "fix the YAML") from problem
