"""What the exports of annotation platforms share: which of a task's texts is the prompt and which are the answers."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from stages.data.readers.errors import RowError

ASKED = ("prompt", "instruction", "question", "query", "input", "context")
ANSWER = re.compile(r"(?:response|completion|answer|output|generation|text|option|candidate)[-_ ]?(?:\d+|[ab])")
ONLY = ("response", "completion", "answer", "output", "generation")


def asked(fields: Mapping[str, Any], where: str) -> Any:
    """The prompt, as text or as turns. RowError when there is none."""
    name = next((name for name in ASKED if fields.get(name)), None)
    if name is None:
        raise RowError(f"has no prompt in '{where}' (there is: {', '.join(fields)}); call it one of {', '.join(ASKED)}")
    return fields[name]


def answers(fields: Mapping[str, Any]) -> dict[str, str]:
    """Field -> text of the answers to compare, in the order of their names."""
    found = {name: value for name, value in fields.items() if ANSWER.fullmatch(name.lower())}
    return dict(sorted((name, value) for name, value in found.items() if isinstance(value, str)))


def mean_order(orders: Sequence[Sequence[str]]) -> list[str]:
    """The names by their mean place over all orders, equal ones as the first order has them.

    RowError when the orders do not hold the same names.
    """
    if any(sorted(order) != sorted(orders[0]) or len(set(order)) < len(order) for order in orders):
        raise RowError("its rankings do not order the same answers")
    return sorted(orders[0], key=lambda name: (sum(order.index(name) for order in orders), orders[0].index(name)))


def in_order(order: Sequence[str], texts: Mapping[str, str]) -> list[str]:
    """The texts in this order. RowError for a name without text."""
    missing = [name for name in order if not isinstance(texts.get(name), str)]
    if missing:
        raise RowError(f"ranks '{missing[0]}', of which there is no text")
    return [texts[name] for name in order]
