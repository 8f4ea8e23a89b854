"""The schemas that Terraform's providers publish, for machines that cannot have the providers.

A provider's schema is also in the bindings that are made of it for other languages: each resource is
a class in TypeScript, which PyPI's package carries whole. ``published("azurerm")`` reads from there
the provider's configuration, its resources and its data sources, each as a block::

    {"attributes": {name: {"type": …, "required": …, "optional": …, "computed": …, "write_only": …}},
     "blocks": {name: {"nesting": "list" | "set" | "single", "min": 0, "max": 1, "block": …}}}

Exact there: names, types, what is required, optional and computed, what is a block, and whether it
may stand more than once. Not told, and so not held to by what is served from here: which values an
argument takes, which arguments exclude each other or force a new resource, what is sensitive, an
upper bound of blocks above one, ephemeral resources. That an argument is write-only is known by its
name alone: both providers end it with ``_wo``.

That Terraform takes every schema shows that none is malformed, not that it was read right. What was
read is held to the providers' documentation in spot checks (``tests/terraform/test_published_schemas.py``).
"""

import base64
import fcntl
import functools
import hashlib
import json
import re
import subprocess
import sys
import tarfile
import zipfile
from contextlib import suppress
from pathlib import Path

import pytest

PACKAGES = {
    "azurerm": "cdktf-cdktf-provider-azurerm==14.23.1",
    "vault": "cdktf-cdktf-provider-vault==15.6.1",
}
"""They hold the schemas of azurerm 4.55.0 and vault 5.6.0."""
FOLDER = Path(sys.prefix) / "terraform-schemas"
"""Once for all who run tests with this environment."""
READER = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:8]
"""In the name of what was read: another reader reads anew."""


@functools.cache
def published(name):
    """``{"provider": block, "resources": {type: block}, "data": {type: block}}``."""
    schemas = _downloaded_and_read(name)
    if schemas is None:
        pytest.skip(f"not run: {name}'s schema (pip cannot download)")
    return json.loads(schemas.read_bytes())


def types_in(tree, name):
    """The types of the provider that a tree of HCL names, resources and data sources alike."""
    texts = "\n".join(path.read_text(encoding="utf-8") for path in Path(tree).rglob("*.tf*"))
    return set(re.findall(rf'^\s*\w+\s+"({name}_\w+)"', texts, re.MULTILINE))


@functools.cache
def _downloaded_and_read(name):
    """The file of what was read; None where there is no package to read."""
    FOLDER.mkdir(exist_ok=True)
    schemas = FOLDER / f"{name}-{READER}.json"
    with (FOLDER / "downloading").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not schemas.exists():
            wheel = _wheel(name)
            if wheel is None:
                return None
            partial = schemas.with_suffix(".partial")
            partial.write_text(json.dumps(_read(wheel)), encoding="utf-8")
            partial.replace(schemas)
    return schemas


def _wheel(name):
    """The package, downloaded and not installed: nothing of it is ever run."""
    distribution, _, version = PACKAGES[name].partition("==")
    pattern = f"{distribution.replace('-', '_')}-{version}-*.whl"
    if not list(FOLDER.glob(pattern)):
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        options = ["--only-binary=:all:", "--retries=1", "--timeout=20", f"--dest={FOLDER}"]
        with suppress(subprocess.TimeoutExpired):  # before the test's own time is up
            download = [*command, *options, PACKAGES[name]]
            subprocess.run(download, capture_output=True, check=False, timeout=90)
    return next(FOLDER.glob(pattern), None)


def _read(wheel):
    schemas = {"provider": None, "resources": {}, "data": {}}
    for source in _sources(wheel):
        module = Module(source)
        kind, type_, block = module.construct()
        if kind == "provider":
            schemas["provider"] = block
        else:
            schemas[kind][type_] = block
    return schemas


def _sources(wheel):
    """The TypeScript of each construct, which the map of its JavaScript carries."""
    with zipfile.ZipFile(wheel) as outer:
        inner = next(name for name in outer.namelist() if name.endswith(".jsii.tgz"))
        with outer.open(inner) as stream, tarfile.open(fileobj=stream, mode="r|gz") as files:
            for file in files:
                if re.fullmatch(r"package/lib/[^/]+/index\.js", file.name):
                    script = files.extractfile(file).read()
                    encoded = script.rpartition(b"sourceMappingURL=data:application/json;base64,")
                    yield json.loads(base64.b64decode(encoded[2]))["sourcesContent"][0]


