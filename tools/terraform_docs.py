"""Writes what the Terraform modules repeat: the tables in their README, and their copies of policies.

    python tools/terraform_docs.py [--check]

The tables (requirements, modules, resources, inputs, outputs) say what the ``*.tf`` files beside the README
say, between two marks that the README has. A file in ``policies/`` is that of the same name in
``src/cmzon_secrets/permissions``. ``--check`` writes nothing: it names the files that are not so.
"""

from __future__ import annotations

import argparse
import html
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from terraform_source import Block, Expression, read

ROOT = Path(__file__).resolve().parents[1]
PERMISSIONS = ROOT / "src" / "cmzon_secrets" / "permissions"
BEGIN, END = "<!-- BEGIN_TF_DOCS -->", "<!-- END_TF_DOCS -->"
KINDS = {"resource": "resource", "data": "data source", "ephemeral": "ephemeral resource"}


class Misplaced(Exception):
    """Something has no place, or a place that is not its own."""


def main() -> None:
    """Write them, or say which are not as they would be written."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if one differs")
    check = parser.parse_args().check
    settled = [settle(module, check=check) for module in modules(ROOT / "terraform")]
    sys.exit(not all(settled))


def settle(module: Path, *, check: bool) -> bool:
    """Write what is outdated, or say so; whether there is nothing left to do."""
    try:
        stale = list(outdated(module))
    except Misplaced as error:
        print(f"error: {error}", file=sys.stderr)
        return False
    for path, text in stale:
        if check:
            print(f"{path} is not as `make terraform` writes it")
        else:
            path.write_text(text, encoding="utf-8")
            print(path)
    return not (check and stale)


def modules(terraform: Path) -> list[Path]:
    """The folders of modules, and of the modules inside them."""
    patterns = ("modules/*", "modules/*/modules/*")
    found = {file.parent for pattern in patterns for file in terraform.glob(f"{pattern}/*.tf")}
    return sorted(found)


def outdated(module: Path) -> Iterator[tuple[Path, str]]:
    """Each file that is not as it should be, and how it should be."""
    for path, text in [readme(module), *policies(module)]:
        if path.read_text(encoding="utf-8") != text:
            yield path, text


def readme(module: Path) -> tuple[Path, str]:
    """A module's README with the tables that belong there."""
    path = module / "README.md"
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise Misplaced(f"{path} — the tables have no place; put the lines {BEGIN} and {END} there")
    return path, f"{before}{begin}\n{tables(module)}\n{end}{after}"


def policies(module: Path) -> Iterator[tuple[Path, str]]:
    """The copies that a module has, as the package has them."""
    for copy in sorted(module.glob("policies/*")):
        original = PERMISSIONS / copy.name
        if not original.exists():
            raise Misplaced(f"{copy} — permissions has no file of that name; keep others elsewhere")
        yield copy, original.read_text(encoding="utf-8")


def tables(module: Path) -> str:
    """All tables of a module; one with nothing to say is left out."""
    blocks = [block for file in sorted(module.glob("*.tf")) for block in read(file).blocks]
    of_kind = {kind: [b for b in blocks if b.kind == kind] for kind in {b.kind for b in blocks}}
    made = [b for kind in KINDS for b in of_kind.get(kind, [])]
    sections = [
        ("Requirements", ("Name", "Version"), map(_cells, _requirements(of_kind))),
        ("Modules", ("Name", "Source", "Version"), map(_module, of_kind.get("module", []))),
        ("Resources", ("Name", "Kind"), sorted(map(_resource, made))),
        (
            "Inputs",
            ("Name", "Description", "Type", "Default", "Required"),
            map(_input, of_kind.get("variable", [])),
        ),
        ("Outputs", ("Name", "Description"), map(_output, of_kind.get("output", []))),
    ]
    written = (_table(title, heads, list(rows)) for title, heads, rows in sections)
    return "\n\n".join(filter(None, written))


def _table(title: str, heads: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    rule = [":---:" if head == "Required" else "---" for head in heads]
    lines = (f"| {' | '.join(cells)} |" for cells in [heads, rule, *rows])
    return f"## {title}\n\n" + "\n".join(lines) if rows else ""


def _requirements(of_kind: dict[str, list[Block]]) -> Iterator[tuple[str, str]]:
    """Terraform itself, then the providers by name."""
    for settings in of_kind.get("terraform", []):
        if "required_version" in settings.arguments:
            yield "terraform", settings.said("required_version")
        for block in settings.blocks:
            if block.kind == "required_providers":
                for name, asked in sorted(block.arguments.items()):
                    version = re.search(r'version\s*=\s*"([^"]*)"', asked.text)
                    yield name, version[1] if version else "any"


def _cells(row: Iterable[str]) -> tuple[str, ...]:
    return tuple(_code(cell) for cell in row)


def _module(block: Block) -> tuple[str, ...]:
    version = block.said("version")
    return _code(block.name), _code(block.said("source")), _code(version) if version else "n/a"


def _resource(block: Block) -> tuple[str, str]:
    return _code(".".join(block.labels)), KINDS[block.kind]


def _input(block: Block) -> tuple[str, ...]:
    default = block.arguments.get("default")
    return (
        _code(block.name),
        _prose(block.said("description")),
        _value(block.arguments.get("type")),
        _value(default),
        "no" if default else "yes",
    )


def _output(block: Block) -> tuple[str, str]:
    return _code(block.name), _prose(block.said("description"))


def _prose(text: str) -> str:
    """Paragraphs and lists in one cell; the lines of a paragraph are joined."""
    joined = re.sub(r"(?<!\n)\n(?!\n|\s*[-*] )", " ", text)
    return re.sub(r"\s*\n\s*", "<br/>", joined).replace("|", r"\|")


def _value(value: Expression | None) -> str:
    """A type or default: in one line as code, in several as they are laid out."""
    if value is None:
        return "n/a"
    if "\n" not in value.text:
        return _code(value.text)
    escaped = html.escape(value.text, quote=False)
    for sign in "|*`\\":  # what Markdown would read in them
        escaped = escaped.replace(sign, f"&#{ord(sign)};")
    return f"<pre>{escaped}</pre>".replace("\n", "<br/>")


def _code(text: str) -> str:
    fence = "``" if "`" in text else "`"
    return f"{fence}{text}{fence}".replace("|", r"\|")


if __name__ == "__main__":
    main()
