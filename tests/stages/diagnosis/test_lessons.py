"""Training rows of every form: what is asked, what is answered, which columns they have."""

import json

from pipeline.context import Artifact
from stages.diagnosis.lessons import Lesson, lessons


def test_rows_of_all_forms_are_read(tmp_path):
    rows = [
        {"id": "1", "task": "rule", "messages": [{"role": "system", "content": "Be brief."},
                                                 {"role": "user", "content": "Why?"},
                                                 {"role": "assistant", "content": "So."}]},
        {"id": "2", "prompt": [{"role": "user", "content": "Which?"}], "chosen": "This.", "rejected": "That."},
        {"id": "3", "text": "A document.", "slices": {"level": 2}},
    ]  # fmt: skip
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = lessons({"mine": Artifact("id", "prepare", "mine", tmp_path, "digest")})
    assert [(one.set, one.prompt, one.answer) for one in found] == [
        ("mine", "Why?", "So."), ("mine", "Which?", "This."), ("mine", "A document.", "")
    ]  # fmt: skip
    assert found[0].columns["task"] == "rule" and found[2].columns == {"id": "3", "level": "2"}
    assert isinstance(found[0], Lesson)
