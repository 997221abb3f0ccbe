"""Rows and scopes for tests of the checks that compare rows."""

from stages.data.contract.config import ContractConfig
from stages.data.contract.view import Scope
from stages.data.findings import Located


def scope_of(stage, rows, tokenizer=None, max_length=2048, **config):
    placed = [Located(row, "rows.jsonl", number) for number, row in enumerate(rows, 1)]
    return Scope(placed, stage, ContractConfig(**config), tokenizer, max_length)


def chat(prompt, answer, *more, task="", system=None):
    said = [prompt, answer, *more]
    turns = [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(said)]
    return {"messages": [*([{"role": "system", "content": system}] if system else []), *turns], "task": task}


def asked(prompt):
    return [{"role": "user", "content": prompt}]


def pair(prompt, chosen, rejected):
    return {"prompt": asked(prompt), "chosen": chosen, "rejected": rejected}


def label(prompt, completion, good):
    return {"prompt": asked(prompt), "completion": completion, "label": good}


def votes(prompt, a, b, **by):
    """votes("Why?", "Because.", "No.", anna="a", bo="tie")."""
    cast = [{"by": name, "prefers": choice} for name, choice in by.items()]
    return {"prompt": asked(prompt), "a": a, "b": b, "votes": cast}


def lines(found):
    """Lines of the marked rows; nothing where nothing was found."""
    return [] if found is None else [mark.index + 1 for mark in found.marks]
