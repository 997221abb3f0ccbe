"""Licence notices: the short statements found in source files, from the rules of `licensedcode-data`."""

import os
import random
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from stages.data.legal.excerpts import free_of_heldout
from stages.data.legal.licences import folder, header, licences, paragraphs

KEY = re.compile(r"[a-z0-9.+\-_]+(?:-[a-z0-9.+\-_]+)*")
OPERATORS = ("and", "or", "with")


@lru_cache
def trainable() -> dict[str, str]:
    """Key -> SPDX id of the licences for training that have one."""
    return {x.key: x.spdx for x in licences() if x.side == "train" and x.spdx}


def spdx(expression: str) -> str | None:
    """The expression in SPDX ids, or None where a key has none, is not open, or is not for training."""
    known = trainable()
    if not all(key in known or key in OPERATORS for key in KEY.findall(expression.lower())):
        return None

    def replace(match: re.Match[str]) -> str:
        word = match[0]
        return word.upper() if word in OPERATORS else known[word]

    return KEY.sub(replace, expression.lower())


def notices(seed: int, low: int, high: int) -> Iterator[tuple[str, str, str]]:
    """(file name, notice, SPDX expression) in seeded order, training side only, `low` to `high` words long."""
    for path in shuffled(seed):
        content = path.read_text(encoding="utf-8")
        if "\nis_license_notice: yes" not in content or "\nis_deprecated: yes" in content:
            continue
        fields, body = header(content)
        text = " ".join(paragraphs(body.replace("{{", "").replace("}}", "")))
        expression = spdx(fields.get("license_expression", ""))
        if expression and low <= len(text.split()) <= high and text.isascii() and free_of_heldout(text):
            yield path.stem, text, expression


def shuffled(seed: int) -> list[Path]:
    """All rule files in seeded order: reading the first few thousand is enough for a sample."""
    rules = folder("rules")
    names = sorted(name for name in os.listdir(rules) if name.endswith(".RULE"))
    random.Random(seed).shuffle(names)
    return [rules / name for name in names]
