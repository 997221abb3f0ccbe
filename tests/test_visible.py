"""Characters that show nothing or act on a terminal are named, on pages and on the screen; letters are kept."""

import pytest

from pipeline.display import Screen
from pipeline.visible import on_terminal, visible

ATTACKS = {
    "title": "\x1b]0;owned\x07",
    "clipboard": "\x1b]52;c;cm0gLXJmIH4=\x07",
    "clear": "\x1b[2J\x1b[H",
    "overwritten line": "refused\rpassed",
    "one-byte control": "\x9b2J",
    "turned text": "\u202egpj.exe",
    "backspaces": "no\x08\x08yes",
}


def controls(text):
    """What a terminal would act on, beside ends of lines."""
    return [char for char in text if (not char.isprintable() and char != "\n")]


def test_characters_that_show_nothing_are_named_and_those_of_a_script_are_kept():
    assert visible("a\u202eb\r\x00\ud83d\u2028") == "a⟨U+202E⟩b⟨U+000D⟩⟨U+0000⟩⟨U+D83D⟩⟨U+2028⟩"
    assert visible("a\tb\nmi\u200c\u200d\u00a0 é語") == "a\tb\nmi\u200c\u200d\u00a0 é語"


def test_a_terminal_keeps_its_colours():
    assert on_terminal("\x1b[31mFAILED\x1b[0m sft\x1b[2J") == "\x1b[31mFAILED\x1b[0m sft⟨U+001B⟩[2J"


@pytest.mark.parametrize("attack", ATTACKS)
def test_the_screen_shows_what_stands_in_data_and_does_nothing_of_it(capsys, attack):
    screen = Screen()
    screen.say(f"slice {ATTACKS[attack]}")
    screen.rows([("name", ATTACKS[attack])])
    screen.error(ATTACKS[attack])
    shown = capsys.readouterr()
    assert controls(shown.out + shown.err) == [] and shown.out.count("⟨U+") >= 2


def test_a_line_in_place_is_cleared_and_its_text_does_nothing(capsys):
    Screen().rewrite("step 3\x1b[2J")
    assert capsys.readouterr().out == "\r\x1b[2Kstep 3⟨U+001B⟩[2J"


def test_what_a_stage_prints_is_shown_and_kept_in_its_log_as_it_came(journeyman, project):
    (project.path / "trouble.txt").write_text("say  50%\rdone\x1b]0;owned\x07")
    done = journeyman("run")
    assert " 50%\n" in done.err  # a progress bar goes on below
    assert done.code == 0 and "⟨U+001B⟩]0;owned⟨U+0007⟩" in done.err and controls(done.err + done.out) == []
    logs = [path.read_text() for path in project.store.rglob("log.txt")]
    assert any("\x1b]0;owned\x07" in text for text in logs)
