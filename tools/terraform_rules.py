"""What our Terraform modules keep to: tflint's rules for a module, and those of this project.

Each rule takes a folder of ``*.tf`` files and names what breaks it, ``FILE:LINE: WHAT``. The tests run them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from lark import Tree
from terraform_source import Block, Expression, Source, read

SNAKE_CASE = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
WAIVER = re.compile(r"# checkov:skip=CKV2?_[A-Z0-9]+_\d+:(.*)")
FEWEST_WORDS = 4
"""Of a reason."""

FILES = ("main.tf", "variables.tf", "outputs.tf", "versions.tf")
MANAGED = ("resource", "data", "ephemeral")
NAMED = (*MANAGED, "variable", "output", "module")

SECRET = re.compile(
    r"(\w+_)?(token|password|passphrase|client_secret|secret_string|secret_value|access_key"
    r"|connection_string|private_key|credentials?)(_wo)?|((app)?role_)?secret_id"
)
"""Names of inputs and outputs that are secrets, not places of secrets."""

SECRET_ATTRIBUTE = re.compile(
    r"\.(secret_string|secret_binary|client_secret|password|private_key(_pem)?|client_token"
    r"|(primary|secondary)_\w*(access_key|connection_string)|connection_string|wrapping_token)\b"
)

KEPT_IN_STATE = {
    "aws_iam_access_key": (),
    "aws_secretsmanager_random_password": (),
    "aws_secretsmanager_secret_version": ("secret_string", "secret_binary"),
    "azurerm_key_vault_secret": ("value",),
    "vault_approle_auth_backend_login": (),
    "vault_approle_auth_backend_role_secret_id": (),
    "vault_generic_secret": (),
    "vault_kv_secret": (),
    "vault_kv_secret_v2": ("data_json",),
    "vault_token": (),
}
"""Resources that keep a secret in the state: in these arguments, or with none named in any case."""


def sources(folder: Path) -> list[Source]:
    """Its files, parsed."""
    return [read(file) for file in sorted(folder.glob("*.tf"))]


def untyped_variables(folder: Path) -> Iterator[str]:
    """Inputs that take anything."""
    return _without("type", folder, "variable")


def undocumented(folder: Path) -> Iterator[str]:
    """Inputs and outputs without a description."""
    return _without("description", folder, "variable", "output")


def other_names(folder: Path) -> Iterator[str]:
    """Names that are not in ``snake_case``."""
    for block in _blocks(folder, *NAMED):
        if not SNAKE_CASE.fullmatch(block.name):
            yield f"{_at(block)}: {block.kind} {block.name}"
    for block, name, value in _locals(folder):
        if not SNAKE_CASE.fullmatch(name):
            yield f"{_at(block, value.line)}: local {name}"


def unused_variables(folder: Path) -> Iterator[str]:
    """Inputs that nothing but their own validation reads."""
    for block in _blocks(folder, "variable"):
        if not _referred(rf"\bvar\.{block.name}\b", folder, besides=block):
            yield f"{_at(block)}: variable {block.name}"


def unused_locals(folder: Path) -> Iterator[str]:
    """Values that nothing reads."""
    for block, name, value in _locals(folder):
        if not _referred(rf"\blocal\.{name}\b", folder):
            yield f"{_at(block, value.line)}: local {name}"


def unused_data(folder: Path) -> Iterator[str]:
    """What is asked of a provider, and not used; one with a condition checks something."""
    for block in _blocks(folder, "data", "ephemeral"):
        address = ".".join((block.kind, *block.labels))
        checks = any(inner.kind == "lifecycle" for inner in block.blocks)
        if not checks and not _referred(rf"\b{re.escape(address)}\b", folder, besides=block):
            yield f"{_at(block)}: {address}"


def loose_versions(folder: Path) -> Iterator[str]:
    """A missing version of Terraform, and providers without a source, a lower and an upper bound."""
    if not any(b.said("required_version") for b in _blocks(folder, "terraform")):
        yield f"{folder.name}: no required_version"
    asked = _required_providers(folder)
    for name, value in asked.items():
        version = re.search(r'version\s*=\s*"([^"]*)"', value)
        bounds = version[1] if version else ""
        if "source" not in value or not (
            re.search(r">=|~>", bounds) and re.search(r"<|~>", bounds)
        ):
            yield f"versions.tf: provider {name} lacks its source, a lower or an upper bound"


def provider_mismatches(folder: Path) -> Iterator[str]:
    """Providers that are used and not required, or required and not used."""
    used = {_provider(block) for block in _blocks(folder, *MANAGED)} - {"terraform"}
    handed = "\n".join(block.code() for block in _blocks(folder, "module"))
    required = set(_required_providers(folder))
    yield from (f"versions.tf: {name} is not required" for name in sorted(used - required))
    for name in sorted(required - used):
        if not re.search(rf"\b{name}(\.\w+)?\b", handed):
            yield f"versions.tf: {name} is not used"


def misplaced(folder: Path) -> Iterator[str]:
    """Missing files of the standard structure, and blocks in another file than theirs."""
    there = {file.name for file in folder.glob("*.tf")}
    yield from (f"{name}: is missing" for name in FILES if name not in there)
    homes = {"variable": "variables.tf", "output": "outputs.tf", "terraform": "versions.tf"}
    for block in _blocks(folder, *homes):
        if block.file.name != homes[block.kind]:
            yield f"{_at(block)}: {block.kind} {block.name}"


def other_comments(folder: Path) -> Iterator[str]:
    """Comments that do not begin with ``#``."""
    for source in sources(folder):
        for line, text in source.comments:
            if not text.startswith("#"):
                yield f"{source.path.name}:{line}: {text}"


