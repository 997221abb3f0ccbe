"""What a prepared row of any form says, in pieces that can be compared with those of other rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from stages.data.contract.view import plain
from stages.data.ngrams import encode

ANSWERS = ("chosen", "rejected", "completion", "a", "b")


class Text(NamedTuple):
    """A text for comparison: equal keys are equal but for case, spaces and final punctuation; one code a word."""

    key: str
    codes: np.ndarray


@dataclass(frozen=True)
class Said:
    """A row's texts, without its system turn."""

    turns: tuple[Text, ...]  # before the answers; of a document its text
    answers: tuple[Text, ...]

    @cached_property
    def asked(self) -> Text:
        return _joined(self.turns)

    @cached_property
    def wholes(self) -> list[Text]:
        """The prompt with each of the answers, or all there is."""
        return [_joined((*self.turns, answer)) for answer in self.answers] or [self.asked]

    @cached_property
    def exchanges(self) -> list[Text]:
        """Of a conversation of several: every turn with the next one."""
        turns = (*self.turns, *self.answers[:1])
        return [_joined(pair) for pair in pairwise(turns)] if len(self.turns) > 1 else []

    @cached_property
    def views(self) -> list[Text]:
        """What it is compared by: the prompt with and without answer, and each turn; without repetition."""
        return list({text.key: text for text in (*self.wholes, self.asked, *self.turns)}.values())


def said(row: Mapping[str, Any]) -> Said:
    """The row's texts, ready for comparison."""
    turns, answers = texts(row)
    return Said(tuple(map(_text, turns)), tuple(map(_text, answers)))


def texts(row: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """What a row asks, turn by turn, and what it answers: the last turn, each of several, or the right one."""
    if "text" in row:
        return [row["text"]], []
    turns = [turn.get("content") or "" for turn in row.get("messages") or row["prompt"] if turn["role"] != "system"]
    if "messages" in row:
        return turns[:-1], turns[-1:]
    answers = [row[name] for name in ANSWERS if isinstance(row.get(name), str)]
    return turns, answers or list(row.get("answers", ())) or _expected(row)


def _expected(row: Mapping[str, Any]) -> list[str]:
    """The right answer of what is only measured, where it has one."""
    if "choices" in row:
        return [row["choices"][row["answer"]]]
    return [str(row["check"]["answer"])] if "answer" in row.get("check", ()) else []


def _text(text: str) -> Text:
    key = plain(text)
    return Text(key, encode(key))


def _joined(parts: Sequence[Text]) -> Text:
    if len(parts) == 1:
        return parts[0]
    return Text(" ".join(part.key for part in parts), np.concatenate([part.codes for part in parts]))
