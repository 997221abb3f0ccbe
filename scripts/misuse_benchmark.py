"""How often the two verdicts on misused data are right, on real sources: writes `benchmarks/misuse.json`.

Usage: `python scripts/misuse_benchmark.py DATA WHEELS`: a folder of public files as `misuse_sources.py` names them, and
one with the packages that are not installed. Sources that are absent are left out. docs/misuse.md explains it.
"""

import argparse
import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from datetime import date
from itertools import chain
from pathlib import Path
from random import Random
from typing import Any

from misuse_sources import DOCUMENTS, Sources

from stages.data.findings import Located
from stages.data.misuse.generic import GenericConfig, declared, generic_data_as_domain, judge
from stages.data.misuse.instructions import InstructionsConfig, domain_text_as_instructions
from stages.data.misuse.instructions import judge as judge_chats

TARGET = Path(__file__).parents[1] / "benchmarks" / "misuse.json"
SIZES, SEEDS = (50, 200, 500), range(3)  # rows of a set
WORDS = 1000  # of a document
MIXTURES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
# What the rules and thresholds were written on, and what was only measured.
CHATS = {
    "design": ("alpaca", "sharegpt", "authored_general", "authored_safety", "chitchat"),
    "held out": (
        "selfinstruct", "zaragoza", "dpo_demo", "kto_demo", "tulu", "hh", "chatterbot", "support", "code", "medical_tr",
    ),
}  # fmt: skip
TEXTS = {
    "design": ("licences", "torch_docs"),
    "held out": (
        "constitution", "phenotypes", "cloud", "sympy_docs", "sklearn_docs", "wiki", "news", "novel", "speeches",
    ),
}  # fmt: skip
DOMAINS = {
    "design": ("licences", "torch_docs", "cloud"),
    "held out": ("constitution", "phenotypes", "sympy_docs", "sklearn_docs", "zaragoza"),
}
GENERAL = {
    "design": ("news", "alpaca", "authored_general", "chitchat", "sharegpt", "chatterbot"),
    "held out": ("wiki", "novel", "authored_prose", "selfinstruct", "dpo_demo", "kto_demo", "tulu", "hh"),
}
TALK = ("chitchat", "hh", "chatterbot", "authored_general")  # given whole as documents; of other chats, the answers
SENTENCE = re.compile(r"(?<=[.!?;:])\s+")
Cutter = Callable[[str, str], tuple[str, str] | None]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("wheels", type=Path)
    asked = parser.parse_args()
    sources = Sources(asked.data, asked.wheels)
    measured = {
        "date": date.today().isoformat(),
        "domain_text_as_instructions": {side: instructions(sources, side) for side in CHATS},
        "generic_data_as_domain": {side: generic(sources, side) for side in DOMAINS},
    }
    TARGET.write_text(json.dumps(measured, indent=1) + "\n")
    for code in ("domain_text_as_instructions", "generic_data_as_domain"):
        for side, found in measured[code].items():
            print(code, side, json.dumps(found["sets"]))