def unpinned_modules(folder: Path) -> Iterator[str]:
    """Modules from elsewhere, of whatever version is there on the day."""
    for block in _blocks(folder, "module"):
        source = block.said("source")
        pinned = block.said("version") or re.search(r"[?&]ref=\w", source)
        if not source.startswith(("./", "../")) and not pinned:
            yield f"{_at(block)}: {source}"


def outdated_expressions(folder: Path) -> Iterator[str]:
    """``"${x}"`` for ``x``, ``x.0`` for ``x[0]``, ``lookup`` of two arguments, and ``== []``, never true."""
    for source in sources(folder):
        for tree in source.tree.iter_subtrees():
            if any(holds(tree) for holds in (_only_interpolation, _dotted_index, _short_lookup)):
                yield f"{source.path.name}:{tree.meta.line}: {tree.data}"
        for block in source.blocks:
            for inner in block.everywhere():
                for value in inner.arguments.values():
                    if re.search(r"[!=]=\s*\[\s*\]", value.code):
                        yield f"{source.path.name}:{value.line}: compared with []"


def repeated_keys(folder: Path) -> Iterator[str]:
    """Keys that a map has twice: the second wins, without a word."""
    for source in sources(folder):
        for tree in source.tree.find_data("object"):
            keys = Counter(_text(elem.children[0]) for elem in _children(tree, "object_elem"))
            for key in (key for key, times in keys.items() if times > 1):
                yield f"{source.path.name}:{tree.meta.line}: {key}"


def late_repetition(folder: Path) -> Iterator[str]:
    """``count`` or ``for_each`` below other arguments, where a reader has missed it."""
    for block in _blocks(folder, *MANAGED, "module"):
        for name in {"count", "for_each"} & set(block.order[1:]):
            if block.kind != "module" or block.order.index(name) > 1:  # below its source
                yield f"{_at(block)}: {name} of {'.'.join(block.labels)}"


