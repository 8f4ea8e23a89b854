"""Reads a Terraform file as what it says: blocks, arguments, references, and the comments beside them.

Every expression keeps its text as it was written, for tables and for rules; nothing is evaluated.
"""

from __future__ import annotations

import functools
import re
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hcl2.api import parses_to_tree
from lark import Token, Tree, UnexpectedInput

HEREDOC = re.compile(r"\A<<-?(\w+)\n(.*?)\n?\s*\1\s*\Z", re.DOTALL)
ESCAPES = {"n": "\n", "t": "\t"}
INTERPOLATION = re.compile(r"[$%]\{[^}]*\}")


@dataclass(frozen=True)
class Expression:
    """The right side of an argument."""

    text: str
    """As it was written, moved to the left margin."""
    code: str
    """The same without comments and without what strings say literally: what refers to something."""
    line: int

    @property
    def literal(self) -> str:
        """What a plain string or heredoc says; interpolations stay as they are written."""
        heredoc = HEREDOC.match(self.text)
        if heredoc:
            return textwrap.dedent(heredoc[2]).strip()
        if not self.text.startswith('"'):
            return self.text
        return re.sub(r"\\(.)", lambda found: ESCAPES.get(found[1], found[1]), self.text[1:-1])


@dataclass(frozen=True)
class Block:
    """``kind "label" "label" { … }``"""

    kind: str
    labels: tuple[str, ...]
    arguments: dict[str, Expression]
    """By name, in the order written."""
    blocks: tuple[Block, ...]
    file: Path
    first_line: int
    last_line: int
    order: tuple[str, ...]
    """Names of arguments and kinds of inner blocks, as they follow each other."""

    @property
    def name(self) -> str:
        """The last label: what others call it by."""
        return self.labels[-1] if self.labels else ""

    def said(self, argument: str) -> str:
        """A plain argument's words; empty where it is left out."""
        return self.arguments[argument].literal if argument in self.arguments else ""

    def everywhere(self) -> Iterator[Block]:
        """It and all within it."""
        yield self
        for block in self.blocks:
            yield from block.everywhere()

    def code(self) -> str:
        """All that its expressions refer to."""
        return "\n".join(e.code for b in self.everywhere() for e in b.arguments.values())


@dataclass(frozen=True)
class Source:
    """One file."""

    path: Path
    blocks: tuple[Block, ...]
    comments: tuple[tuple[int, str], ...]
    """Line number and text of each line of comment."""
    tree: Tree[Token]


@functools.cache
def read(path: Path) -> Source:
    """The file, parsed once.

    Ends the program, by name of file and line, where the parser cannot read it. Of valid files that is
    known of those with a line of comment before an operator: put it above the expression.
    """
    return _Reader(path).source()


class _Reader:
    """A parse tree, and the text it stands for."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.text = path.read_text(encoding="utf-8")
        try:
            self.tree = parses_to_tree(self.text)
        except UnexpectedInput as error:
            sys.exit(f"error: {path}:{error.line} — python-hcl2 cannot read this")
        self.code = [" "] * len(self.text)
        """The text, with blanks for comments and for the literal parts of strings."""
        self.beside = list(self.text)
        """The text, with blanks for all but comments."""
        for token in self.tree.scan_values(lambda value: isinstance(value, Token)):
            self._place(token)

    def source(self) -> Source:
        (body,) = self.tree.children
        lines = enumerate("".join(self.beside).splitlines(), 1)
        comments = tuple((number, line.strip()) for number, line in lines if line.strip())
        blocks = tuple(self._block(child) for child in body.children if child.data == "block")
        return Source(self.path, blocks, comments, self.tree)

    def _place(self, token: Token) -> None:
        if token.type == "NL_OR_COMMENT":
            return
        start, end = token.start_pos, token.end_pos
        self.beside[start:end] = re.sub(r"[^\n]", " ", self.text[start:end])
        if token.type == "STRING_CHARS":
            return
        if token.type.startswith("HEREDOC"):
            for found in INTERPOLATION.finditer(self.text, start, end):
                self.code[found.start() : found.end()] = found[0]
        else:
            self.code[start:end] = self.text[start:end]

    def _block(self, tree: Tree[Token]) -> Block:
        heads = [child for child in tree.children if isinstance(child, Tree)]
        *names, body = [head for head in heads if head.data != "new_line_or_comment"]
        kind, *labels = (self._slice(name).strip('"') for name in names)
        inner = [child for child in body.children if child.data in ("attribute", "block")]
        return Block(
            kind=kind,
            labels=tuple(labels),
            arguments=dict(self._argument(i) for i in inner if i.data == "attribute"),
            blocks=tuple(self._block(i) for i in inner if i.data == "block"),
            file=self.path,
            first_line=tree.meta.line,
            last_line=tree.meta.end_line,
            order=tuple(self._slice(i.children[0]) for i in inner),
        )

    def _argument(self, tree: Tree[Token]) -> tuple[str, Expression]:
        name, _, value = tree.children
        start, end = value.meta.start_pos, value.meta.end_pos
        margin = " " * (tree.meta.column - 1)
        text = self.text[start:end].strip().replace(f"\n{margin}", "\n")
        code = "".join(self.code[start:end]).strip()
        return self._slice(name), Expression(text, code, value.meta.line)

    def _slice(self, tree: Tree[Token]) -> str:
        return self.text[tree.meta.start_pos : tree.meta.end_pos]
