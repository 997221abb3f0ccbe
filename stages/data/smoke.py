"""The data sets of the experiment `smoke`: a few authored rows of each kind, so that the chain runs in seconds."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.data.builders import builder

AUTHORED = Path(__file__).parent / "legal" / "authored"
CREDIT = "Prompts and answers of the project's own, under the project's licence."


@dataclass
class SmokeOptions:
    rows: int = 60


def _rows(name: str, count: int) -> list[dict[str, Any]]:
    """`count` rows spread over an authored file."""
    rows = [json.loads(line) for line in (AUTHORED / name).read_text(encoding="utf-8").splitlines()]
    return rows[:: max(1, len(rows) // count)][:count]


@builder("smoke_chat", format="chat", options=SmokeOptions, packages=(), attribution=CREDIT,
         files=(AUTHORED / "general_train.jsonl", AUTHORED / "safety_train.jsonl"))  # fmt: skip
def smoke_chat(options: SmokeOptions, seed: int) -> Iterator[dict[str, Any]]:
    """General tasks and refusals in equal parts."""
    for name, tag in (("general_train.jsonl", "general"), ("safety_train.jsonl", "safety")):
        for row in _rows(name, options.rows // 2):
            turns = row.get("messages") or [
                {"role": "user", "content": row["prompt"]},
                {"role": "assistant", "content": row["response"]},
            ]
            yield {"id": row["id"], "messages": turns, "tags": [tag], "task": row.get("task", tag)}


@builder("smoke_text", format="text", options=SmokeOptions, packages=(), attribution=CREDIT,
         files=(AUTHORED / "general_heldout_text.jsonl",))  # fmt: skip
def smoke_text(options: SmokeOptions, seed: int) -> Iterator[dict[str, Any]]:
    """Short passages of prose."""
    yield from ({"id": row["id"], "text": row["text"]} for row in _rows("general_heldout_text.jsonl", options.rows))


@builder("smoke_pairs", format="preference", options=SmokeOptions, packages=(), attribution=CREDIT,
         files=(AUTHORED / "general_pairs.jsonl",))  # fmt: skip
def smoke_pairs(options: SmokeOptions, seed: int) -> Iterator[dict[str, Any]]:
    """Better and worse answers to general prompts."""
    for row in _rows("general_pairs.jsonl", options.rows):
        prompt = [{"role": "user", "content": row["prompt"]}]
        yield {**{key: row[key] for key in ("id", "task", "chosen", "rejected")}, "prompt": prompt}


@builder("smoke_refusals", format="refusal", options=SmokeOptions, packages=(), attribution=CREDIT,
         files=(AUTHORED / "safety_heldout.jsonl",))  # fmt: skip
def smoke_refusals(options: SmokeOptions, seed: int) -> Iterator[dict[str, Any]]:
    """Harmful requests and their benign look-alikes."""
    for row in _rows("safety_heldout.jsonl", options.rows):
        keys = ("id", "harmful", "category", "seen_category")
        yield {**{key: row[key] for key in keys}, "prompt": [{"role": "user", "content": row["prompt"]}]}
