"""The model of languages: many texts at once are told as py3langid tells each."""

from py3langid.langid import MODEL_FILE, LanguageIdentifier

from stages.data.contract.identifier import identifier

TEXTS = [
    "The quick brown fox jumps over the lazy dog.", "Der schnelle braune Fuchs springt über den faulen Hund.", "x",
    "超次元の究極バトル", "SHOUTED ALL THE WAY", "", "12 34", "Ljuset på älven var grått den morgonen.", "ok " * 200,
    "Jeg har ikke sett det før i dag.", "\ud83d lone", "e\u0301te\u0301",
]  # fmt: skip


def test_texts_that_were_read_are_told_as_others_are():
    theirs, ours = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True), identifier()
    for ahead in ([], TEXTS, TEXTS[:2]):
        ours.read(ahead)
        assert [ours.classify(text) for text in TEXTS] == [theirs.classify(text) for text in TEXTS]
        assert [ours.likely(text, 2) for text in TEXTS] == [theirs.rank(text) for text in TEXTS]
    assert [ours.likely(text, 0) for text in TEXTS] == [[theirs.classify(text)] for text in TEXTS]
