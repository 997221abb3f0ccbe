"""Rows as the trainer sees them, tokenized anew each time one goes through them: nothing but the rows' text is held."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from stages.models.chat import Example, chat_example, text_example

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass
class Tokenized:
    """The examples of conversations and documents that train something; a long document gives several."""

    tokenizer: "PreTrainedTokenizerBase"
    rows: Callable[[], Iterable[dict[str, Any]]]  # called each time, the same rows each time
    max_length: int
    read: int = field(default=0, init=False)  # rows, the last time one went through all
    rejected: int = field(default=0, init=False)  # examples that train nothing, the last time

    def __iter__(self) -> Iterator[Example]:
        self.read = self.rejected = 0
        for row in self.rows():
            self.read += 1
            for example in self._examples(row):
                if example.trained:
                    yield example
                else:
                    self.rejected += 1

    def _examples(self, row: dict[str, Any]) -> list[Example]:
        if "messages" in row:
            return [chat_example(self.tokenizer, row["messages"], self.max_length)]
        return text_example(self.tokenizer, row["text"], self.max_length)
