"""The hook of MkDocs that adds the generated pages and fills in numbers.

Nothing here is fetched: pages come from the code, the committed results and the files of the repository's
root. A page may call a function of result_tables.py as ``{{ last("cifar10_methods_ipc10", "deda") }}``, and
name the address of the repository as ``{{ repository }}``."""

from __future__ import annotations

import ast
import contextlib
import posixpath
import re
import tempfile
from pathlib import Path

import format_pages
import glossary_links
import method_pages
import protocol_pages
from command_pages import command_page
from drawings import DRAWINGS
from markdown_pieces import ROOT
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from recipe_pages import recipe_page
from result_tables import FUNCTIONS

from fastdd.report.leaderboard import PAGE, leaderboard

ROOT_PAGES = {
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security.md",
    "CONTRIBUTING.md": "contributing.md",
    "benchmarks/README.md": "results/performance.md",
    "kernels/README.md": "reference/kernels-guide.md",
}
"""file of the repository -> the page that it becomes"""
LINK = r"(!?\[[^\]]*\])\(([^)\s]+)\)"
"""a link or picture of Markdown: its text in brackets, and where it leads"""
CALL = re.compile(r"\{\{ *(\w+)(\(.*?\))? *\}\}", re.DOTALL)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Add the methods' pages to the navigation."""
    for section in config.nav or []:
        for pages in section.values() if isinstance(section, dict) else ():
            if pages == ["methods/index.md"]:
                for kind, heading in method_pages.FAMILIES.items():
                    named = [name for name in method_pages.names() if method_pages.family(name) == kind]
                    named.sort(key=lambda name: method_pages.title(name).lower())
                    pages.append(
                        {heading: [{method_pages.title(name): f"methods/{name}.md"} for name in named]}
                    )
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add everything that is generated."""
    pages = {
        "reference/command-line.md": command_page(),
        "reference/recipe.md": recipe_page(),
        "reference/protocols.md": protocol_pages.protocol_page(),
        "reference/formats.md": format_pages.format_page(),
        **dict(method_pages.pages()),
        **{page: from_root(name, config) for name, page in ROOT_PAGES.items()},
    }
    drawn = {f"images/{name}.svg": draw() for name, draw in DRAWINGS.items()}
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(ROOT):
        made = leaderboard(["benchmarks/results"], Path(folder) / "leaderboard")
        board = {f"results/leaderboard/{PAGE}": made.read_text()}
    for path, file in pictures().items():
        files.append(File.generated(config, path, abs_src_path=str(file)))
    for path, content in (pages | drawn | board).items():
        files.append(File.generated(config, path, content=content))
    return files


def from_root(name: str, config: MkDocsConfig) -> str:
    """A file of the repository's root as a page; its links lead to pages, or to files of the repository."""
    page, folder = ROOT_PAGES[name], posixpath.dirname(name)

    def moved(found: re.Match[str]) -> str:
        target, hash_, anchor = found[2].partition("#")
        if not target or "://" in target:
            return found[0]
        path = posixpath.normpath(posixpath.join(folder, target))
        place = ROOT_PAGES.get(path, path.removeprefix("docs/") if path.startswith("docs/") else None)
        if found[1].startswith("!"):  # a picture comes along, so that no page fetches it
            return f"{found[1]}({posixpath.relpath(f'pictures/{path}', posixpath.dirname(page))})"
        if place is None:
            return f"{found[1]}({config.extra['repository']}/blob/main/{path}{hash_}{anchor})"
        return f"{found[1]}({posixpath.relpath(place, posixpath.dirname(page))}{hash_}{anchor})"

    return re.sub(LINK, moved, (ROOT / name).read_text())


def pictures() -> dict[str, Path]:
    """The pictures of the pages from the root: place in the site -> file."""
    found = {}
    for name in ROOT_PAGES:
        for link in re.finditer(LINK, (ROOT / name).read_text()):
            if link[1].startswith("!") and "://" not in link[2]:
                path = posixpath.normpath(posixpath.join(posixpath.dirname(name), link[2]))
                found[f"pictures/{path}"] = ROOT / path
    return found


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Fill in numbers and addresses."""
    up = posixpath.relpath(".", posixpath.dirname(page.file.src_uri))
    names = {"repository": config.extra["repository"], "gallery": posixpath.join(up, "gallery")}

    def filled(found: re.Match[str]) -> str:
        name, arguments = found[1], found[2]
        if arguments is None:
            return names[name]
        call = ast.parse(f"{name}{arguments}", mode="eval").body
        assert isinstance(call, ast.Call)  # by the pattern
        keywords = {each.arg: ast.literal_eval(each.value) for each in call.keywords if each.arg}
        return FUNCTIONS[name](*map(ast.literal_eval, call.args), **keywords)

    for _ in range(2):  # what a function wrote may name the repository
        markdown = CALL.sub(filled, markdown)
    return markdown


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let the first of each word of the glossary lead to its entry, on pages that are read through."""
    path = page.file.src_uri
    if path == "glossary.md":
        return glossary_links.with_anchors(html)
    if path.startswith("reference/") or path in ROOT_PAGES.values():
        return html
    glossary = files.get_file_from_path("glossary.md")
    assert glossary is not None  # it is in the navigation
    return glossary_links.linked(html, glossary.url_relative_to(page.file))
