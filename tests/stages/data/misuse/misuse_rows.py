"""Documents of two made-up handbooks, and rows of the project's own."""

import json
import random
import re
from collections.abc import Sequence
from pathlib import Path

import stages.data.legal
from stages.data.findings import Located

AUTHORED = Path(stages.data.legal.__file__).parent / "authored"
BEES = [
    "brood",
    "swarm",
    "queen",
    "apiary",
    "varroa",
    "mite",
    "propolis",
    "forager",
    "nectar",
    "comb",
    "honeycomb",
    "smoker",
    "colony",
    "drone",
    "beekeeper",
    "hive",
    "pollen",
    "superseded",
    "entrance",
    "frame",
    "wintering",
    "foulbrood",
    "cluster",
    "syrup",
    "excluder",
]
WELDS = [
    "electrode",
    "weld",
    "slag",
    "amperage",
    "filler",
    "bead",
    "porosity",
    "torch",
    "fillet",
    "undercut",
    "flux",
    "cathode",
    "puddle",
    "spatter",
    "anode",
    "penetration",
    "tungsten",
    "clamp",
    "grinder",
    "bevel",
    "alloy",
    "argon",
    "voltage",
    "seam",
    "preheat",
]


def handbook(words: Sequence[str], count: int, seed: int = 0) -> list[str]:
    """Documents of five sentences of general prose, three words of each replaced by words of a field."""
    found, pool = random.Random(seed), sentences()
    return [" ".join(spoken(found.choice(pool), words, found) for _ in range(5)) for _ in range(count)]


def spoken(sentence: str, words: Sequence[str], found: random.Random) -> str:
    parts = sentence.split()
    places = [place for place, part in enumerate(parts) if len(part) > 3 and part.isalpha() and part.islower()]
    for place in found.sample(places, min(3, len(places))):
        parts[place] = found.choice(words)
    return " ".join(parts)


def sentences() -> list[str]:
    return [part for row in authored("general_heldout_text") for part in re.split(r"(?<=[.!?]) ", row["text"])]


def authored(name: str) -> list[dict]:
    return [json.loads(line) for line in (AUTHORED / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]


def turn(prompt: str, answer: str) -> list[dict]:
    return [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]


def chats(conversations: Sequence[list[dict]]) -> list[Located]:
    return [Located({"messages": said}, "chats.jsonl", line) for line, said in enumerate(conversations, 1)]


def texts(documents: Sequence[str]) -> list[Located]:
    return [Located({"text": text}, "texts.jsonl", line) for line, text in enumerate(documents, 1)]
