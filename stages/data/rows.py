"""The forms of prepared rows, and the way from a user's row to one of them.

`normalise` takes a raw row in any layout of `formats` and returns the row of the contract with a list of what was
repaired, or raises RowError. Repairs change white space and control characters; words only where one redacts.

| form | content |
|---|---|
| chat | messages: turns of system, user, assistant and tool; tools, where the assistant may call some |
| text | text |
| preference | prompt: turns; chosen and rejected: answers |
| label | prompt: turns; completion: an answer; label: whether it is good |
| ranking | prompt: turns; answers: from the best to the worst |
| votes | prompt: turns; a and b: answers; votes: [{by, prefers: a, b or tie, strength: 1 to 3 if known}] |
| prompt | prompt: turns |
| choice, generate, refusal, constraints, classification, overlap | what is only measured: a prompt with choices and |
| | the answer, a check, harmful, constraints, labels and the right one, or reference texts |
"""

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from typing import Any

from stages.data import formats
from stages.data.formats.layout import Layout
from stages.data.readers.errors import RowError
from stages.data.redaction import NOTHING, Redaction

ROLES = ("system", "user", "assistant", "tool")
CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ufeff]")
HALF = re.compile("[\ud800-\udfff]")
SORTED = json.JSONEncoder(sort_keys=True, default=str)
SAME_CONTENT_ANYWAY = ("id", "cluster", "task", "tags", "slices", "baselines", "origin")


class Repairs(list[str]):
    """What was mended in one row."""

    def clean(self, text: str) -> str:
        """The text without control characters, Windows line ends and outer white space."""
        ended = text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text
        plain = CONTROL.sub("", ended)
        stripped = plain.strip()
        for name, mended in (
            ("line ends", ended != text),
            ("control characters", plain != ended),
            ("outer white space", stripped != plain),
        ):
            if mended and name not in self:
                self.append(name)
        return stripped


def normalise(
    raw: Any, format: str, layout: Layout | None = None, redaction: Redaction = NOTHING
) -> tuple[dict[str, Any], list[str]]:
    """The contract's row and what was repaired. RowError says which field is missing or wrong.

    `layout`: how the row is written; the one of `layout_of` if None.
    """
    written = layout or layout_of(raw, format)
    if not written.fits(raw):
        raise RowError(f"is not written as {written.name} (it has: {', '.join(raw) or 'no field'})")
    repairs = Repairs()
    content = FORMATS[format](written.read(raw), repairs)
    redacted, kinds = redaction.of(content)
    if kinds:
        repairs += [f"redacted {kind}" for kind in kinds]
        content = FORMATS[format](redacted, repairs)  # once more: two answers may have become the same
    row = {"id": content_id(content), **content, **_labels(written.labels(raw))}
    return {**row, "cluster": row.get("cluster", row["id"])}, list(repairs)


def layout_of(raw: Any, format: str) -> Layout:
    """The layout in which the row is written. RowError when it cannot become `format`."""
    if isinstance(raw, RowError):
        raise raw
    if not isinstance(raw, dict):
        raise RowError(f"is a JSON {type(raw).__name__}; each row must be an object such as {EXAMPLES[format]}")
    found = formats.find(raw, format)
    if found is None:
        wanted = ("instruction", "output") if format == "chat" and "instruction" in raw else NEEDS[format]
        missing = next((name for name in wanted if name not in raw), None)
        if missing is None:
            values = ", ".join(f"'{name}'" for name in wanted)
            raise RowError(f"has values in {values} that no layout knows; expected {EXAMPLES[format]}")
        has = ", ".join(map(str, raw)) or "none"
        raise RowError(f"has no field '{missing}' (it has: {has}); expected {EXAMPLES[format]}")
    return found


def content_id(content: dict[str, Any]) -> str:
    """An id made from the content itself, so that it does not change when rows move."""
    return hashlib.sha256(SORTED.encode(content).encode()).hexdigest()[:12]


def content_key(row: dict[str, Any]) -> str:
    """Equal for exact duplicates: everything but names and labels."""
    return content_id({k: v for k, v in row.items() if k not in SAME_CONTENT_ANYWAY})


def unused_fields(raw: Any, row: dict[str, Any], layout: Layout | None = None) -> list[str]:
    """Fields of the raw row that nothing reads."""
    used = layout or formats.find(raw)
    return sorted(set(raw) - set(row) - set(used.uses if used else ()))


def words(row: dict[str, Any]) -> int:
    """White-space separated words in everything a model would read or write."""
    turns = [*row.get("messages", []), *row.get("prompt", [])]
    texts = [turn["content"] for turn in turns] + [row.get(k, "") for k in TEXTS] + list(row.get("answers", []))
    return sum(len(text.split()) for text in texts)


def _labels(raw: dict[str, Any]) -> dict[str, Any]:
    labels = dict(raw)
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
    if HALF.search(value):
        raise RowError(
            f"'{name}' holds half a surrogate pair, such as \\ud83d without its second half", "encoding_damage"
        )
    cleaned = repairs.clean(value)
    if not cleaned:
        raise RowError(f"'{name}' is empty", "empty_turn")
    return cleaned


