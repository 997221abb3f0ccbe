"""What stands before every prompt of a model that is told what to do instead of trained: system text and examples."""

import json
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

Messages = list[dict[str, str]]
FILE = "prompting.json"  # beside model.json


@dataclass
class Prompting:
    """A system text and `k` of the `examples` in front of a conversation; an empty one changes nothing.

    Where there are more than `k` examples, those whose questions are most like the conversation's last turn are shown,
    the most alike last: by cosine of tf-idf, as in Liu et al. 2022, "What makes good in-context examples for GPT-3?".
    """

    system: str = ""
    examples: list[Messages] = field(default_factory=list)
    k: int = 0

    @classmethod
    def read(cls, folder: Path) -> "Prompting":
        """Of the model in `folder`; an empty one for a model that has none."""
        path = folder / FILE
        return cls(**json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else cls()

    def write(self, folder: Path) -> None:
        (folder / FILE).write_text(json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

    def around(self, messages: Messages) -> Messages:
        """The conversation as this model is asked it. Its own system turn follows the system text in one turn."""
        own, turns = (messages[0]["content"], messages[1:]) if messages[0]["role"] == "system" else ("", messages)
        system = "\n\n".join(text for text in (self.system, own) if text)
        head = [{"role": "system", "content": system}] if system else []
        return [*head, *(turn for example in self._shown(turns[-1]["content"]) for turn in example), *turns]

    def _shown(self, question: str) -> list[Messages]:
        if len(self.examples) <= self.k:
            return self.examples
        vectorizer, known = self._index
        alike = (known @ vectorizer.transform([question]).T).toarray().ravel()
        return [self.examples[i] for i in alike.argsort(kind="stable")[-self.k :]]

    @cached_property
    def _index(self) -> tuple[Any, Any]:
        """The vectorizer and the examples' questions as its unit vectors, shape (examples, terms)."""
        from sklearn.feature_extraction.text import TfidfVectorizer

        vectorizer = TfidfVectorizer(sublinear_tf=True)
        return vectorizer, vectorizer.fit_transform(asked(example) for example in self.examples)


def asked(example: Messages) -> str:
    """What an example asks: all turns but the last, which answers."""
    return "\n".join(turn["content"] for turn in example[:-1])
