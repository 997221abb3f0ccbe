"""What a verb answers: an exit code and a document; a mistake becomes one message instead of a traceback."""

import argparse
import os
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline.display import Screen
from pipeline.errors import JourneymanError

Answer = tuple[int, Any]  # exit code, and the document for --json


def guarded(options: argparse.Namespace, screen: Screen, action: Callable[[], Answer]) -> Answer:
    """The action's answer, or for an error its exit code and one message."""
    try:
        return action()
    except KeyboardInterrupt:
        return failed(screen, "interrupted; the same command continues", 130)
    except Exception as error:
        if options.debug:
            traceback.print_exc()
        if isinstance(error, JourneymanError):
            return failed(screen, str(error), error.exit_code)
        if isinstance(error, OSError):
            return failed(screen, _system(error, options), 5)
        return failed(screen, f"unexpected {type(error).__name__}: {error} (--debug shows where)", 5)


def failed(screen: Screen, text: str, code: int) -> Answer:
    screen.error(text)
    return code, {"error": text, "exit": code}


def interrupt(*_: object) -> None:
    """Handler of SIGTERM: whoever ends the command means what a person does with Ctrl-C."""
    raise KeyboardInterrupt


def _system(error: OSError, options: argparse.Namespace) -> str:
    """A file system's complaint: nearly always the store's disk."""
    from pipeline.disk import unwritable

    given = [word.partition("=")[2] for word in options.words if word.startswith("store.root=")]
    return unwritable(error, Path(given[-1] if given else os.environ.get("JOURNEYMAN_STORE", "store")))