def _messages(turns: Sequence[dict[str, Any]], name: str, repairs: Repairs, last: str) -> list[dict[str, Any]]:
    """Checked turns: an optional system turn first, then user and assistant in turns, ending with `last`."""
    roles = [turn["role"] for turn in turns]
    for number, role in enumerate(roles, 1):
        if role not in ROLES:
            raise RowError(f"turn {number} of '{name}' has the role {role!r}; use {', '.join(ROLES)}", "role_order")
    if "system" in roles[1:]:
        raise RowError(f"'{name}' has a system turn that is not the first", "role_order")
    spoken = _without_tools(roles[roles[:1] == ["system"] :], name)
    if not spoken or (spoken[-1] != last and not (last == "user" and roles[-1] == "tool")):
        raise RowError(f"the last turn of '{name}' must be the {last}'s", "role_order")
    if spoken != [("user", "assistant")[i % 2] for i in range(len(spoken))]:
        raise RowError(f"the turns of '{name}' must alternate: user, assistant, user ...", "role_order")
    return [{**turn, "content": _said(turn, repairs)} for turn in turns]


def _without_tools(roles: Sequence[str], name: str) -> list[str]:
    """The roles with a tool's answers, and what the assistant says after them, as part of the assistant's turn."""
    kept: list[str] = []
    for before, role in zip([None, *roles], roles, strict=False):
        if role == "tool" and before not in ("assistant", "tool"):
            raise RowError(f"'{name}' has a tool turn that does not follow the assistant's call", "role_order")
        if role != "tool" and not (role == "assistant" and before == "tool"):
            kept.append(role)
    return kept


def _said(turn: dict[str, Any], repairs: Repairs) -> str:
    """The turn's text; a call of a tool may have none."""
    return "" if turn.get("tool_calls") and not turn["content"].strip() else _text(turn, "content", repairs)


def _prompt(content: dict[str, Any], repairs: Repairs) -> list[dict[str, Any]]:
    return _messages(content["prompt"], "prompt", repairs, last="user")


def chat(content: dict[str, Any], repairs: Repairs) -> dict[str, Any]:
    """{"messages"}, and "tools" where there are some."""
    tools = {"tools": content["tools"]} if "tools" in content else {}
    return {"messages": _messages(content["messages"], "messages", repairs, last="assistant"), **tools}


def text(content: dict[str, Any], repairs: Repairs) -> dict[str, Any]:
    """{"text"}."""
    return {"text": _text(content, "text", repairs)}


def preference(content: dict[str, Any], repairs: Repairs) -> dict[str, Any]:
    """{"prompt", "chosen", "rejected"}."""
    answers = {name: _text(content, name, repairs) for name in ("chosen", "rejected")}
    if answers["chosen"] == answers["rejected"]:
        raise RowError("'chosen' and 'rejected' are the same text", "chosen_is_rejected")
    return {"prompt": _prompt(content, repairs), **answers}


def label(content: dict[str, Any], repairs: Repairs) -> dict[str, Any]:
    """{"prompt", "completion", "label"}."""
    said = _text(content, "completion", repairs)
    return {"prompt": _prompt(content, repairs), "completion": said, "label": content["label"]}


def ranking(content: dict[str, Any], repairs: Repairs) -> dict[str, Any]:
    """{"prompt", "answers"}, the best answer first."""
    answers = [_text({"answers": answer}, "answers", repairs) for answer in content["answers"]]
    if len(set(answers)) < len(answers):
        raise RowError("'answers' holds the same text twice")
    return {"prompt": _prompt(content, repairs), "answers": answers}


def votes(content: dict[str, Any], repairs: Repairs) -> dict[str, Any]:
    """{"prompt", "a", "b", "votes"}."""
    answers = {name: _text(content, name, repairs) for name in ("a", "b")}
    cast = [
        {name: repairs.clean(value) if isinstance(value, str) else value for name, value in vote.items()}
        if isinstance(vote, dict) else vote
        for vote in content["votes"]
    ]  # fmt: skip
    return {"prompt": _prompt(content, repairs), **answers, "votes": cast}


def prompt(content: dict[str, Any], repairs: Repairs) -> dict[str, Any]:
    """{"prompt"}."""
    return {"prompt": _prompt(content, repairs)}


def choice(content: dict[str, Any], repairs: Repairs) -> dict[str, Any]:
    """{"prompt", "choices", "answer"}; the answer is the right choice's place, from 0."""
    choices, answer = content["choices"], content["answer"]
    if not isinstance(choices, list) or len(choices) < 2 or not all(isinstance(c, str) and c.strip() for c in choices):
        raise RowError("'choices' must be a list of at least two non-empty strings")
    if len(set(choices)) < len(choices):
        raise RowError("'choices' holds the same choice twice")
    if type(answer) is not int or not 0 <= answer < len(choices):
        raise RowError(f"'answer' must be a whole number from 0 to {len(choices) - 1}, not {answer!r}")
    return {"prompt": _prompt(content, repairs), "choices": choices, "answer": answer}