def bare_waivers(folder: Path) -> Iterator[str]:
    """Waivers of checkov's rules outside the block they are for, or without a reason of some words."""
    for source in sources(folder):
        for line, text in source.comments:
            if "checkov:" in text:
                waiver = WAIVER.fullmatch(text)
                explained = waiver and len(waiver[1].split()) >= FEWEST_WORDS
                inside = any(b.first_line < line < b.last_line for b in source.blocks)
                if not (explained and inside):
                    yield f"{source.path.name}:{line}: {text}"


def nameless_messages(folder: Path) -> Iterator[str]:
    """Refusals of an input that do not say which."""
    for block in _blocks(folder, "variable"):
        for inner in block.blocks:
            if inner.kind == "validation" and block.name not in inner.said("error_message"):
                yield f"{_at(inner)}: {block.name}"


def secret_outputs(folder: Path) -> Iterator[str]:
    """Outputs that are a secret, by name, by what they read or because they say so."""
    for block in _blocks(folder, "output"):
        value = block.arguments["value"].code
        if (
            SECRET.fullmatch(block.name)
            or SECRET_ATTRIBUTE.search(value)
            or block.said("sensitive")
        ):
            yield f"{_at(block)}: {block.name}"


def remembered_secrets(folder: Path) -> Iterator[str]:
    """Secrets that reach the state or a plan: inputs that are not ephemeral, resources that keep them."""
    for block in _blocks(folder, "variable"):
        if SECRET.fullmatch(block.name) and block.said("ephemeral") != "true":
            yield f"{_at(block)}: {block.name} is not ephemeral"
    for block in _blocks(folder, "resource", "data"):
        kept = KEPT_IN_STATE.get(block.labels[0])
        if kept is not None and (not kept or block.kind == "data" or {*kept} & {*block.arguments}):
            yield f"{_at(block)}: {'.'.join(block.labels)}"


def _without(argument: str, folder: Path, *kinds: str) -> Iterator[str]:
    for block in _blocks(folder, *kinds):
        if not block.said(argument):
            yield f"{_at(block)}: {block.kind} {block.name} has no {argument}"


def _blocks(folder: Path, *kinds: str) -> Iterator[Block]:
    for source in sources(folder):
        yield from (block for block in source.blocks if block.kind in kinds)


def _locals(folder: Path) -> Iterator[tuple[Block, str, Expression]]:
    for block in _blocks(folder, "locals"):
        for name, value in block.arguments.items():
            yield block, name, value


def _referred(pattern: str, folder: Path, besides: Block | None = None) -> bool:
    blocks = (block for source in sources(folder) for block in source.blocks)
    return any(re.search(pattern, block.code()) for block in blocks if block is not besides)


def _required_providers(folder: Path) -> dict[str, str]:
    settings = [inner for block in _blocks(folder, "terraform") for inner in block.blocks]
    found = [inner.arguments for inner in settings if inner.kind == "required_providers"]
    return {name: value.text for arguments in found for name, value in arguments.items()}


def _provider(block: Block) -> str:
    """Which provider a block is made by: the one it names, else the one that its type begins with."""
    return block.said("provider").partition(".")[0] or block.labels[0].partition("_")[0]


def _only_interpolation(tree: Tree) -> bool:
    if tree.data != "string":
        return False
    parts = list(_children(tree, "string_part"))
    return len(parts) == 1 and any(_children(parts[0], "interpolation"))


def _dotted_index(tree: Tree) -> bool:
    return tree.data == "short_index"


def _short_lookup(tree: Tree) -> bool:
    if tree.data != "function_call" or _text(tree.children[0]) != "lookup":
        return False
    (given,) = _children(tree, "arguments")
    return sum(isinstance(c, Tree) and c.data != "new_line_or_comment" for c in given.children) == 2


def _children(tree: Tree, data: str) -> Iterable[Tree]:
    return (c for c in tree.children if isinstance(c, Tree) and c.data == data)


def _text(tree: Tree) -> str:
    return "".join(str(token) for token in tree.scan_values(lambda _: True))


def _at(block: Block, line: int | None = None) -> str:
    return f"{block.file.name}:{line or block.first_line}"
