"""Patterns that are tried only on texts with letters that each of their matches has: most texts have none.

The letters are read off the pattern itself. To look for a few words costs a fraction of trying a long pattern at every
place of a text.
"""

import re
from collections.abc import Iterable
from re import _constants as op  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any


class Sought:
    """Patterns, each with the letters of which its matches have some. They care for case, and set no flags inside."""

    def __init__(self, patterns: Iterable[str], flags: int = 0) -> None:
        self.patterns = [(needed(pattern), re.compile(pattern, flags)) for pattern in patterns]

    def found(self, text: str) -> bool:
        """Whether any of them matches somewhere in the text."""
        for letters, pattern in self.patterns:
            for each in letters:
                if each in text:
                    break
            else:  # plain loops: most of the time goes by here
                if letters:
                    continue
            if pattern.search(text):
                return True
        return False


def needed(pattern: str) -> tuple[str, ...]:
    """Letters of which every match has some; none where that cannot be said."""
    return tuple(sorted(_of_all(parser.parse(pattern)) or (), key=len))


def _of_all(parts: Iterable[tuple[Any, Any]]) -> frozenset[str] | None:
    """Of things one after the other: the letters of one of them, the longest."""
    options: list[frozenset[str]] = []
    run = ""
    for name, value in [*parts, (None, None)]:
        if name is op.LITERAL:
            run += chr(value)
            continue
        options += [frozenset([run])] if run else []
        run = ""
        of_part = _of_one(name, value)
        options += [of_part] if of_part else []
    return max(options, key=lambda each: (min(map(len, each)), -len(each)), default=None)


def _of_one(name: Any, value: Any) -> frozenset[str] | None:
    if name is op.SUBPATTERN:
        return _of_all(value[3])
    if name in (op.MAX_REPEAT, op.MIN_REPEAT):
        return _of_all(value[2]) if value[0] else None
    if name is op.BRANCH:
        branches = [_of_all(branch) for branch in value[1]]
        return frozenset().union(*(each for each in branches if each)) if all(branches) else None
    return None
