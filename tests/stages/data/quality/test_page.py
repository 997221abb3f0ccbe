"""quality.html and quality.md: both say everything, and nothing in the data can run or break them."""

import re
from html.parser import HTMLParser

import pytest
from markdown_it import MarkdownIt

from stages.data.findings import Finding, Seen
from stages.data.quality.page import Page, write
from stages.data.quality.samples import Piece, Rendered, Sample, lengths, sample

VOID = {"meta", "br", "line", "rect"}
HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "\"'><svg onload=alert(1)>",
    "[click](javascript:alert(1))",
    "![x](javascript:alert(1))",
    "<javascript:alert(1)>",
    "a | b || c \\| d \\\\| e",
    "`code` ``` ```\n~~~\n```",
    "# head\n\n- item\n\n| a | b |\n|---|---|\n<b>bold</b> **b** _i_ $x$",
    "</pre></mark></title></style><h1>owned</h1>",
    "{{ 7 * 7 }}{% raw %}",
    "&lt;b&gt; &#60;i&#62; &amp;",
    "one\r\ntwo\u2028three\u2029four\x85five\x0bsix",
    "half \ud83d of a pair",
]


class Tags(HTMLParser):
    """Fails on a tag that closes nothing; keeps tags with their attributes, and the text of the page."""

    def __init__(self, page):
        super().__init__()
        self.open, self.seen, self.text = [], [], ""
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


@pytest.fixture
def pages(tmp_path):
    """pages(page) -> the HTML and the Markdown as written."""

    def make(page):
        write(page, tmp_path / "quality" / "set")
        return tuple((tmp_path / "quality" / "set" / f"quality.{kind}").read_text("utf-8") for kind in ("html", "md"))

    return make


def blocks(markdown):
    """The parsed page: block tokens, each with its inline children."""
    return MarkdownIt("commonmark", {"html": True}).enable("table").parse(markdown)


def inline(tokens):
    return [child for token in tokens for child in token.children or ()]


# -- both pages say the same ----------------------------------------------------------------------------------------
def test_both_pages_have_every_section(page, pages):
    html, markdown = pages(page())
    text = re.sub("[ \n]+", " ", Tags(html).text)
    plain = markdown.replace("\\", "")
    for said in (
        "950 kept as they are + 20 repaired + 30 rejected = 1\u202f000 read",
        "near_duplicates", "3 of 970", "What to do: plain", "Accepted: plain", "plain, line 7",
        "4 answers of 3 to 5 tokens", "12 tokens, 4 trained on", "cut here at max_length; 5 tokens left out",
        "rejected: duplicate", "29 more are in rejected.jsonl",
    ):  # fmt: skip
        assert said in text and said in plain, said


def test_the_line_of_max_length_is_in_the_plot_of_whole_sequences_only(page, pages):
    html, _ = pages(page(lengths={"tokens per sequence": [10, 90], "tokens per answer": [10, 90]}))
    assert html.count('class="limit"') == 1


def test_counts_that_do_not_add_up_are_said_loudly(page, counts, pages):
    html, markdown = pages(page(counts={**counts, "rows_read": 1003}))
    said = (
        "The counts do not add up: 950 kept as they are + 20 repaired + 30 rejected ≠ 1\u202f003 read. Rows missing: 3."
    )
    assert f'<p class="alarm" role="alert">{said}</p>' in html and f"**ALARM: {said}**" in markdown


def test_trained_text_is_marked_in_the_html_and_bracketed_in_the_markdown(page, pages):
    pieces = (Piece("<|im_start|>", False, True), Piece("Hi", False), Piece("Yes", True), Piece("<|e|>", True, True))
    html, markdown = pages(page(samples=[Sample("a", 1, (Rendered(pieces, 4, 2),))]))
    assert '<b class="tok">&lt;|im_start|&gt;</b>Hi<mark>Yes<b class="tok">&lt;|e|&gt;</b></mark></pre>' in html
    assert "```text\n<|im_start|>Hi⟦Yes<|e|>⟧\n```" in markdown


def test_a_page_of_nothing_is_a_page(pages):
    html, markdown = pages(Page("empty", "sft"))
    for text in (html, markdown):
        assert "No rows were counted." in text and "Nothing was found." in text and "There is no row to show." in text
    Tags(html)


# -- nothing in the data is more than text ----------------------------------------------------------------------------
@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_only_text_in_the_html(page, pages, text):
    html, _ = pages(page(text))
    ordinary, _ = pages(page())
    found = Tags(html)
    assert [tag for tag, _ in found.seen] == [tag for tag, _ in Tags(ordinary).seen]
    for _, attributes in found.seen:
        assert not [name for name in attributes if name.startswith("on") or name in ("src", "srcset", "action")]
        assert str(attributes.get("href", "#")).startswith("#")


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_only_text_in_the_markdown(page, pages, text):
    _, markdown = pages(page(text))
    _, ordinary = pages(page())
    found, expected = blocks(markdown), blocks(ordinary)
    assert [(token.type, token.tag) for token in found] == [(token.type, token.tag) for token in expected]
    kinds = {token.type for token in found} | {child.type for child in inline(found)}
    assert not kinds & {"html_block", "html_inline", "link_open", "image", "code_inline", "em_open", "code_block"}


def test_characters_that_show_nothing_are_named(page, pages):
    text = "safe\u202egnp.exe\u202c zero\u200bwidth \x1b[31m \x00 tag\U000e0041 half\ud83d joiner\u200d می\u200cخواهم"
    for said in pages(page(text)):
        for code in ("202E", "202C", "200B", "001B", "0000", "E0041", "D83D"):
            assert f"⟨U+{code}⟩" in said
        assert not re.search("[\u202e\u202c\u200b\x1b\x00\U000e0041]", said)
        assert "joiner\u200d" in said and "می\u200cخواهم" in said  # part of how these are written


def test_right_to_left_and_chinese_texts_are_there_as_they_are(page, pages):
    for text in ("مرحبا بالعالم", "שלום עולם", "这是一个很长的中文文本", "日本語のテキスト"):
        html, markdown = pages(page(text))
        assert html.count(text) >= 10 and markdown.count(text) >= 10


def test_the_page_needs_nothing_from_outside(page, pages):
    html, _ = pages(page())
    assert not re.search(r"https?://|url\(|@import|<script|<link", html)
    ids = [attributes["id"] for _, attributes in Tags(html).seen if "id" in attributes]
    links = [attributes["href"] for tag, attributes in Tags(html).seen if tag == "a"]
    assert len(ids) == len(set(ids)) and {link.removeprefix("#") for link in links} <= set(ids)


def test_a_large_set_of_long_rows_stays_a_small_page(page, pages, tokenizer, located, rows):
    talk = [{"role": role, "content": "Keep the notice. " * 900} for role in ("user", "assistant") * 2]
    data = located([{"messages": talk}] * 30)
    seen = [Seen("a/long/path.jsonl", i, "x" * 160) for i in range(3)]
    findings = [Finding("warning", f"code_{i}", 9, 99, "m" * 300, "r" * 300, tuple(seen)) for i in range(35)]
    raw = [{"file": "a", "line": i, "code": "c", "reason": "r", "row": {"messages": talk}} for i in range(50)]
    samples, numbers = sample(data, "sft", tokenizer, 20_000, seed=0), lengths(data[:3], "sft", tokenizer)
    html, markdown = pages(page(samples=samples, lengths=numbers, findings=findings, rejected=raw))
    assert len(html.encode()) < 400_000 and len(markdown.encode()) < 400_000
