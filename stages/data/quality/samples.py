"""Rows as the trainer will see them: token by token through the model's own template, and how long they are."""

import random
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from typing import TYPE_CHECKING, Any, NamedTuple

from stages.data.contract.structure import problem
from stages.data.contract.view import WRITES, form_of
from stages.data.findings import Located
from stages.models.chat import IGNORE, Example, answer_ids, chat_example, prompt_ids, text_example

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MEASURED = 20_000  # rows whose lengths are measured at most, spread evenly
DOCUMENT, SEQUENCE = "tokens per document", "tokens per sequence"  # what max_length is compared with


class Piece(NamedTuple):
    """A run of tokens as text. `special`: tokens with a name of their own, such as <|im_end|>."""

    text: str
    trained: bool
    special: bool = False


@dataclass(frozen=True)
class Rendered:
    """One sequence that the model is given; a row may give several, which `name` tells apart."""

    pieces: tuple[Piece, ...]
    tokens: int
    trained: int
    name: str = ""
    left_out: int = 0  # tokens behind max_length


@dataclass(frozen=True)
class Sample:
    """A row by its place, with its sequences and what the stage does with it beyond them."""

    file: str
    line: int
    rendered: tuple[Rendered, ...]
    note: str = ""


def sample(
    rows: Sequence[Located],
    stage: str,
    tokenizer: "PreTrainedTokenizerBase",
    max_length: int,
    seed: int,
    count: int = 10,
) -> list[Sample]:
    """`count` rows drawn at random, in the order of the data; rows that the stage cannot read are passed over.

    DataError for a chat template that cannot be trained on, as the stage itself raises it.
    """
    order = list(range(len(rows)))
    random.Random(seed).shuffle(order)
    readable = (i for i in order if not problem(rows[i].row, stage))
    drawn = (rows[i] for i in sorted(islice(readable, count)))
    return [_sample(located, stage, tokenizer, max_length) for located in drawn]


def _sample(located: Located, stage: str, tokenizer: "PreTrainedTokenizerBase", max_length: int) -> Sample:
    row = located.row
    whole = sequences(row, stage, tokenizer)
    if "messages" in row:
        seen = {"": chat_example(tokenizer, row["messages"], max_length)}
    elif "text" in row:
        seen = dict(zip(whole, text_example(tokenizer, row["text"], max_length), strict=False))
    else:
        seen = whole  # an answer is compared whole or not at all
    rendered = tuple(_rendered(tokenizer, name, example, len(whole[name].ids)) for name, example in seen.items())
    return Sample(located.file, located.line, rendered, _note(stage, whole, seen, max_length))


def sequences(row: Mapping[str, Any], stage: str, tokenizer: "PreTrainedTokenizerBase") -> dict[str, Example]:
    """Name -> tokens of each sequence that the row gives, of whatever length."""
    if "messages" in row:
        return {"": chat_example(tokenizer, row["messages"], sys.maxsize)}
    if "text" in row:
        return dict(zip([""], text_example(tokenizer, row["text"], sys.maxsize), strict=False))
    prompt = prompt_ids(tokenizer, row["prompt"])
    answers = {} if stage in WRITES else _answers(row)
    if not answers:  # the model writes the answer itself
        return {"": Example(prompt, [IGNORE] * len(prompt))}
    ids = {name: answer_ids(tokenizer, text) for name, text in answers.items()}
    return {name: Example(prompt + ids[name], [IGNORE] * len(prompt) + ids[name]) for name in answers}


def _answers(row: Mapping[str, Any]) -> dict[str, str]:
    """Name -> answer to the row's prompt."""
    if form_of(row) == "ranking":
        return {f"answer {place}": answer for place, answer in enumerate(row["answers"], 1)}
    return {name: row[name] for name in ("chosen", "rejected", "a", "b", "completion") if name in row}


def _rendered(tokenizer: "PreTrainedTokenizerBase", name: str, example: Example, whole: int) -> Rendered:
    left_out = whole - len(example.ids) if example.cut else 0
    return Rendered(tuple(_pieces(tokenizer, example)), len(example.ids), example.trained, name, left_out)


def _pieces(tokenizer: "PreTrainedTokenizerBase", example: Example) -> Iterator[Piece]:
    """Runs of tokens of one kind.

    The text of a run is what it adds to the text before it: only so does a tokenizer keep its spaces, and a character
    whose bytes lie in two runs stays whole. It stands in the second one.
    """
    named = {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    special = named.union(tokenizer.all_special_ids)
    kinds = [(label != IGNORE, token in special) for token, label in zip(example.ids, example.labels, strict=True)]
    everything, end, done = _decoded(tokenizer, example.ids), 0, 0
    for (trained, marked), run in groupby(kinds):
        end += len(list(run))
        text = _decoded(tokenizer, example.ids[:end])
        while not everything.startswith(text):  # its last character is not complete
            text = text[:-1]
        if text[done:]:
            yield Piece(text[done:], trained, marked)
        done = len(text)


def _decoded(tokenizer: "PreTrainedTokenizerBase", ids: list[int]) -> str:
    return str(tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))


def _note(stage: str, whole: Mapping[str, Example], seen: Mapping[str, Example], max_length: int) -> str:
    longest = max((len(example.ids) for example in whole.values()), default=0)
    if stage == "domain" and longest > max_length:
        return f"The document has {longest} tokens and goes on in further pieces of up to {max_length}."
    if stage == "sft" and not any(example.trained for example in seen.values()):
        return "No trained token is left of it: the stage leaves the row out."
    if stage in WRITES:
        return "Nothing of it is trained on: the model writes the answer itself."
    if stage in ("dpo", "kto") and longest > max_length:
        return f"One of its answers ends at token {longest}, behind max_length ({max_length}): the stage leaves it out."
    return ""


def lengths(rows: Sequence[Located], stage: str, tokenizer: "PreTrainedTokenizerBase") -> dict[str, list[int]]:
    """'tokens per prompt' and the like -> numbers, before anything is cut; of at most MEASURED rows."""
    found: dict[str, list[int]] = {}
    every = -(-len(rows) // MEASURED) or 1
    for located in rows[::every]:
        if not problem(located.row, stage):
            for name, number in _lengths(located.row, sequences(located.row, stage, tokenizer)):
                found.setdefault(name, []).append(number)
    return found


def _lengths(row: Mapping[str, Any], given: Mapping[str, Example]) -> Iterator[tuple[str, int]]:
    if "messages" in row:
        yield "turns per conversation", len(row["messages"])
    for place, (name, example) in enumerate(given.items()):
        yield DOCUMENT if "text" in row else SEQUENCE, len(example.ids)
        runs = groupby(label != IGNORE for label in example.labels)
        for trained, run in () if "text" in row else runs:
            if trained or not place:  # the answers of a row share their prompt
                yield f"tokens per {_called(name) if trained else 'prompt'}", len(list(run))


def _called(name: str) -> str:
    """What a trained run is called: the answer, or which one of several."""
    names = {"": "answer", "chosen": "chosen answer", "rejected": "rejected answer", "a": "answer a", "b": "answer b"}
    return names.get(name, name)
