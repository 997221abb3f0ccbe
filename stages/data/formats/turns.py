"""Turns of a conversation in the two ways that files write them: role and content, from and value."""

import json
from typing import Any

from stages.data.formats.layout import unsaid
from stages.data.readers.errors import RowError

Turn = dict[str, Any]
KEPT = ("tool_calls", "tool_call_id", "name")  # of a turn, beside role and content
SPEAKERS = {  # ShareGPT's `from` -> role
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "model": "assistant",
    "system": "system",
    "tool": "tool",
    "observation": "tool",
    "function_response": "tool",
    "function_call": "assistant",
}
WRITTEN = {"user": "human", "assistant": "gpt", "system": "system", "tool": "tool"}


def read(value: Any, name: str) -> list[Turn]:
    """Turns in either way as role and content; what else a turn holds is left out. RowError names the turn."""
    if isinstance(value, str):  # a table's cell
        value = _cell(value, name)
    if not isinstance(value, list) or not value or not all(isinstance(turn, dict) for turn in value):
        raise RowError(f"'{name}' must be a list of {{'role': ..., 'content': ...}}")
    return [_turn(turn, number, name) for number, turn in enumerate(value, 1)]


def _cell(value: str, name: str) -> Any:
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        raise RowError(f"'{name}' must be a list of {{'role': ..., 'content': ...}}, not text") from None


def _turn(turn: Turn, number: int, name: str) -> Turn:
    if "role" not in turn and "from" in turn:
        return _shared(turn, number, name)
    if not isinstance(turn.get("role"), str) or ("content" not in turn and not turn.get("tool_calls")):
        raise RowError(f"'{name}' must be a list of {{'role': ..., 'content': ...}}; turn {number} is not")
    kept = {key: turn[key] for key in KEPT if turn.get(key) is not None}
    return {"role": turn["role"], "content": _content(turn, number, name), **kept}


def _content(turn: Turn, number: int, name: str) -> str:
    """The turn's text; of a list of parts, the text parts one after the other."""
    content = turn.get("content")
    if content is None and turn.get("tool_calls"):
        return ""
    if isinstance(content, list) and all(isinstance(part, dict) and part.get("type") == "text" for part in content):
        content = "".join(str(part.get("text", "")) for part in content)
    if not isinstance(content, str):
        held = "parts that are no text" if isinstance(content, list) else type(content).__name__
        raise RowError(f"'content' of turn {number} of '{name}' must be a string, not {held}")
    return content


def _shared(turn: Turn, number: int, name: str) -> Turn:
    speaker, value = turn["from"], turn.get("value")
    if not isinstance(speaker, str) or speaker not in SPEAKERS:
        raise RowError(f"turn {number} of '{name}' is from {speaker!r}; use {', '.join(SPEAKERS)}")
    if not isinstance(value, str):
        raise RowError(f"'value' of turn {number} of '{name}' must be a string, not {type(value).__name__}")
    if speaker == "function_call":
        return {"role": "assistant", "content": "", "tool_calls": _calls(value, number, name)}
    return {"role": SPEAKERS[speaker], "content": value}


def _calls(value: str, number: int, name: str) -> list[Turn]:
    """Tool calls from their JSON: {"name": ..., "arguments": {...}}, or a list of these."""
    try:
        calls = json.loads(value)
    except (ValueError, RecursionError):
        calls = None
    calls = calls if isinstance(calls, list) else [calls]
    if not all(isinstance(call, dict) and "name" in call for call in calls):
        raise RowError(f"turn {number} of '{name}' is a function_call that is no JSON with 'name' and 'arguments'")
    return [{"type": "function", "function": call} for call in calls]


def shared(turns: list[Turn], layout: str) -> list[Turn]:
    """The turns with from and value."""
    return [_written(turn, layout) for turn in turns]


def _written(turn: Turn, layout: str) -> Turn:
    if turn["role"] not in WRITTEN or any(key in turn for key in ("name", "tool_call_id")):
        raise unsaid(layout, f"it has no place for the name or call of a turn of role {turn['role']!r}")
    if "tool_calls" not in turn:
        return {"from": WRITTEN[turn["role"]], "value": turn["content"]}
    calls = [call.get("function", call) for call in turn["tool_calls"]]
    if turn["content"] or turn["tool_calls"] != [{"type": "function", "function": call} for call in calls]:
        raise unsaid(layout, "a turn has a tool call with an id, or with text beside it")
    return {"from": "function_call", "value": json.dumps(calls[0] if len(calls) == 1 else calls, ensure_ascii=False)}


def prompt(value: Any, name: str) -> list[Turn]:
    """A prompt as turns: a string is the user's."""
    if isinstance(value, str):
        if not value.strip():
            raise RowError(f"'{name}' is empty", "empty_turn")
        return [{"role": "user", "content": value}]
    return read(value, name)


def written_prompt(turns: list[Turn]) -> Any:
    """The prompt as a string where it is one user turn."""
    alone = len(turns) == 1 and turns[0].keys() == {"role", "content"} and turns[0]["role"] == "user"
    return turns[0]["content"] if alone else turns
