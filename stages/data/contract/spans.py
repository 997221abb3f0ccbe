"""Stretches of a text in which a check has found something: to show them, to hide them, to mark their rows."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stages.data.contract.view import CODE, Item

MARGIN = 50  # letters shown on either side
LABELS = ("id", "cluster", "task", "tags", "slices", "baselines", "origin", "votes")  # fields that are no text


@dataclass(frozen=True)
class Span:
    """text[start:end] is of this kind."""

    kind: str
    start: int
    end: int


Find = Callable[[str], Sequence[Span]]  # in order of place, none over another
Hit = tuple[str, list[Span]]  # the first text of a row in which something is found, and all that is found in the row


def disjoint(spans: Iterable[Span]) -> list[Span]:
    """In order of place; of two that overlap the one that was given first."""
    kept: list[Span] = []
    for span in spans:
        if all(span.end <= other.start or other.end <= span.start for other in kept):
            kept.append(span)
    return sorted(kept, key=lambda span: span.start)


def placeholder(kind: str) -> str:
    """'[EMAIL]'."""
    return f"[{kind.upper()}]"


def masked(text: str, spans: Sequence[Span]) -> str:
    """The text with a placeholder for each span."""
    parts, end = [], 0
    for span in spans:
        parts += [text[end : span.start], placeholder(span.kind)]
        end = span.end
    return "".join(parts) + text[end:]


def shown(text: str, span: Span) -> str:
    """The span with what stands around it."""
    return text[max(0, span.start - MARGIN) : span.end + MARGIN]


def hidden(text: str, spans: Sequence[Span]) -> str:
    """What stands around the first span, with placeholders for what must not be copied into a report."""
    before = spans[0].start - MARGIN
    whole = masked(text, spans)
    return whole[max(0, before) : spans[0].start + len(placeholder(spans[0].kind)) + MARGIN]


def blanked(text: str) -> str:
    """The text with spaces for all code, so that places stay what they are."""
    return CODE.sub(lambda code: " " * len(code.group()), text) if "`" in text else text


def strings(content: Any) -> Iterator[str]:
    """Every text of a row, also in calls of tools; not its labels, names and roles."""
    if isinstance(content, str):
        yield content
    elif isinstance(content, Mapping):
        for name, value in content.items():
            if name not in LABELS and name not in ("role", "type"):
                yield from strings(value)
    elif isinstance(content, Sequence):
        for value in content:
            yield from strings(value)


def requests(item: Item) -> str:
    """What the user says in the row, without answers and the system's words."""
    turns = item.row.get("messages") or item.row.get("prompt") or []
    return "\n".join(turn["content"] for turn in turns if turn["role"] == "user")


def hits(items: Iterable[Item], find: Find) -> list[Hit | None]:
    """What is found in each item, or None."""
    return [_hit(strings(item.row), find) for item in items]


def _hit(texts: Iterable[str], find: Find) -> Hit | None:
    found = [(text, spans) for text in texts if (spans := find(text))]
    return (found[0][0], [span for _, spans in found for span in spans]) if found else None


def told(items: Sequence[Item], hits: Sequence[Hit | None]) -> dict[int, Hit]:
    """Row -> what was found in it."""
    return {item.index: hit for item, hit in zip(items, hits, strict=True) if hit}


def first(texts: Iterable[str], find: Callable[[str], Span | None]) -> str | None:
    """The place that shows the first thing that is found in a text."""
    return next((shown(text, span) for text in texts if (span := find(text))), None)
