"""Conversations as token ids: one way to render, used by training, probes and evaluation alike."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import TYPE_CHECKING, NamedTuple

from pipeline.errors import ConfigError, DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

IGNORE = -100  # label of a token that is not trained
TOGETHER = 256  # conversations that are encoded at once

PROBE = [
    {"role": "user", "content": "Which licence is this?"},
    {"role": "assistant", "content": "It is MIT."},
    {"role": "user", "content": "And its category?"},
]


@dataclass
class Example:
    """One row as the trainer sees it. `labels[i]` is `ids[i]` where token i is trained, IGNORE elsewhere."""

    ids: list[int]
    labels: list[int]
    cut: bool = False  # the row was longer than `max_length` and lost its end

    @property
    def tokens(self) -> int:
        return len(self.ids)

    @property
    def trained(self) -> int:
        return len(self.labels) - self.labels.count(IGNORE)


class Size(NamedTuple):
    """What is counted of an example."""

    tokens: int
    trained: int
    cut: bool


def size(example: Example) -> Size:
    return Size(example.tokens, example.trained, example.cut)


def render(tokenizer: "PreTrainedTokenizerBase", messages: list[dict], *, generation_prompt: bool) -> str:
    """The conversation as text, through the tokenizer's own chat template."""
    if not tokenizer.chat_template:
        raise ConfigError("the model has no chat template; set model.chat_template to a .jinja file")
    return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=generation_prompt)


def encode(tokenizer: "PreTrainedTokenizerBase", text: str) -> list[int]:
    """Token ids of rendered text. Adds nothing: a template renders its own BOS."""
    return tokenizer.encode(text, add_special_tokens=False)


def encode_all(tokenizer: "PreTrainedTokenizerBase", texts: Sequence[str]) -> list[list[int]]:
    """`encode` of many texts, in all cores at once."""
    return tokenizer(list(texts), add_special_tokens=False, return_attention_mask=False)["input_ids"] if texts else []


def document_prefix(tokenizer: "PreTrainedTokenizerBase") -> list[int]:
    """What the tokenizer itself puts before a plain document: usually BOS or nothing."""
    ids, bare = tokenizer.encode("a"), encode(tokenizer, "a")
    return ids[: len(ids) - len(bare)] if bare and ids[-len(bare) :] == bare else []


def prompt_ids(tokenizer: "PreTrainedTokenizerBase", messages: list[dict]) -> list[int]:
    """The context in which the model writes its next turn."""
    return encode(tokenizer, render(tokenizer, messages, generation_prompt=True))


def answer_ids(tokenizer: "PreTrainedTokenizerBase", text: str) -> list[int]:
    """An assistant's turn as it is trained and scored: its text, then EOS."""
    return [*encode(tokenizer, text), tokenizer.eos_token_id]


def chat_example(tokenizer: "PreTrainedTokenizerBase", messages: list[dict], max_length: int) -> Example:
    """A conversation with every assistant turn trained, its EOS included; cut at `max_length` tokens from the right.

    Turns are encoded one by one, exactly as generation will meet them: the context through the generation prompt,
    then the answer.
    """
    return next(chat_examples(tokenizer, [messages], max_length))


def chat_examples(
    tokenizer: "PreTrainedTokenizerBase", conversations: Iterable[list[dict]], max_length: int
) -> Iterator[Example]:
    """`chat_example` of many conversations, encoded together."""
    rest = iter(conversations)
    while part := [list(_exchanges(tokenizer, messages)) for messages in islice(rest, TOGETHER)]:
        encoded = iter(encode_all(tokenizer, [text for exchanges in part for text in chain(*exchanges)]))
        for exchanges in part:
            yield _example([(next(encoded), next(encoded)) for _ in exchanges], tokenizer.eos_token_id, max_length)


def _example(exchanges: list[tuple[list[int], list[int]]], end: int, max_length: int) -> Example:
    ids: list[int] = []
    labels: list[int] = []
    for context, answer in exchanges:
        ids += [*context, *answer, end]
        labels += [*[IGNORE] * len(context), *answer, end]
    return Example(ids[:max_length], labels[:max_length], cut=len(ids) > max_length)


def _exchanges(tokenizer: "PreTrainedTokenizerBase", messages: list[dict]) -> Iterator[tuple[str, str]]:
    """Every assistant turn, after what stands between it and the one before."""
    done = ""  # text already encoded
    for i, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        context = render(tokenizer, messages[:i], generation_prompt=True)
        if not context.startswith(done):
            raise DataError(
                "the chat template rewrites earlier turns or does not end them with EOS, so a conversation of several "
                "turns cannot be trained; set model.chat_template, or give single turns"
            )
        yield context[len(done) :], message["content"]
        done = context + message["content"] + tokenizer.eos_token


def text_example(tokenizer: "PreTrainedTokenizerBase", text: str, max_length: int) -> list[Example]:
    """A document with every token trained that follows another, in pieces of at most `max_length`; EOS ends the last.

    A piece of one token, which trains nothing, is left out.
    """
    prefix = document_prefix(tokenizer)
    body = [*encode(tokenizer, text), tokenizer.eos_token_id]
    step, unseen = max_length - len(prefix), max(1, len(prefix))
    pieces = [prefix + body[i : i + step] for i in range(0, len(body), step)]
    return [Example(p, [IGNORE] * unseen + p[unseen:]) for p in pieces if len(p) > unseen]


def template_digest(tokenizer: "PreTrainedTokenizerBase") -> str:
    """sha256 of a probe conversation as rendered and encoded. Compares what a template does, not how it is spelt."""
    text = render(tokenizer, PROBE, generation_prompt=True)
    return hashlib.sha256(repr((text, encode(tokenizer, text))).encode()).hexdigest()


def tokenizer_digest(tokenizer: "PreTrainedTokenizerBase") -> str:
    """sha256 over the vocabulary and the special tokens."""
    vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    return hashlib.sha256(repr((vocabulary, sorted(special_tokens(tokenizer).items()))).encode()).hexdigest()


def special_tokens(tokenizer: "PreTrainedTokenizerBase") -> dict[str, int | None]:
    return {"bos": tokenizer.bos_token_id, "eos": tokenizer.eos_token_id, "pad": tokenizer.pad_token_id}
