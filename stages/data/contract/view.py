"""A prepared row as the checks see it, whatever its form: its prompt, its answers and every text in it."""

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from stages.data.findings import Located
from stages.data.processes import mapped

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from stages.data.contract.config import ContractConfig

FORMS = {  # form -> the fields that tell it; the first that fits is the row's
    "chat": ("messages",),
    "text": ("text",),
    "preference": ("prompt", "chosen", "rejected"),
    "votes": ("prompt", "a", "b", "votes"),
    "ranking": ("prompt", "answers"),
    "label": ("prompt", "completion", "label"),
    "prompt": ("prompt",),
}
READS = {  # stage -> forms that it trains on
    "sft": ("chat",),
    "domain": ("text",),
    "reward": ("preference", "ranking", "votes"),
    "dpo": ("preference", "ranking", "votes"),
    "kto": ("label", "preference"),
    "grpo": ("prompt", "label", "preference"),
    "rloo": ("prompt", "label", "preference"),
    "ppo": ("prompt", "label", "preference"),
}
WRITES = ("ppo", "grpo", "rloo")  # stages that are given prompts and write the answers themselves
CALLED = {
    "chat": "conversations",
    "text": "documents",
    "preference": "preference pairs",
    "votes": "votes on two answers",
    "ranking": "ranked answers",
    "label": "labelled answers",
    "prompt": "prompts",
}
ANSWERS = {"text": ("text",), "preference": ("chosen", "rejected"), "votes": ("a", "b"), "label": ("completion",)}
CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]+`", re.DOTALL)
WORD = re.compile(r"\w+")
PART = 250  # items that a process reads at once
ALONE = 8  # such parts that one process reads as fast as several


@dataclass(frozen=True, slots=True)
class Item:
    """One readable row. `prompt`: all before the last answer; `answers`: what the stage trains on or compares."""

    index: int
    located: Located
    form: str
    system: str
    prompt: str
    answers: tuple[str, ...]
    said: tuple[str, ...]  # every text of the row, in order

    @property
    def row(self) -> dict[str, Any]:
        return self.located.row

    @property
    def task(self) -> str:
        return str(self.row.get("task", ""))

    @property
    def answer(self) -> str:
        """The last answer of a conversation, the preferred one of several."""
        return (self.answers[-1] if self.form == "chat" else self.answers[0]) if self.answers else ""


@dataclass(frozen=True)
class Mark:
    """A row that shows a fault, by its place, with the piece of text that shows it."""

    index: int
    text: str


@dataclass(frozen=True)
class Found:
    """What a check found: the rows, and what to say about them."""

    marks: Sequence[Mark]
    message: str
    remedy: str
    of: int | None = None  # all rows if None
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Scope:
    """What is examined. `items` holds the rows that fit the stage; the others are findings of their own.

    What can be told of a row without looking at others is a Read: with many rows, all cores read at once.
    """

    rows: Sequence[Located]
    stage: str
    config: "ContractConfig"
    tokenizer: "PreTrainedTokenizerBase | None"
    max_length: int
    all_rows: int = 0  # of the data set, where not all of them are examined
    ahead: "dict[Read, list[Any]]" = field(default_factory=dict, repr=False, compare=False)  # until it is asked for

    @cached_property
    def problems(self) -> list[tuple[str, str] | None]:
        """(code, what is wrong) of each row, or None where it fits the stage."""
        from stages.data.contract import structure

        return [structure.problem(located.row, self.stage) for located in self.rows]

    @cached_property
    def items(self) -> list[Item]:
        fit = (i for i, problem in enumerate(self.problems) if not problem)
        return [item(i, self.rows[i]) for i in fit]

    def read_ahead(self, reads: "Iterable[Read]") -> None:
        """Read all items now, once for all of these."""
        asked = [read for read in reads if read not in self.ahead]
        parts = [self.items[i : i + PART] for i in range(0, len(self.items), PART)]
        columns: list[list[Any]] = [[] for _ in asked]
        for told in mapped(partial(_told, asked, replace(self, rows=(), ahead={})), parts, ALONE):
            for column, values in zip(columns, told, strict=True):
                column.extend(values)
        self.ahead.update(zip(asked, columns, strict=True))

    def each(self, read: "Read") -> list[Any]:
        """What `read` tells of each item; it is not held any longer."""
        if read not in self.ahead:
            self.read_ahead([read])
        return self.ahead.pop(read)

    @cached_property
    def trained(self) -> list[tuple[int, int]]:
        """(trained tokens, those left at `max_length`) of each item; empty where nothing is cut."""
        from stages.data.contract import tokens

        return self.each(tokens.trained) if tokens.cuts(self) else []

    @cached_property
    def tasks(self) -> dict[str, list[Item]]:
        """Items by task; those whose task has fewer rows than `config.group` are left out."""
        groups: dict[str, list[Item]] = {}
        for each in self.items:
            groups.setdefault(each.task, []).append(each)
        return {task: part for task, part in groups.items() if len(part) >= self.config.group}


Read = Callable[[Sequence[Item], Scope], list[Any]]  # items -> something of each; the scope has no rows


def always(scope: Scope) -> bool:
    return True


def _told(reads: Sequence[Read], scope: Scope, items: Sequence[Item]) -> list[list[Any]]:
    return [read(items, scope) for read in reads]


def form_of(row: Mapping[str, Any]) -> str | None:
    """The form whose fields the row has, or None."""
    return next((form for form, fields in FORMS.items() if all(name in row for name in fields)), None)


def item(index: int, located: Located) -> Item:
    """The row's texts by what they are; the row must have passed `structure.problem`."""
    row, form = located.row, form_of(located.row)
    turns = row["messages"] if form == "chat" else row.get("prompt", [])
    system = "\n".join(_text(turn) for turn in turns if turn["role"] == "system")
    answers = _answers(row, form, turns)
    asked = turns[: _last_answer(turns)] if form == "chat" else turns
    prompt = "\n".join(_text(turn) for turn in asked if turn["role"] != "system")
    said = tuple(text for text in map(_text, turns) if text)
    return Item(index, located, form, system, prompt, answers, said if form == "chat" else said + answers)


def _answers(row: Mapping[str, Any], form: str, turns: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    if form == "chat":
        return tuple(_text(turn) for turn in turns if turn["role"] == "assistant" and _text(turn))
    if form == "ranking":
        return tuple(row["answers"])
    return tuple(row[name] for name in ANSWERS.get(form, ()))


def _last_answer(turns: Sequence[Mapping[str, Any]]) -> int:
    return max(i for i, turn in enumerate(turns) if turn["role"] == "assistant")


def _text(turn: Mapping[str, Any]) -> str:
    return turn.get("content") or ""


def plain(text: str) -> str:
    """The text for comparison: one Unicode form, no case, single spaces, no punctuation at its ends."""
    folded = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    return folded.strip(" .!?,;:'\"")


def without_code(text: str) -> str:
    return CODE.sub(" ", text) if "`" in text else text


def share(part: int, of: int) -> str:
    """'3 of 120 (2.5 %)'."""
    return f"{part} of {of} ({100 * part / max(1, of):.1f} %)"


def pieces(items: Sequence[Item]) -> Iterator[tuple[Item, str]]:
    """Every text of every item."""
    for each in items:
        for text in each.said:
            yield each, text
