"""The page of file formats, from the docstrings of the modules that own them."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from markdown_pieces import ROOT, docstring, prose, table

INTRODUCTION = """# File formats

Everything that fastdd writes is PNG or JPEG, safetensors, JSON, YAML or text. Nothing is pickled, and
nothing that is read is executed ([security](../security.md)). Files are written whole or not at all. This
page is made from the docstrings of the modules that own each format. """
FORMATS = {
    "A run folder": "fastdd/run_folder/paths.py",
    "Distilled sets": "fastdd/distilled/layouts.py",
    "Formations": "fastdd/distilled/formation.py",
    "The bank": "fastdd/bank/store.py",
    "Experts": "fastdd/experts/store.py",
    "Teachers' weights": "fastdd/teachers/card.py",
    "Labels of views": "fastdd/labels/per_view.py",
    "Files of labels": "fastdd/labels/files.py",
    "The released FKD layout": "fastdd/labels/fkd_files.py",
    "Events": "fastdd/runtime/events.py",
}
RESULTS = "fastdd/run_folder/results.py"


def format_page() -> str:
    """The page as Markdown."""
    parts = [INTRODUCTION]
    for title, file in FORMATS.items():
        parts.append(f"\n## {title}\n\n{prose(docstring(ROOT / file))}\n")
    parts.append(f"\n## Results as JSON\n\n{prose(docstring(ROOT / RESULTS))}\n")
    parts += _records()
    return "\n".join(parts)


def _records() -> Iterator[str]:
    """A table of the keys of each type of results."""
    for node in ast.parse((ROOT / RESULTS).read_text()).body:
        if not isinstance(node, ast.ClassDef):
            continue
        rows, body = [], node.body
        for place, each in enumerate(body):
            if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name):
                after = body[place + 1] if place + 1 < len(body) else None
                said = after.value if isinstance(after, ast.Expr) else None
                meaning = said.value if isinstance(said, ast.Constant) else ""
                rows.append([f"`{each.target.id}`", f"`{ast.unparse(each.annotation)}`", prose(str(meaning))])
        if rows:
            # pydantic puts the fields of the last base first
            bases = [ast.unparse(base) for base in reversed(node.bases) if ast.unparse(base) != "Record"]
            first = f" First come the keys of {' and '.join(bases)}." if bases else ""
            yield f"\n### {node.name}\n\n{prose(ast.get_docstring(node) or '')}{first}\n\n" + table(
                ["key", "type", "what it says"], rows
            )