def generate(content: dict[str, Any], repairs: Repairs) -> dict[str, Any]:
    """{"prompt", "check": {"type": ...}}."""
    from stages.evaluation.checks import problem

    if not isinstance(content["check"], dict) or "type" not in content["check"]:
        raise RowError(f"'check' must be an object with a 'type', not {content['check']!r}")
    if found := problem(content["check"]):
        raise RowError(f"'check': {found}")
    return {"prompt": _prompt(content, repairs), "check": content["check"]}


def refusal(content: dict[str, Any], repairs: Repairs) -> dict[str, Any]:
    """{"prompt", "harmful"}, and optionally "category" and "seen_category"."""
    if not isinstance(content["harmful"], bool):
        raise RowError(f"'harmful' must be true or false, not {content['harmful']!r}")
    asked = {"prompt": _prompt(content, repairs), "harmful": content["harmful"]}
    return {**asked, "category": content.get("category", "other"), "seen_category": content.get("seen_category", False)}


def constraints(content: dict[str, Any], repairs: Repairs) -> dict[str, Any]:
    """{"prompt", "constraints": [{"type": ...}, ...]}."""
    from stages.evaluation.constraints import problem

    if found := problem(content["constraints"]):
        raise RowError(found)
    return {"prompt": _prompt(content, repairs), "constraints": content["constraints"]}


def classification(content: dict[str, Any], repairs: Repairs) -> dict[str, Any]:
    """{"prompt", "labels", "label"}; the label is one of the labels."""
    labels, label = content["labels"], content["label"]
    if not isinstance(labels, list) or len(labels) < 2 or not all(isinstance(x, str) and x.strip() for x in labels):
        raise RowError("'labels' must be a list of at least two non-empty strings")
    if len(set(labels)) < len(labels):
        raise RowError("'labels' holds the same label twice")
    if label not in labels:
        raise RowError(f"'label' must be one of {', '.join(labels)}, not {label!r}")
    return {"prompt": _prompt(content, repairs), "labels": labels, "label": label}


def overlap(content: dict[str, Any], repairs: Repairs) -> dict[str, Any]:
    """{"prompt", "references"}: texts; one text alone becomes a list."""
    given = content["references"]
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list) or not texts:
        raise RowError("'references' must be a text or a list of at least one text")
    return {
        "prompt": _prompt(content, repairs),
        "references": [_text({"references": text}, "references", repairs) for text in texts],
    }


FORMATS: dict[str, Callable[[dict[str, Any], Repairs], dict[str, Any]]] = {
    "chat": chat,
    "text": text,
    "preference": preference,
    "label": label,
    "ranking": ranking,
    "votes": votes,
    "prompt": prompt,
    "choice": choice,
    "generate": generate,
    "refusal": refusal,
    "constraints": constraints,
    "classification": classification,
    "overlap": overlap,
}
# Formats that no stage trains on.
MEASURED_ONLY = ("choice", "generate", "refusal", "constraints", "classification", "overlap")
TEXTS = ("text", "chosen", "rejected", "completion", "a", "b")
NEEDS = {
    "chat": ("prompt", "response"),
    "text": ("text",),
    "preference": ("prompt", "chosen", "rejected"),
    "label": ("prompt", "completion", "label"),
    "ranking": ("prompt", "answers"),
    "votes": ("prompt", "a", "b", "votes"),
    "prompt": ("prompt",),
    "choice": ("prompt", "choices", "answer"),
    "generate": ("prompt", "check"),
    "refusal": ("prompt", "harmful"),
    "constraints": ("prompt", "constraints"),
    "classification": ("prompt", "labels", "label"),
    "overlap": ("prompt", "references"),
}
EXAMPLES = {
    "chat": '{"messages": [{"role": "user", "content": ...}, ...]} or {"prompt": ..., "response": ...}',
    "text": '{"text": ...}',
    "preference": '{"prompt": ..., "chosen": ..., "rejected": ...}',
    "label": '{"prompt": ..., "completion": ..., "label": true}',
    "ranking": '{"prompt": ..., "answers": [the best, ..., the worst]}',
    "votes": '{"prompt": ..., "completion_a": ..., "completion_b": ..., "preference": "a", "annotator": ...}',
    "prompt": '{"prompt": ...}',
    "choice": '{"prompt": ..., "choices": [...], "answer": 0}',
    "generate": '{"prompt": ..., "check": {"type": ...}}',
    "refusal": '{"prompt": ..., "harmful": true}',
    "constraints": '{"prompt": ..., "constraints": [{"type": "words", "max": 50}]}',
    "classification": '{"prompt": ..., "labels": ["spam", "ham"], "label": "ham"}',
    "overlap": '{"prompt": ..., "references": ["a good answer", "another"]}',
}