FIELD = re.compile(
    r"^  // (\w+) - computed: (\w+), optional: (\w+), required: (\w+)\n((?:.*\n){4})", re.MULTILINE
)
"""What is told of an attribute or a block, and the lines that say of which type it is."""
INPUT = re.compile(
    r'^ +(\w+): \{\n.*\n +isBlock: (\w+),\n +type: "(\w+)",\n +storageClassType: "(\w+)",',
    re.MULTILINE,
)
"""An argument as it is written out to HCL."""
MEMBER = re.compile(r"#(\w+)\}\n  \*/\n  readonly \w+(\??): ")
"""What may be given in a structure."""
KINDS = {
    "TerraformResource": "resources",
    "TerraformDataSource": "data",
    "TerraformProvider": "provider",
}
PRIMITIVES = {"string": "string", "number": "number", "boolean": "bool", "any": "dynamic"}
GETTERS = {
    "getStringAttribute": "string",
    "getNumberAttribute": "number",
    "getBooleanAttribute": "bool",
    "getStringMapAttribute": ["map", "string"],
    "getListAttribute": ["list", "string"],
    "getNumberListAttribute": ["list", "number"],
    "StringMap": ["map", "string"],
    "StringMapList": ["list", ["map", "string"]],
}


class Module:
    """One file of TypeScript: a construct, and the structures inside it."""

    def __init__(self, source):
        declarations = re.split(
            r"^export (?=class|function|interface)", source, flags=re.MULTILINE
        )[1:]
        self._of = {re.match(r"\w+ (\w+)", text)[1]: text for text in declarations}

    def construct(self):
        """Its kind, its type in Terraform, and its block."""
        for name, text in self._of.items():
            base = re.match(r"class \w+ extends cdktf\.(\w+)", text)
            if base and base[1] in KINDS:
                type_ = re.search(r'tfResourceType = "(\w+)"', text)[1]
                return KINDS[base[1]], type_, self._block(text, text, name)
        raise ValueError("a file without a construct")

    def _block(self, text, inputs, struct):
        """``text`` tells of the fields, ``inputs`` how they are written."""
        written = {name: rest for name, *rest in INPUT.findall(inputs)}
        block = {"attributes": {}, "blocks": {}}
        for name, computed, optional, required, lines in self._fields(text, written, struct):
            if name == "alias" and struct.endswith("Provider"):
                continue  # Terraform's own
            modes = {"required": required, "optional": optional, "computed": computed}
            inner, many, unordered = _structure(lines, written.get(name))
            if inner is None:
                type_ = _type(lines, written.get(name))
                block["attributes"][name] = {
                    "type": type_,
                    **modes,
                    "write_only": name.endswith("_wo"),
                }
            elif computed:  # a block that the provider fills in is an attribute for Terraform
                type_ = ["set" if unordered else "list", _object(self._struct(inner))]
                block["attributes"][name] = {"type": type_, **modes, "write_only": False}
            else:
                nesting = {"struct": "single"}.get(written[name][1], written[name][1])
                block["blocks"][name] = {
                    "nesting": nesting,
                    "min": int(required and nesting != "single"),
                    "max": int(not many and nesting != "single"),
                    "block": self._struct(inner),
                }
        return block

    def _struct(self, name):
        reference = self._of.get(f"{name}OutputReference", "")
        inputs = self._of.get(f"{name[0].lower()}{name[1:]}ToHclTerraform", "")
        return self._block(reference, inputs, name)

    def _fields(self, text, written, struct):
        found = FIELD.findall(text)
        for name, *modes, lines in found:
            named = re.search(r"""\(this, "(\w+)"|Attribute\('(\w+)'\)""", lines)
            yield (named and (named[1] or named[2])) or name, *(m == "true" for m in modes), lines
        if not found:  # of what is inside a provider's configuration, only this is told
            for name, optional in MEMBER.findall(self._of.get(struct, "")):
                yield name, False, bool(optional), not optional, ""


def _structure(lines, written):
    """What is inside it, whether it may stand more than once, and whether its order says nothing."""
    new = re.search(r"= new (\w+?)(OutputReference|List)\(this, \"\w+\"(?:, (\w+))?\)", lines)
    if new:
        return new[1], new[2] == "List", new[3] == "true"
    if written and written[0] == "true":  # in a provider's configuration
        return re.sub("List$", "", written[2]), "List" in written[2], written[1] == "set"
    return None, False, False


def _type(lines, written):
    """As Terraform's JSON writes a type."""
    if written:
        return _written_type(written[1], written[2])
    name = re.search(r"this\.(get\w+Attribute)|new cdktf\.(\w+)", lines)
    type_ = GETTERS[name[1] or name[2]]
    return ["set", type_[1]] if "Fn.tolist(" in lines else type_


def _written_type(kind, storage):
    """``("set", "stringList")`` is a set of strings, ``("list", "stringMapList")`` a list of maps."""
    if storage.endswith("List"):
        return [kind, _written_type("map", storage.removesuffix("List"))]
    if storage.endswith("Map"):
        return ["map", _written_type("simple", storage.removesuffix("Map"))]
    return PRIMITIVES[storage]


def _object(block):
    """The type of what a block holds."""
    types = {name: attribute["type"] for name, attribute in block["attributes"].items()}
    for name, nested in block["blocks"].items():
        inner = _object(nested["block"])
        types[name] = inner if nested["nesting"] == "single" else [nested["nesting"], inner]
    return ["object", types]