# How documents are cut into a "prompt" and an "answer".
def halves(title: str, text: str) -> tuple[str, str] | None:
    parts = text.split(" ")
    return " ".join(parts[: len(parts) // 2]), " ".join(parts[len(parts) // 2 :])


def sentences(title: str, text: str) -> tuple[str, str] | None:
    parts = SENTENCE.split(text)
    half = len(parts) // 2
    return (" ".join(parts[:half]), " ".join(parts[half:])) if half else None


def first_sentence(title: str, text: str) -> tuple[str, str] | None:
    parts = SENTENCE.split(text)
    return (parts[0], " ".join(parts[1:])) if len(parts) > 1 else None


def continued(title: str, text: str) -> tuple[str, str] | None:
    cut = sentences(title, text)
    return cut and (f"Continue the following text:\n\n{cut[0]}", cut[1])


def whole_template(title: str, text: str) -> tuple[str, str] | None:
    """In the template of Alpaca, which asks for a response to whatever stands in it."""
    cut = sentences(title, text)
    head = "Below is an instruction that describes a task. Write a response that appropriately completes the request."
    return cut and (f"{head}\n\n### Instruction:\n{cut[0]}\n\n### Response:", cut[1])


def titles(title: str, text: str) -> tuple[str, str] | None:
    return title, text


def paragraphs(title: str, text: str) -> tuple[str, str] | None:
    parts = [part for part in re.split(r"\n\s*\n", text) if len(part.split()) > 5]
    return (parts[0], parts[1]) if len(parts) > 1 else None


def windows(title: str, text: str) -> tuple[str, str] | None:
    return (text[:300], text[300:600]) if len(text) > 400 else None


CUTS: tuple[Cutter, ...] = (
    halves, sentences, first_sentence, continued, whole_template, titles, paragraphs, windows,
)  # fmt: skip


def instructions(sources: Sources, side: str) -> dict[str, Any]:
    """Sets of conversations, cut documents, and mixtures of both."""
    chats = {name: chat_rows(found) for name in CHATS[side] if (found := sources.chats(name))}
    texts = {name: found for name in TEXTS[side] if (found := sources.documents(name))}
    cut = {(name, way.__name__): cut_rows(found, way) for name, found in texts.items() for way in CUTS}
    cut = {key: rows for key, rows in cut.items() if len(rows) >= SIZES[0]}
    config = InstructionsConfig()
    sets = Tally()
    for name, rows in chats.items():
        for part in samples(rows, name):
            sets.add(False, name, domain_text_as_instructions(part, config) is not None)
    for (name, way), rows in cut.items():
        for part in samples(rows, name + way):
            sets.add(True, f"{name}, {way}", domain_text_as_instructions(part, config) is not None)
    every_chat, every_cut = list(chain(*chats.values())), list(chain(*cut.values()))
    return {
        "sources": {"conversations": counts(chats), "documents": counts(texts)},
        "sets": sets.scores(),
        "errors": sets.errors,
        "rows": {
            **row_scores(
                [said(rows, config) for rows in chats.values()], [said(rows, config) for rows in cut.values()]
            ),
            "judged cut": {
                **{name: mean(said(rows, config)) for name, rows in chats.items()},
                **{f"{name}, {way}": mean(said(rows, config)) for (name, way), rows in cut.items()},
            },
        },
        "found by share of cut documents": {
            share: mean(
                domain_text_as_instructions(mixed(every_cut, every_chat, share, 200, seed), config) is not None
                for seed in range(10)
            )
            for share in MIXTURES
        },
    }


def generic(sources: Sources, side: str) -> dict[str, Any]:
    """Sets of a domain's and of general documents, without a sample and with one, of the own and of another domain."""
    domains = {name: documents(sources, name) for name in DOMAINS[side]}
    general = {name: documents(sources, name) for name in GENERAL[side]}
    domains = {name: rows for name, rows in domains.items() if rows}
    general = {name: rows for name, rows in general.items() if rows}
    config = GenericConfig()
    every_general = list(chain(*general.values()))
    alone, near, other = Tally(), Tally(), Tally()
    for bad, group in ((False, domains), (True, general)):
        for name, rows in group.items():
            for part in samples(rows, name):
                alone.add(bad, name, generic_data_as_domain(part, None, config) is not None)
    for name, rows in domains.items():
        for seed in SEEDS:
            shuffled = Random(f"{name}{seed}").sample(rows, len(rows))
            sample, rest = declared([row.row["text"] for row in shuffled[:100]], config), shuffled[100:]
            near.add(False, name, generic_data_as_domain(rest[:200], sample, config) is not None)
            for against, theirs in {**domains, **general}.items():
                if against != name:
                    part = Random(seed).sample(theirs, min(200, len(theirs)))
                    found = generic_data_as_domain(part, sample, config) is not None
                    (other if against in domains else near).add(True, f"{against} against {name}", found)
    return {
        "sources": {"domain": counts(domains), "general": counts(general)},
        "sets": alone.scores(),
        "errors": alone.errors,
        "with a sample of 100": near.scores(),
        "with a sample of 100, errors": near.errors,
        "of another domain than the sample, found": other.scores()["recall"],
        "of another domain than the sample, missed": other.errors,
        "rows": {
            **row_scores(
                [lacks(rows, config) for rows in domains.values()], [lacks(rows, config) for rows in general.values()]
            ),
            "judged general": {name: mean(lacks(rows, config)) for name, rows in {**domains, **general}.items()},
        },
        "found by share of general documents": {
            share: mean(
                generic_data_as_domain(mixed(every_general, right, share, 200, seed), None, config) is not None
                for seed in SEEDS
                for right in domains.values()
            )
            for share in MIXTURES
        },
    }


class Tally:
    """Verdicts on sets: the share of sets of each source that were found, and what follows from it."""

    def __init__(self) -> None:
        self.found: dict[bool, dict[str, list[bool]]] = {True: defaultdict(list), False: defaultdict(list)}

    def add(self, bad: bool, name: str, found: bool) -> None:
        self.found[bad][name].append(found)

    def scores(self) -> dict[str, Any]:
        """Precision as if there were as many wrong sets as right ones: it would else hang on how many were made."""
        hit, false = (mean(found for all_ in self.found[bad].values() for found in all_) for bad in (True, False))
        return {
            "precision": round(hit / (hit + false), 4) if hit else None,
            "recall": hit,
            "false alarms": false,
            "wrong sets": sum(map(len, self.found[True].values())),
            "right sets": sum(map(len, self.found[False].values())),
        }

    @property
    def errors(self) -> dict[str, str]:
        """Sources on which a verdict was wrong, with how often."""
        told = {}
        for bad, names in self.found.items():
            for name, found in names.items():
                wrong = sum(each != bad for each in found)
                if wrong:
                    told[name] = f"{'missed' if bad else 'false alarm'} {wrong} of {len(found)}"
        return told


def row_scores(right: Sequence[list[bool]], wrong: Sequence[list[bool]]) -> dict[str, float]:
    """Precision and recall over rows; every source counts the same, wrong rows as much as right ones."""
    hit, false = (mean(map(mean, group)) for group in (wrong, right))
    return {"precision": round(hit / (hit + false), 4), "recall": hit, "false alarms": false}


def said(rows: Sequence[Located], config: InstructionsConfig) -> list[bool]:
    return [each.cut(config.most_exchanges) for each in judge_chats(rows[:500], config)]


def lacks(rows: Sequence[Located], config: GenericConfig) -> list[bool]:
    judged, _ = judge(rows[:500], None, config)
    return [bool(each.problem(config)) for each in judged]


def samples(rows: Sequence[Located], name: str) -> Iterator[list[Located]]:
    for size in SIZES:
        for seed in SEEDS:
            yield Random(f"{name}{size}{seed}").sample(rows, min(size, len(rows)))


def mixed(wrong: Sequence[Located], right: Sequence[Located], share: float, size: int, seed: int) -> list[Located]:
    random, many = Random(seed), round(share * size)
    return random.sample(wrong, many) + random.sample(right, min(size - many, len(right)))


def documents(sources: Sources, name: str) -> list[Located]:
    """Documents of a source; of a source of conversations, what is said in each."""
    if name in DOCUMENTS:
        texts = [text for _, text in sources.documents(name) or []]
    else:
        roles = ("user", "assistant") if name in TALK else ("assistant",)
        chats = sources.chats(name) or []
        texts = ["\n".join(turn["content"] for turn in chat if turn["role"] in roles) for chat in chats]
    return [Located({"text": first_words(text)}, name, line) for line, text in enumerate(texts, 1)]


def chat_rows(chats: Sequence[Any]) -> list[Located]:
    return [Located({"messages": chat}, "chats", line) for line, chat in enumerate(chats, 1)]


def cut_rows(texts: Sequence[tuple[str, str]], way: Cutter) -> list[Located]:
    cuts = (way(title, first_words(text)) for title, text in texts[:600])
    names = ("user", "assistant")
    return chat_rows(
        [[{"role": r, "content": c} for r, c in zip(names, cut, strict=True)] for cut in cuts if cut and all(cut)]
    )


def first_words(text: str) -> str:
    return " ".join(text.split(" ")[:WORDS])


def counts(sets: dict[str, Any]) -> dict[str, int]:
    return {name: len(rows) for name, rows in sets.items()}


def mean(values: Any) -> float:
    every = list(values)
    return round(sum(every) / len(every), 4) if every else 0.0


if __name__ == "__main__":
    main()
