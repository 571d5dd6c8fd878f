"""Words of the glossary: each page leads from the first of each to its entry, and the text stays as it is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def _generators(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    import sys

    monkeypatch.syspath_prepend(ROOT / "docs/generators")
    yield
    for name in ("glossary_links", "markdown_pieces"):
        sys.modules.pop(name, None)


def test_the_first_of_each_word_is_linked_and_no_other() -> None:
    from glossary_links import linked

    html = linked("<p>An arm, two <em>arms</em> and soft labels &amp; banks.</p>", "../glossary/")
    assert re.findall(r'href="([^"]+)"', html) == [
        "../glossary/#arm", "../glossary/#soft-label", "../glossary/#bank",
    ]  # fmt: skip
    assert re.sub(r"</?a[^>]*>", "", html) == "<p>An arm, two <em>arms</em> and soft labels &amp; banks.</p>"
    assert 'title="One of the image sets that a run compares' in html


@pytest.mark.parametrize(
    "html",
    [
        "<h2>The bank</h2>",
        "<pre><code>bank</code></pre>",
        '<a href="x">the <em>bank</em></a>',
        "<p>embankment, armour</p>",
        '<img alt="a bank" src="x">',
        "<svg><text>bank</text></svg>",
        "<!-- bank -->",
    ],
)
def test_headings_code_links_and_other_words_are_left_alone(html: str) -> None:
    from glossary_links import linked

    assert linked(html, "glossary/") == html


def test_every_entry_has_a_meaning_in_whole_sentences_and_stands_once() -> None:
    from glossary_links import ENTRY, entries, with_anchors

    rows = ENTRY.findall((ROOT / "docs/glossary.md").read_text())
    words = [word for word, _ in rows]
    assert len(words) == len(set(words)) == len(entries())
    assert all(meaning.endswith((".", ".)")) for _, meaning in rows)
    assert 'id="soft-label"' in with_anchors("<td><strong>soft label</strong></td>")


def test_words_with_an_ordinary_sense_are_entries() -> None:
    from glossary_links import ORDINARY, entries

    assert set(entries()) >= ORDINARY
