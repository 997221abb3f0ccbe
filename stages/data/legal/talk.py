"""General talk: human chats of `chitchat-dataset`, and the authored files."""

import json
import re
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

from stages.data import split

AUTHORED = Path(__file__).parent / "authored"
HELDOUT_SHARE = 0.1  # of chats, for dev and held-out each
UNFIT = re.compile(
    r"@|https?:|www\.|\.com\b|\d{3}[-. ]?\d{4}|\b(?:fuck|shit|bitch|asshole|damn|crap|dick|pussy|cunt|bastard|whore"
    r"|slut|nigg|fag|retard|rape|porn|sex|sexy|nude|naked|drunk|suicid\w*|kill\w*|snapchat|instagram|facebook|phone"
    r"|address|kik|venmo)\b",
    re.IGNORECASE,
)


def authored(name: str) -> list[dict[str, Any]]:
    """Rows of an authored file."""
    return [json.loads(line) for line in (AUTHORED / f"{name}.jsonl").read_text(encoding="utf-8").splitlines() if line]


def chats(side: str, max_words: int) -> Iterator[dict[str, Any]]:
    """Chats of one side as chat rows of 4 turns or more, cut after `max_words` at an assistant's turn."""
    path = Path(str(distribution("chitchat-dataset").locate_file("chitchat_dataset/dataset.json")))
    for name, chat in json.loads(path.read_text(encoding="utf-8")).items():
        if chat_side(name) != side:
            continue
        turns = _turns(chat["messages"], max_words)
        if len(turns) >= 4 and _fit(turns):
            yield {
                "id": f"chitchat-{name}",
                "messages": turns,
                "task": "small talk",
                "tags": ["general"],
                "cluster": f"chitchat-{name}",
            }


def sample(side: str, max_words: int, count: int, seed: int) -> list[dict[str, Any]]:
    """`count` chats of a side, drawn by the seed."""
    found = sorted(chats(side, max_words), key=lambda row: split.unit(seed, row["id"]))
    return found[:count]


def as_text(row: dict[str, Any]) -> dict[str, Any]:
    """A chat row as plain text, a line for each turn."""
    text = "\n".join(turn["content"] for turn in row["messages"])
    return {"id": row["id"], "text": text, "task": row["task"], "tags": row["tags"], "cluster": row["cluster"]}


def chat_side(name: str) -> str:
    """The side of a chat, by a hash of its name."""
    place = split.unit("chat", name)
    return "heldout" if place < HELDOUT_SHARE else "dev" if place < 2 * HELDOUT_SHARE else "train"


def _turns(messages: list[list[dict[str, str]]], max_words: int) -> list[dict[str, str]]:
    turns: list[dict[str, str]] = []
    left = max_words
    for number, turn in enumerate(messages):
        content = " ".join(part["text"].strip() for part in turn).strip()
        left -= len(content.split())
        if not content or left < 0:
            break
        turns.append({"role": ("user", "assistant")[number % 2], "content": content})
    return turns[: len(turns) // 2 * 2]


def _fit(turns: list[dict[str, str]]) -> bool:
    """Neither rude nor personal, in plain English letters, and with something said."""
    text = " ".join(turn["content"] for turn in turns)
    return text.isascii() and not UNFIT.search(text) and len(text.split()) >= 6 * len(turns)
