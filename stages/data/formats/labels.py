"""Answers that a person called good or bad, as KTO is trained on."""

from typing import Any

from stages.data.formats import turns
from stages.data.formats.layout import Layout, Row, first, has, text
from stages.data.readers.errors import RowError

NAMES = ("label", "kto_tag")
ANSWERS = ("completion", "response")
YES = ("true", "yes", "good", "desirable", "thumbs_up", "1")
NO = ("false", "no", "bad", "undesirable", "thumbs_down", "0")


def verdict(value: Any, name: str) -> bool:
    """Good or bad from any of the usual words. RowError for another one."""
    word = str(value).strip().lower()
    if word not in (*YES, *NO):
        raise RowError(f"'{name}' must be true or false, not {value!r}")
    return word in YES


def is_verdict(value: Any) -> bool:
    return isinstance(value, bool | int | str) and str(value).strip().lower() in (*YES, *NO)


def _flat(raw: Row) -> Row:
    answer, name = first(raw, ANSWERS), first(raw, NAMES)
    said = raw[answer]
    if isinstance(said, list):
        (turn, *more) = turns.read(said, answer)
        if more or turn["role"] != "assistant":
            raise RowError(f"'{answer}' must be one turn of the assistant")
        said = turn["content"]
    return {
        "prompt": turns.prompt(raw["prompt"], "prompt"),
        "completion": text({answer: said}, answer),
        "label": verdict(raw[name], name),
    }


def _as_flat(content: Row) -> Row:
    return {**content, "prompt": turns.written_prompt(content["prompt"])}


def _spoken(raw: Row) -> Row:
    source, name = first(raw, ("messages", "conversations")), first(raw, NAMES)
    *asked, last = turns.read(raw[source], source)
    if not asked or last["role"] != "assistant":
        raise RowError(f"the last turn of '{source}' must be the assistant's, after a prompt", "role_order")
    if not last["content"].strip():
        raise RowError(f"the last turn of '{source}' is empty", "empty_turn")
    return {"prompt": asked, "completion": last["content"], "label": verdict(raw[name], name)}


def _as_spoken(content: Row) -> Row:
    said = [*content["prompt"], {"role": "assistant", "content": content["completion"]}]
    return {"messages": said, "label": content["label"]}


def _labelled(raw: Row) -> bool:
    name = first(raw, NAMES)
    return name is not None and is_verdict(raw[name])


LAYOUTS = (
    Layout("kto_messages", "kto", "label",
           lambda raw: _labelled(raw) and bool(first(raw, ("messages", "conversations"))), _spoken, _as_spoken,
           ("messages", "conversations", *NAMES)),
    Layout("kto", "kto", "label", lambda raw: _labelled(raw) and has(raw, "prompt") and bool(first(raw, ANSWERS)),
           _flat, _as_flat, ("prompt", *ANSWERS, *NAMES)),
)  # fmt: skip
