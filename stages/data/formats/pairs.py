"""Preference pairs: a prompt with a chosen and a rejected answer, in strings, turns or whole transcripts."""

import re

from stages.data.formats import turns
from stages.data.formats.layout import Layout, Row, first, has, text, unsaid
from stages.data.readers.errors import RowError

SIDES = ("chosen", "rejected")
SPOKEN = re.compile(r"(?:^|\n\n)(Human|Assistant):")
NAMES = {"Human": "user", "Assistant": "assistant"}
CALLED = {role: name for name, role in NAMES.items()}


def _strings(raw: Row) -> Row:
    return {"prompt": turns.prompt(raw["prompt"], "prompt"), **{name: _answer(raw, name) for name in SIDES}}


def _answer(raw: Row, name: str) -> str:
    """The answer's text; it may stand in a turn of its own."""
    if isinstance(raw[name], list):
        return _spoken(turns.read(raw[name], name), name)
    return text(raw, name)


def _as_strings(content: Row) -> Row:
    return {**content, "prompt": turns.written_prompt(content["prompt"])}


def _turned(raw: Row) -> Row:
    """Answers as turns; either the answer alone, or the whole conversation with the prompt at its beginning."""
    sides = [turns.read(raw[name], name) for name in SIDES]
    if any(len(side) > 1 for side in sides):
        return _divided(*sides)
    if not raw.get("prompt"):
        raise RowError("has no 'prompt', and 'chosen' does not begin with one")
    return {"prompt": turns.prompt(raw["prompt"], "prompt"), **_answers(*sides)}


def _divided(chosen: list[turns.Turn], rejected: list[turns.Turn]) -> Row:
    """Two conversations that differ in their last turn only."""
    if chosen[:-1] != rejected[:-1] or len(chosen) < 2:
        same = next((i for i, (a, b) in enumerate(zip(chosen, rejected, strict=False)) if a != b), len(chosen))
        raise RowError(f"'chosen' and 'rejected' differ from turn {same + 1} on; only their last turn may differ")
    return {"prompt": chosen[:-1], **_answers(chosen[-1:], rejected[-1:])}


def _answers(chosen: list[turns.Turn], rejected: list[turns.Turn]) -> Row:
    return {"chosen": _spoken(chosen, "chosen"), "rejected": _spoken(rejected, "rejected")}


def _spoken(said: list[turns.Turn], name: str) -> str:
    """The text of an answer that is one turn."""
    if len(said) != 1 or said[0]["role"] != "assistant":
        raise RowError(f"'{name}' must be one turn of the assistant")
    return text({name: said[0]["content"]}, name)


def _as_turned(content: Row) -> Row:
    sides = {name: [{"role": "assistant", "content": content[name]}] for name in SIDES}
    return {"prompt": content["prompt"], **sides}


def _shared(raw: Row) -> Row:
    name = "conversations" if "conversations" in raw else "conversation"
    asked = turns.read(raw[name], name)
    if isinstance(raw.get("system"), str) and raw["system"].strip():
        asked = [{"role": "system", "content": raw["system"]}, *asked]
    sides = [turns.read([raw[side]] if isinstance(raw[side], dict) else raw[side], side) for side in SIDES]
    return {"prompt": asked, **_answers(*sides)}


def _as_shared(content: Row) -> Row:
    sides = {name: {"from": "gpt", "value": content[name]} for name in SIDES}
    return {"conversations": turns.shared(content["prompt"], "preference_sharegpt"), **sides}


def _transcripts(raw: Row) -> Row:
    return _divided(*(_transcript(text(raw, name), name) for name in SIDES))


def _transcript(said: str, name: str) -> list[turns.Turn]:
    """The turns of a transcript: blank line, Human: or Assistant:, what they said."""
    parts = SPOKEN.split(said)
    if parts[0].strip():
        raise RowError(f"'{name}' must begin with 'Human:' or 'Assistant:'")
    return [{"role": NAMES[who], "content": what.strip()} for who, what in zip(parts[1::2], parts[2::2], strict=True)]


def _as_transcripts(content: Row) -> Row:
    sides = {}
    for name in SIDES:
        spoken = [*content["prompt"], {"role": "assistant", "content": content[name]}]
        if any(turn["role"] not in CALLED or SPOKEN.search(turn["content"]) for turn in spoken):
            raise unsaid("hh", "a transcript has only the two sides, and none may speak of 'Human:' on a new line")
        sides[name] = "".join(f"\n\n{CALLED[turn['role']]}: {turn['content']}" for turn in spoken)
    return sides


def _is_pair(raw: Row, kind: type) -> bool:
    return has(raw, *SIDES) and all(isinstance(raw[name], kind) for name in SIDES)


def _is_transcript(raw: Row) -> bool:
    return _is_pair(raw, str) and not raw.get("prompt") and all(SPOKEN.match(raw[name]) for name in SIDES)


def _is_shared(raw: Row) -> bool:
    return has(raw, *SIDES) and bool(first(raw, ("conversations", "conversation"))) and not _is_pair(raw, str)


LAYOUTS = (
    Layout("hh", "hh", "preference", _is_transcript, _transcripts, _as_transcripts, SIDES),
    Layout("preference_sharegpt", "preference", "preference", _is_shared, _shared, _as_shared,
           ("conversations", "conversation", "system", *SIDES)),
    Layout("preference_messages", "preference", "preference", lambda raw: _is_pair(raw, list), _turned, _as_turned,
           ("prompt", *SIDES)),
    Layout("preference", "preference", "preference", lambda raw: has(raw, "prompt", *SIDES), _strings, _as_strings,
           ("prompt", *SIDES)),
)  # fmt: skip
