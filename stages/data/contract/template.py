"""Tokens of chat templates in texts: left from an export, a model reads them as the end or the start of a turn."""

import re
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from stages.data.contract.spans import Span, blanked, requests, shown
from stages.data.contract.view import Found, Item, Mark, Scope, share

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

HEADERS = ("nstruction:", "esponse:", "Human:", "ssistant:", "USER:", "ASSISTANT:")
HINTS = ("<|", "<｜", "[INST]", "[/INST]", "SYS>>", "<s>", "</s>", "_of_turn>", "<bos>", "<eos>", *HEADERS)
KNOWN = re.compile(
    r"<\|[A-Za-z][\w▁ -]{1,40}\|>|<｜[^\s｜]{2,40}｜>"  # ChatML, Llama 3, Phi, GPT, Harmony, Cohere; DeepSeek
    r"|\[/?INST\]|<</?SYS>>"  # Llama 2, Mistral
    r"|<(?:start|end)_of_turn>|<bos>|<eos>"  # Gemma
    r"|\A\s*<s>|</s>\s*\Z|</s>\s*<s>"  # where they are no strike-through of HTML
    r"|^###? ?(?:Instruction|Response|Human|Assistant|USER|ASSISTANT):",  # Alpaca, Vicuna
    re.MULTILINE,
)
STRUCK = re.compile(r"<s>[^<]*</s>")
SPOKEN = re.compile(
    r"^[ \t]*(?:\*\*)?(?:(Human|User|USER)|(Assistant|ASSISTANT|AI|GPT|Bot|Chatbot))(?:\*\*)?:", re.MULTILINE
)
ROLES = ("Assistant", "ASSISTANT", "Human", "H:", "AI", "GPT", "ot:", "ot**:")
OPENED = re.compile(r"\A\s*(?:Assistant|ASSISTANT|AI):|\n\s*\n(?:Human|H): ?")
ASKED = re.compile(  # a prompt for which roles at the start of lines are right
    r"\b(?:dialogues?|dialogs?|conversations?|transcripts?|chats?|chat ?bots?|interviews?|scripts?|role.?play|"
    r"exchange between)\b",
    re.I,
)


def template_tokens(scope: Scope) -> Found | None:
    """Rows with a token of a chat template in a text, or an answer that goes on with the next turns."""
    hits = zip(scope.items, scope.each(tokens_in), strict=True)
    found = [Mark(item.index, text) for item, text in hits if text is not None]
    if not found:
        return None
    return Found(
        found,
        f"{share(len(found), len(scope.rows))} rows have tokens of a chat template in their texts.",
        "Take them out at the source: give the turns as `messages` and let the template of the model write the tokens.",
    )


def tokens_in(items: Sequence[Item], scope: Scope) -> list[str | None]:
    """The place in each item that shows one."""
    special = _special(scope.tokenizer)
    return [shown(*hit) if (hit := _in_item(item, special)) else None for item in items]


def _special(tokenizer: "PreTrainedTokenizerBase | None") -> re.Pattern[str] | None:
    """Every special token of the tokenizer; those that could be a word are left out."""
    if tokenizer is None:
        return None
    added = [str(token) for token in tokenizer.added_tokens_decoder.values() if token.special]
    tokens: Collection[str] = {token for token in (*tokenizer.all_special_tokens, *added) if _is_marked(token)}
    return re.compile("|".join(map(re.escape, sorted(tokens, key=len, reverse=True)))) if tokens else None


def _is_marked(token: str) -> bool:
    return len(token) > 2 and not token.isalnum() and token[0] in "<[{|" and token[-1] in ">]}|"


def _in_item(item: Item, special: re.Pattern[str] | None) -> tuple[str, Span] | None:
    for text in item.said:
        if span := _token(text, special):
            return text, span
    for text in item.answers if item.form not in ("text", "prompt") else ():
        if (span := _next_turn(text)) and not ASKED.search(requests(item)):
            return text, span
    return None


def _token(text: str, special: re.Pattern[str] | None) -> Span | None:
    """One of the tokenizer anywhere, since to it that is no text; another outside code, where it may be quoted."""
    match = special.search(text) if special else None
    if match is None and any(hint in text for hint in HINTS):
        kept = blanked(text)
        struck = STRUCK.sub(lambda pair: " " * len(pair.group()), kept) if "<s>" in kept and not _whole(kept) else kept
        match = KNOWN.search(struck)
    return Span("token", match.start(), match.end()) if match else None


def _whole(text: str) -> bool:
    """<s> ... </s> around all of it."""
    return text.lstrip().startswith("<s>") and text.rstrip().endswith("</s>")


def _next_turn(text: str) -> Span | None:
    """Roles at the start of lines: both, the user's after a blank line, or the assistant's before everything."""
    if not any(role in text for role in ROLES):
        return None
    found = list(SPOKEN.finditer(text))
    both = {match.lastindex for match in found} == {1, 2}
    match = found[0] if both else OPENED.search(text)
    return Span("token", match.start(), match.end()) if match else None
