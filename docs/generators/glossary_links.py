"""Words of the glossary in running text: the first of each on a page leads to its entry.

Somebody who is new meets *arm* or *bank* on any page, since few read a site from its start. The entry's first
sentence is the link's title, which a pointer shows."""

from __future__ import annotations

import re
from functools import cache
from html import escape, unescape
from html.parser import HTMLParser

from markdown_pieces import ROOT

ORDINARY = {
    "candidates",
    "card",
    "house",
    "judge",
    "pairs",
    "published",
    "reduced",
    "reference",
    "rest",
    "scores",
    "signal",
    "stage",
}
"""words of the glossary that pages also use as everybody does"""
SILENT = {
    "a",
    "button",
    "code",
    "figure",
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "label",
    "pre",
    "script",
    "style",
    "svg",
}
"""elements whose text is left as it is"""
ENTRY = re.compile(r"^\| \*\*(.+?)\*\* \| (.+) \|$", re.MULTILINE)


@cache
def entries() -> dict[str, str]:
    """Words of the glossary with the first sentence of their meaning, without markup."""
    text = (ROOT / "docs/glossary.md").read_text()
    return {word: _plain(meaning) for word, meaning in ENTRY.findall(text)}


def _plain(meaning: str) -> str:
    first = re.split(r"(?<=\.) ", meaning)[0]
    return re.sub(r"\[([^\]]*)\]\([^)]*\)|[`*]", r"\1", first)


def anchor(word: str) -> str:
    """The id of a word's entry: ``soft label`` has ``soft-label``."""
    return word.lower().replace(" ", "-")


def with_anchors(html: str) -> str:
    """The glossary's page, on which each entry has an id."""
    for word in entries():
        html = html.replace(
            f"<td><strong>{word}</strong></td>", f'<td id="{anchor(word)}"><strong>{word}</strong></td>'
        )
    return html


def linked(html: str, glossary: str) -> str:
    """A page on which the first of each word in running text leads to its entry.

    Args:
        glossary: the address of the glossary from this page.
    """
    parser = _Linker(glossary)
    parser.feed(html)
    parser.close()
    return "".join(parser.written)


class _Linker(HTMLParser):
    """Copies a page; ``written`` holds its pieces."""

    def __init__(self, glossary: str) -> None:
        super().__init__(convert_charrefs=False)
        self.glossary = glossary
        self.written: list[str] = []
        self.left = {word: meaning for word, meaning in entries().items() if word not in ORDINARY}
        self.silent = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.silent += tag in SILENT
        self.written.append(self.get_starttag_text() or "")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.written.append(self.get_starttag_text() or "")

    def handle_endtag(self, tag: str) -> None:
        self.silent -= tag in SILENT
        self.written.append(f"</{tag}>")

    def handle_data(self, data: str) -> None:
        self.written.append(data if self.silent else self._with_links(data))

    def handle_entityref(self, name: str) -> None:
        self.written.append(f"&{name};")

    def handle_charref(self, name: str) -> None:
        self.written.append(f"&#{name};")

    def handle_comment(self, data: str) -> None:
        self.written.append(f"<!--{data}-->")

    def _with_links(self, text: str) -> str:
        if not self.left:
            return text
        words = "|".join(sorted(map(re.escape, self.left), key=len, reverse=True))

        def link(found: re.Match[str]) -> str:
            word = self.known(found[1])
            if word is None:  # it was linked before, in this very piece of text
                return found[0]
            meaning = self.left.pop(word)
            target = f"{self.glossary}#{anchor(word)}"
            return f'<a class="word" href="{target}" title="{escape(unescape(meaning))}">{found[0]}</a>'

        return re.sub(rf"\b({words})(?:e?s)?\b", link, text, flags=re.IGNORECASE)

    def known(self, written: str) -> str | None:
        """The entry of a word as it stands in a text; null: it is linked already."""
        return next((word for word in self.left if word.lower() == written.lower()), None)
