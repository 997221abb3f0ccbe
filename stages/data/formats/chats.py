"""Conversations: OpenAI messages, ShareGPT, Alpaca, prompt and completion, Self-Instruct seeds."""

import json

from stages.data.formats import turns
from stages.data.formats.layout import Layout, Row, first, has, text, unsaid
from stages.data.readers.errors import RowError

ASKED = ("prompt", "question", "q", "query", "objective")
SAID = ("response", "completion", "answer", "a", "assistant_response", "output")


def _messages(raw: Row) -> Row:
    return {"messages": turns.read(raw["messages"], "messages"), **_tools(raw)}


def _tools(raw: Row) -> Row:
    """The functions that the assistant may call, as a list; some files have the list's JSON."""
    tools = raw.get("tools")
    if isinstance(tools, str) and tools.strip():
        try:
            tools = json.loads(tools)
        except (ValueError, RecursionError):
            raise RowError("'tools' must be a list of functions, or its JSON") from None
    if tools and not isinstance(tools, list):
        raise RowError(f"'tools' must be a list of functions, not {type(tools).__name__}")
    return {"tools": tools} if tools else {}


def _as_messages(content: Row) -> Row:
    return dict(content)


def _sharegpt(raw: Row) -> Row:
    name = "conversations" if "conversations" in raw else "conversation"
    spoken = turns.read(raw[name], name)
    if isinstance(raw.get("system"), str) and raw["system"].strip():
        spoken = [{"role": "system", "content": raw["system"]}, *spoken]
    return {"messages": spoken, **_tools(raw)}


def _as_sharegpt(content: Row) -> Row:
    rest = {"tools": content["tools"]} if "tools" in content else {}
    return {"conversations": turns.shared(content["messages"], "sharegpt"), **rest}


def _alpaca(raw: Row) -> Row:
    asked = text(raw, "instruction")
    if raw.get("input"):
        asked += "\n\n" + text(raw, "input")
    system = [{"role": "system", "content": text(raw, "system")}] if raw.get("system") else []
    now = [{"role": "user", "content": asked}, {"role": "assistant", "content": text(raw, "output")}]
    return {"messages": [*system, *_history(raw), *now]}


def _history(raw: Row) -> list[turns.Turn]:
    """Earlier requests and replies, as LLaMA-Factory writes them: [[request, reply], ...]."""
    before = raw.get("history") or []
    if not isinstance(before, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in before):
        raise RowError("'history' must be a list of [request, reply]")
    said = [part for pair in before for part in pair]
    if not all(isinstance(part, str) and part.strip() for part in said):
        raise RowError("'history' holds what is no text, or an empty one")
    return [{"role": ("user", "assistant")[i % 2], "content": part} for i, part in enumerate(said)]


def _as_alpaca(content: Row) -> Row:
    spoken = _plain(content, "alpaca")
    system = spoken[0]["content"] if spoken[0]["role"] == "system" else ""
    spoken = spoken[1:] if system else spoken
    said = [turn["content"] for turn in spoken]
    if [turn["role"] for turn in spoken] != ["user", "assistant"] * (len(spoken) // 2) or not spoken:
        raise unsaid("alpaca", "it has only requests and replies in turns")
    written = {"instruction": said[-2], "input": "", "output": said[-1]}
    if system:
        written["system"] = system
    if said[:-2]:
        written["history"] = [list(pair) for pair in zip(said[:-2:2], said[1:-2:2], strict=True)]
    return written


def _plain(content: Row, layout: str) -> list[turns.Turn]:
    """Turns of nothing but a role and text."""
    if "tools" in content or any(turn.keys() != {"role", "content"} for turn in content["messages"]):
        raise unsaid(layout, "it has no place for tools")
    return content["messages"]


def _completed(raw: Row) -> Row:
    asked, said = first(raw, ASKED), first(raw, SAID)
    answer = raw[said]
    if isinstance(answer, list):
        return {"messages": [*turns.prompt(raw[asked], asked), *turns.read(answer, said)]}
    return {"messages": [*_asked(raw, asked), {"role": "assistant", "content": text(raw, said)}]}


def _asked(raw: Row, name: str) -> list[turns.Turn]:
    return turns.read(raw[name], name) if isinstance(raw[name], list) else turns.prompt(text(raw, name), name)


def _as_completed(content: Row) -> Row:
    *before, last = _plain(content, "prompt_completion")
    if not before or last["role"] != "assistant":
        raise unsaid("prompt_completion", "it ends with the assistant's turn, after a prompt")
    return {"prompt": turns.written_prompt(before), "completion": last["content"]}


def _self_instruct(raw: Row) -> Row:
    instances = raw["instances"]
    if not isinstance(instances, list) or len(instances) != 1 or not isinstance(instances[0], dict):
        count = len(instances) if isinstance(instances, list) else "no"
        raise RowError(f"has {count} instances; write each one as a row of its own")
    return _alpaca({"instruction": raw["instruction"], **instances[0]})


def _as_self_instruct(content: Row) -> Row:
    written = _as_alpaca(content)
    if written.keys() & {"system", "history"}:
        raise unsaid("self_instruct", "it has one request and one reply")
    return {
        "instruction": written["instruction"],
        "instances": [{"input": written["input"], "output": written["output"]}],
    }


LAYOUTS = (
    Layout("messages", "messages", "chat", lambda raw: "messages" in raw, _messages, _as_messages,
           ("messages", "tools")),
    Layout("sharegpt", "sharegpt", "chat", lambda raw: bool(first(raw, ("conversations", "conversation"))), _sharegpt,
           _as_sharegpt, ("conversations", "conversation", "system", "tools")),
    Layout("self_instruct", "self_instruct", "chat", lambda raw: has(raw, "instruction", "instances"), _self_instruct,
           _as_self_instruct, ("instruction", "instances")),
    Layout("alpaca", "alpaca", "chat", lambda raw: has(raw, "instruction", "output"), _alpaca, _as_alpaca,
           ("instruction", "input", "output", "system", "history")),
    Layout("prompt_completion", "prompt_completion", "chat", lambda raw: bool(first(raw, ASKED) and first(raw, SAID)),
           _completed, _as_completed, (*ASKED, *SAID)),
)  # fmt: skip
