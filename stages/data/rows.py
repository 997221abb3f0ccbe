"""The row formats of prepared data, and the way from a user's row to one of them.

`normalise` takes a raw row in any accepted shape and returns the row of the contract with a list of what was repaired,
or raises RowError. Repairs change white space and control characters, never words.
"""

import hashlib
import json
import re
from collections.abc import Callable
from typing import Any

from stages.data.readers import RowError

ROLES = ("system", "user", "assistant")
KEPT_FIELDS = ("id", "cluster", "task", "tags", "slices", "baselines", "category", "seen_category")
CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ufeff]")
SAME_CONTENT_ANYWAY = ("id", "cluster", "task", "tags", "slices", "baselines")


class Repairs(list[str]):
    """What was mended in one row."""

    def clean(self, text: str) -> str:
        """The text without control characters, Windows line ends and outer white space."""
        for name, mended in (
            ("line ends", text.replace("\r\n", "\n").replace("\r", "\n")),
            ("control characters", CONTROL.sub("", text)),
            ("outer white space", text.strip()),
        ):
            if mended != text and name not in self:
                self.append(name)
        return CONTROL.sub("", text.replace("\r\n", "\n").replace("\r", "\n")).strip()


def normalise(raw: Any, format: str) -> tuple[dict[str, Any], list[str]]:
    """The contract's row and what was repaired. RowError says which field is missing or wrong."""
    if isinstance(raw, RowError):
        raise raw
    if not isinstance(raw, dict):
        raise RowError(f"is a JSON {type(raw).__name__}; each row must be an object such as {EXAMPLES[format]}")
    repairs = Repairs()
    content = FORMATS[format](raw, repairs)
    row = {"id": content_id(content), **content, **_labels(raw)}
    return {**row, "cluster": row.get("cluster", row["id"])}, list(repairs)


def content_id(content: dict[str, Any]) -> str:
    """An id made from the content itself, so that it does not change when rows move."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


def content_key(row: dict[str, Any]) -> str:
    """Equal for exact duplicates: everything but names and labels."""
    return content_id({k: v for k, v in row.items() if k not in SAME_CONTENT_ANYWAY})


def unused_fields(raw: Any, row: dict[str, Any]) -> list[str]:
    """Fields of the raw row that nothing reads."""
    return sorted(set(raw) - set(row) - set(SHAPES)) if isinstance(raw, dict) else []


def words(row: dict[str, Any]) -> int:
    """White-space separated words in everything a model would read or write."""
    turns = [*row.get("messages", []), *row.get("prompt", [])]
    texts = [turn["content"] for turn in turns] + [row.get(k, "") for k in ("text", "chosen", "rejected")]
    return sum(len(text.split()) for text in texts)


def _labels(raw: dict[str, Any]) -> dict[str, Any]:
    labels = {name: raw[name] for name in KEPT_FIELDS if name in raw}
    for name in ("id", "cluster", "task"):
        if name in labels and not (isinstance(labels[name], str) and labels[name]):
            raise RowError(f"'{name}' must be a non-empty string, not {labels[name]!r}")
    if not isinstance(labels.get("tags", []), list):
        raise RowError(f"'tags' must be a list of strings, not {labels['tags']!r}")
    for name in ("slices", "baselines"):
        if not isinstance(labels.get(name, {}), dict):
            raise RowError(f"'{name}' must be an object, not {labels[name]!r}")
    return labels


def _text(raw: dict[str, Any], name: str, repairs: Repairs) -> str:
    value = raw[name]
    if not isinstance(value, str):
        raise RowError(f"'{name}' must be a string, not {type(value).__name__}")
    if any("\ud800" <= letter <= "\udfff" for letter in value):
        raise RowError(f"'{name}' holds half a surrogate pair, such as \\ud83d without its second half")
    cleaned = repairs.clean(value)
    if not cleaned:
        raise RowError(f"'{name}' is empty")
    return cleaned


def _need(raw: dict[str, Any], format: str, *names: str) -> None:
    missing = [name for name in names if name not in raw]
    if missing:
        raise RowError(f"has no field '{missing[0]}' (it has: {', '.join(raw) or 'none'}); expected {EXAMPLES[format]}")


def _messages(raw: dict[str, Any], name: str, repairs: Repairs, last: str) -> list[dict[str, str]]:
    """Checked turns: an optional system turn first, then user and assistant in turns, ending with `last`."""
    turns = raw[name]
    if not isinstance(turns, list) or not all(isinstance(t, dict) and {"role", "content"} <= set(t) for t in turns):
        raise RowError(f"'{name}' must be a list of {{'role': ..., 'content': ...}}")
    for number, turn in enumerate(turns, 1):
        if turn["role"] not in ROLES:
            raise RowError(f"turn {number} of '{name}' has the role {turn['role']!r}; use {', '.join(ROLES)}")
    spoken = [t["role"] for t in turns if t["role"] != "system"]
    if "system" in [t["role"] for t in turns[1:]]:
        raise RowError(f"'{name}' has a system turn that is not the first")
    if not spoken or spoken[-1] != last:
        raise RowError(f"the last turn of '{name}' must be the {last}'s")
    if spoken != [("user", "assistant")[i % 2] for i in range(len(spoken))]:
        raise RowError(f"the turns of '{name}' must alternate: user, assistant, user ...")
    return [{"role": t["role"], "content": _text(t, "content", repairs)} for t in turns]


def _prompt(raw: dict[str, Any], repairs: Repairs) -> list[dict[str, str]]:
    if isinstance(raw["prompt"], list):
        return _messages(raw, "prompt", repairs, last="user")
    return [{"role": "user", "content": _text(raw, "prompt", repairs)}]


def chat(raw: dict[str, Any], repairs: Repairs) -> dict[str, Any]:
    """{"messages"}, {"prompt", "response" | "completion"} or {"instruction", "input", "output"}."""
    if "messages" in raw:
        return {"messages": _messages(raw, "messages", repairs, last="assistant")}
    if "instruction" in raw:
        _need(raw, "chat", "output")
        asked = _text(raw, "instruction", repairs)
        if raw.get("input"):
            asked += "\n\n" + _text(raw, "input", repairs)
        turns = [{"role": "user", "content": asked}]
        return {"messages": [*turns, {"role": "assistant", "content": _text(raw, "output", repairs)}]}
    answer = "completion" if "completion" in raw and "response" not in raw else "response"
    _need(raw, "chat", "prompt", answer)
    return {"messages": [*_prompt(raw, repairs), {"role": "assistant", "content": _text(raw, answer, repairs)}]}


def text(raw: dict[str, Any], repairs: Repairs) -> dict[str, Any]:
    """{"text"}."""
    _need(raw, "text", "text")
    return {"text": _text(raw, "text", repairs)}


def preference(raw: dict[str, Any], repairs: Repairs) -> dict[str, Any]:
    """{"prompt", "chosen", "rejected"}; the answers are strings or one assistant turn."""
    _need(raw, "preference", "prompt", "chosen", "rejected")
    answers = {name: _answer(raw, name, repairs) for name in ("chosen", "rejected")}
    if answers["chosen"] == answers["rejected"]:
        raise RowError("'chosen' and 'rejected' are the same text")
    return {"prompt": _prompt(raw, repairs), **answers}


def _answer(raw: dict[str, Any], name: str, repairs: Repairs) -> str:
    value = raw[name]
    if (
        isinstance(value, list)
        and len(value) == 1
        and isinstance(value[0], dict)
        and value[0].get("role") == "assistant"
    ):
        return _text({name: value[0].get("content")}, name, repairs)
    return _text(raw, name, repairs)


def choice(raw: dict[str, Any], repairs: Repairs) -> dict[str, Any]:
    """{"prompt", "choices", "answer"}; the answer is the right choice's place, from 0."""
    _need(raw, "choice", "prompt", "choices", "answer")
    choices, answer = raw["choices"], raw["answer"]
    if not isinstance(choices, list) or len(choices) < 2 or not all(isinstance(c, str) and c.strip() for c in choices):
        raise RowError("'choices' must be a list of at least two non-empty strings")
    if len(set(choices)) < len(choices):
        raise RowError("'choices' holds the same choice twice")
    if type(answer) is not int or not 0 <= answer < len(choices):
        raise RowError(f"'answer' must be a whole number from 0 to {len(choices) - 1}, not {answer!r}")
    return {"prompt": _prompt(raw, repairs), "choices": choices, "answer": answer}


