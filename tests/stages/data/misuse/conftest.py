"""Documents of two made-up handbooks, general prose and requests of the project's own."""

import pytest
from misuse_rows import BEES, WELDS, authored, chats, handbook, turn


@pytest.fixture(scope="session")
def bees():
    return handbook(BEES, 80)


@pytest.fixture(scope="session")
def welds():
    return handbook(WELDS, 80)


@pytest.fixture(scope="session")
def prose():
    """Short passages about anything."""
    return [row["text"] for row in authored("general_heldout_text")]


@pytest.fixture(scope="session")
def requests():
    """Requests with their answers, as chat rows."""
    rows = authored("general_train")[:200]
    return chats([row.get("messages") or turn(row["prompt"], row["response"]) for row in rows])
