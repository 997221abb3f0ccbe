"""Texts of others on a page or a terminal: every character is seen, and none does anything."""

import re
import unicodedata

HIDDEN = ("Cc", "Cf", "Cs", "Zl", "Zp")  # controls, marks of direction and of width, half surrogates, rare line ends
KEPT = "\n\t\u200c\u200d"  # the joiners belong to the spelling of Persian, of Indian languages and of emoji
COLOUR = re.compile(r"(\x1b\[[\d;]*m)")  # of a terminal: changes how text looks and nothing else


class _Names(dict[int, str]):
    """Code point -> the character itself, or its name where nothing would be seen."""

    def __missing__(self, code: int) -> str:
        char = chr(code)
        hidden = unicodedata.category(char) in HIDDEN and char not in KEPT
        self[code] = f"⟨U+{code:04X}⟩" if hidden else char
        return self[code]


NAMES = _Names()


def visible(text: str) -> str:
    """The text with a name such as ⟨U+202E⟩ for every character that would show nothing or turn its neighbours."""
    return text.translate(NAMES)


def on_terminal(text: str) -> str:
    """The same with colours left in: nothing moves the cursor, sets a title or fills a clipboard."""
    return "".join(part if number % 2 else visible(part) for number, part in enumerate(COLOUR.split(text)))
