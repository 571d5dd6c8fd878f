"""The page of the command line: every command and option, as the parser of fastdd knows them."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from markdown_pieces import code, escaped, table

import fastdd.cli

INTRODUCTION = """# Command line

Every command, with its options. This page is made from the parser of the version that it documents, so
`fastdd COMMAND --help` says the same. Commands that take a recipe also take `key=value` texts, which
[override values](recipe.md).

| exit status | what it means |
|---|---|
| 0 | all was done |
| 1 | problems were found (`check`, `data check`) |
| 2 | bad input, too little memory, or students that diverged; one line says what to do |
| 128 + number | a signal ended the command; the same command continues |
"""


def commands() -> Iterator[tuple[str, str, argparse.ArgumentParser]]:
    """Each command, as (name, one line on it, its parser); a command of commands stands before those."""
    yield from _commands("fastdd", fastdd.cli._parser())


def _commands(
    name: str, parser: argparse.ArgumentParser
) -> Iterator[tuple[str, str, argparse.ArgumentParser]]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            helps = {choice.dest: choice.help or "" for choice in action._choices_actions}
            for word, command in action.choices.items():
                yield f"{name} {word}", helps.get(word, ""), command
                yield from _commands(f"{name} {word}", command)


def command_page() -> str:
    """The page as Markdown."""
    found = list(commands())
    overview = table(
        ["command", "what it does"],
        [[f"[{code(name)}](#{name.replace(' ', '-')})", escaped(text)] for name, text, _ in found],
    )
    return "\n".join([INTRODUCTION, overview, *(_section(*each) for each in found)])


def _section(name: str, text: str, parser: argparse.ArgumentParser) -> str:
    described = parser.description or text
    sentence = described[:1].upper() + described[1:].rstrip(".") + "."
    parts = [f"\n## {name}\n", escaped(sentence) + "\n"]
    actions = [each for each in parser._actions if not isinstance(each, argparse._HelpAction)]
    if any(isinstance(each, argparse._SubParsersAction) for each in actions):
        return "\n".join(parts)
    formatter = argparse.HelpFormatter(prog=name, width=100)
    formatter.add_usage(parser.usage, parser._actions, parser._mutually_exclusive_groups, prefix="")
    parts.append("```text\n" + formatter.format_help().strip() + "\n```\n")
    if actions:
        parts.append(table(["argument", "what it says"], [_row(each) for each in actions]))
    return "\n".join(parts)


def _row(action: argparse.Action) -> list[str]:
    value = action.metavar or (
        "{" + ",".join(map(str, action.choices)) + "}" if action.choices else action.dest.upper()
    )
    takes = "" if action.nargs == 0 else f" {value}"
    names = [f"{option}{takes}" for option in action.option_strings] or [str(value)]
    said = (action.help or "") % {**vars(action), "prog": "fastdd"}
    return [", ".join(map(code, names)), escaped(said)]
