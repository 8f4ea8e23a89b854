"""A provider for Terraform, of published schemas: for modules whose provider cannot be had.

Terraform checks a configuration against the schema by itself, so that what the real provider would
refuse for its shape is refused here too. What a resource does is up to its `Actor`; one without an
actor is kept nowhere, and what a provider computes of it is made up. ``TF_REATTACH_PROVIDERS`` tells
Terraform where the provider listens; a binary is then neither looked for nor started::

    with published_provider("vault", {"vault_mount": Mount()}, tree=module) as environment:
        terraform(module, environment=environment).init()
"""

import hashlib
import json
import os
from contextlib import contextmanager

import pytest

from servers.terraform_schemas import published, types_in


class Actor:
    """What a resource does. Values are dictionaries by attribute and block; None is *not set*.

    An answer may leave out what stays as it was; what the provider computes is null until it is
    told. The text of an exception is the error that Terraform shows.
    """

    replaced_for = ()
    """The attributes whose change needs a new resource; no published schema tells them."""

    def __init__(self, create=None):
        if create is not None:
            self.create = create

    def create(self, values):
        """Make what the configuration says, its write-only values included; what is known then."""
        return {}

    def read(self, state):
        """How it is now; None where it is gone."""
        return state

    def update(self, state, values):
        return {}

    def delete(self, state):
        pass


class DataSource:
    """``read``: what a configuration finds."""

    def __init__(self, read):
        self.read = read


class MadeUp(Actor):
    """Kept nowhere: what is computed is of the right type and no more.

    A text is another for each that is configured otherwise, and the same whenever it is asked for.
    """

    def __init__(self, type_, block):
        self._type, self._block = type_, block

    def create(self, values):
        mark = hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:8]
        return self._filled(self._block, values, mark)

    read = create

    def update(self, state, values):
        return self.create(values)

    def _filled(self, block, values, mark):
        filled = dict(values)
        for name, attribute in block["attributes"].items():
            if attribute["computed"] and values[name] is None:
                filled[name] = self._value(name, attribute["type"], mark)
        for name, nested in block["blocks"].items():
            if nested["nesting"] != "single":
                filled[name] = [self._filled(nested["block"], one, mark) for one in values[name]]
        return filled

    def _value(self, name, type_, mark):
        if isinstance(type_, list):
            return {} if type_[0] == "map" else []
        return {"number": 0, "bool": False}.get(type_, f"{self._type}-{name}-{mark}")


@pytest.fixture(scope="session")
def published_provider():
    """``published_provider(name, actors, tree=…)``: see `_serving`."""
    return _serving


@contextmanager
def _serving(name, actors=None, *, tree=None, configured=lambda configuration: None):
    """A context that serves the provider ``name``, and gives the environment for `Terraform`.

    ``actors`` by type; a `DataSource` goes by ``"data.TYPE"``. With a ``tree`` no other types are
    served than those and what the HCL below it names, which is quicker. ``configured`` is told the
    provider's own configuration, before any resource is acted on.
    """
    pytest.importorskip("tf", reason="not run: terraform's plug-in protocol (no package tf)")
    from servers.terraform_protocol import listening

    schemas, actors = published(name), actors or {}
    if tree is not None:
        named = types_in(tree, name) | {type_.removeprefix("data.") for type_ in actors}
        schemas = _only(schemas, named)
    made_up = {
        **{type_: MadeUp(type_, block) for type_, block in schemas["resources"].items()},
        **{f"data.{type_}": MadeUp(type_, block) for type_, block in schemas["data"].items()},
    }
    unpublished = actors.keys() - made_up.keys()
    assert not unpublished, f"never published: {', '.join(sorted(unpublished))}"
    with listening(schemas, {**made_up, **actors}, configured) as port:
        yield {"TF_REATTACH_PROVIDERS": _reattach(name, port)}


def _only(schemas, types):
    """Without the thousand others, which Terraform would read at each command."""
    kept = {
        kind: {type_: block for type_, block in schemas[kind].items() if type_ in types}
        for kind in ("resources", "data")
    }
    return {**schemas, **kept}


def _reattach(name, port):
    process = {
        "Protocol": "grpc",
        "ProtocolVersion": 6,
        "Pid": os.getpid(),
        "Test": True,  # it is not Terraform's to stop
        "Addr": {"Network": "tcp", "String": f"127.0.0.1:{port}"},
    }
    return json.dumps({f"registry.terraform.io/hashicorp/{name}": process})
