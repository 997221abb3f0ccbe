"""Votes of people on two answers: one row for each vote, or for each pair with all its votes.

A vote is {"by": annotator, "prefers": "a" | "b" | "tie"}, with "strength" where the scale has levels: 1 slightly
better, 2 better, 3 much better.
"""

import hashlib
import json
import re
from typing import Any

from stages.data.formats import turns
from stages.data.formats.layout import Layout, Row, first, has, labels, text, unsaid
from stages.data.readers.errors import RowError

PAIRS = (
    ("a", "b"),
    *((f"{word}{sign}a", f"{word}{sign}b") for word in ("completion", "response", "answer", "output") for sign in "_-"),
    *(
        (f"{word}{sign}1", f"{word}{sign}2")
        for word in ("completion", "response", "answer", "output", "text")
        for sign in ("_", "-", "")
    ),
)
ASKED = ("prompt", "question", "instruction", "context")
VERDICTS = ("preference", "winner", "vote", "verdict", "choice", "overall_preference")
SIGNED = ("overall_preference",)  # a number below 0 prefers the first answer
PEOPLE = ("annotator", "evaluator", "judge", "by", "user_id", "worker_id", "annotator_id")
MODELS = ("model_a", "model_b")
STRENGTHS = {"slightly": 1, "": 2, "much": 3, "significantly": 3, "clearly": 3}
LEVELS = {1: "-is-slightly-better", 2: "-is-better", 3: "-is-much-better"}
WORDS = re.compile(
    r"(?:model|response|answer|completion|assistant|output|text|option)?\s*([ab])"
    r"(?:\s+(?:is\s+|wins\s*)?(slightly|much|significantly|clearly)?\s*(better)?)?"
)
SIGNS = re.compile(r"([ab])\s*(>>?|<<?|=)\s*([ab])")
TIES = ("tie", "equal", "same", "both", "neither", "draw", "no preference")


def verdict(value: Any, name: str) -> Row:
    """{"prefers", "strength"?} from the words of the usual scales. RowError for what could mean two things."""
    if isinstance(value, int) and not isinstance(value, bool) and name in SIGNED:
        return _signed(value, name)
    if isinstance(value, str):
        word = " ".join(re.sub(r"[_-]", " ", value.lower()).split())
        if word.startswith(TIES):
            return {"prefers": "tie"}
        found = _words(word) or _signs(word)
        if found:
            return found
    raise RowError(
        f"'{name}' is {value!r}; use a, b or tie, or a-is-better, a-is-slightly-better ..., and for numbers the field "
        "overall_preference: below 0 prefers the first answer"
    )


def _signed(value: int, name: str) -> Row:
    if abs(value) > 3:
        raise RowError(f"'{name}' is {value}; a vote in numbers goes from -3 (the first answer) to 3")
    return {"prefers": "ab"[value > 0], "strength": abs(value)} if value else {"prefers": "tie"}


def _words(word: str) -> Row | None:
    found = WORDS.fullmatch(word)
    if not found:
        return None
    side, degree, better = found.groups()
    return {"prefers": side, "strength": STRENGTHS[degree or ""]} if degree or better else {"prefers": side}


def _signs(word: str) -> Row | None:
    found = SIGNS.fullmatch(word)
    if not found or found[1] == found[3]:
        return None
    if found[2] == "=":
        return {"prefers": "tie"}
    return {"prefers": found[1] if ">" in found[2] else found[3], "strength": len(found[2])}


def _pair(raw: Row) -> tuple[str, str] | None:
    return next((names for names in PAIRS if has(raw, *names)), None)


def _vote(raw: Row) -> Row:
    names, name, asked, person = _pair(raw), first(raw, VERDICTS), first(raw, ASKED), first(raw, PEOPLE)
    if names is None or asked is None:
        missing = "the texts of its answers" if names is None else "a prompt"
        raise RowError(
            f"is a vote without {missing} (it has: {', '.join(raw)}); add the fields prompt, completion_a and "
            "completion_b from where the answers are kept"
        )
    by = {"by": str(raw[person])} if person and raw[person] is not None else {"by": ""}
    return {
        "prompt": turns.prompt(raw[asked], asked),
        "a": text(raw, names[0]),
        "b": text(raw, names[1]),
        "votes": [{**by, **verdict(raw[name], name)}],
    }


def _as_vote(content: Row) -> Row:
    if len(content["votes"]) != 1:
        raise unsaid("votes", f"a row is one vote, and this has {len(content['votes'])}; use votes_of_pair")
    (vote,) = content["votes"]
    return {
        "prompt": turns.written_prompt(content["prompt"]),
        "completion_a": content["a"],
        "completion_b": content["b"],
        "preference": vote["prefers"] + (LEVELS[vote["strength"]] if "strength" in vote else ""),
        "annotator": vote["by"],
    }


def _pair_of_votes(raw: Row) -> Row:
    found = raw["votes"]
    if not isinstance(found, list) or not found or not all(isinstance(vote, dict) for vote in found):
        raise RowError("'votes' must be a list of {'by': ..., 'prefers': 'a', 'b' or 'tie'}")
    for vote in found:
        if vote.get("prefers") not in ("a", "b", "tie") or vote.get("strength", 1) not in tuple(LEVELS):
            raise RowError(f"a vote must prefer a, b or tie, with a strength from 1 to 3 or none, not {vote!r}")
    return {"prompt": turns.prompt(raw["prompt"], "prompt"), "a": text(raw, "a"), "b": text(raw, "b"), "votes": found}


def _as_pair(content: Row) -> Row:
    return {**content, "prompt": turns.written_prompt(content["prompt"])}


def _labels(raw: Row) -> Row:
    """All votes on one prompt belong together; a number as the row's name is written out."""
    found = labels(raw)
    if isinstance(found.get("id"), int):
        found["id"] = str(found["id"])
    asked = first(raw, ASKED)
    if "cluster" not in found and asked:
        said = raw[asked].strip() if isinstance(raw[asked], str) else raw[asked]
        data = json.dumps(said, sort_keys=True, default=repr)
        found["cluster"] = hashlib.sha256(data.encode(errors="replace")).hexdigest()[:12]
    return found


def _is_vote(raw: Row) -> bool:
    return first(raw, VERDICTS) is not None and (_pair(raw) is not None or has(raw, *MODELS))


LAYOUTS = (
    Layout("votes_of_pair", "votes", "votes", lambda raw: has(raw, "prompt", "a", "b", "votes"), _pair_of_votes,
           _as_pair, ("prompt", "a", "b", "votes"), _labels),
    Layout("votes", "votes", "votes", _is_vote, _vote, _as_vote,
           (*ASKED, *(name for names in PAIRS for name in names), *VERDICTS, *PEOPLE), _labels),
)  # fmt: skip