def generate(raw: dict[str, Any], repairs: Repairs) -> dict[str, Any]:
    """{"prompt", "check": {"type": ...}}."""
    _need(raw, "generate", "prompt", "check")
    if not isinstance(raw["check"], dict) or "type" not in raw["check"]:
        raise RowError(f"'check' must be an object with a 'type', not {raw['check']!r}")
    return {"prompt": _prompt(raw, repairs), "check": raw["check"]}


def refusal(raw: dict[str, Any], repairs: Repairs) -> dict[str, Any]:
    """{"prompt", "harmful"}, and optionally "category" and "seen_category"."""
    _need(raw, "refusal", "prompt", "harmful")
    if not isinstance(raw["harmful"], bool):
        raise RowError(f"'harmful' must be true or false, not {raw['harmful']!r}")
    asked = {"prompt": _prompt(raw, repairs), "harmful": raw["harmful"]}
    return {**asked, "category": raw.get("category", "other"), "seen_category": raw.get("seen_category", False)}


FORMATS: dict[str, Callable[[dict[str, Any], Repairs], dict[str, Any]]] = {
    "chat": chat,
    "text": text,
    "preference": preference,
    "choice": choice,
    "generate": generate,
    "refusal": refusal,
}
MEASURED_ONLY = ("choice", "generate", "refusal")  # formats that no stage trains on
SHAPES = ("prompt", "response", "completion", "instruction", "input", "output")  # read, but under another name after
EXAMPLES = {
    "chat": '{"messages": [{"role": "user", "content": ...}, ...]} or {"prompt": ..., "response": ...}',
    "text": '{"text": ...}',
    "preference": '{"prompt": ..., "chosen": ..., "rejected": ...}',
    "choice": '{"prompt": ..., "choices": [...], "answer": 0}',
    "generate": '{"prompt": ..., "check": {"type": ...}}',
    "refusal": '{"prompt": ..., "harmful": true}',
}
