"""Terraform's plug-in protocol, version 6, for `servers.terraform_provider`.

One method for each call that Terraform 1.11 makes. Values travel as MessagePack, in the order of the
schema or none; a value that is known after apply only is an extension of it.
"""

# ruff: noqa: N802  # the protocol's own names

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc
import msgpack
from tf.gen import tfplugin_pb2 as pb
from tf.gen import tfplugin_pb2_grpc

UNKNOWN = msgpack.ExtType(0, b"\0")
"""A value that is known after apply only."""
WRITE_ONLY = b"\x58\x01"
"""``write_only = true``: the eleventh field of an attribute, which the generated modules lack."""
NESTING = {
    "single": pb.Schema.NestedBlock.SINGLE,
    "list": pb.Schema.NestedBlock.LIST,
    "set": pb.Schema.NestedBlock.SET,
}


@contextmanager
def listening(schemas, actors, configured):
    """Serve until the block ends; the port on this machine."""
    unlimited = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    with ThreadPoolExecutor(8) as threads:
        server = grpc.server(threads, options=unlimited)
        provider = Provider(schemas, actors, configured)
        tfplugin_pb2_grpc.add_ProviderServicer_to_server(provider, server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            yield port
        finally:
            server.stop(None).wait(10)


class Provider(tfplugin_pb2_grpc.ProviderServicer):
    """Holds the schemas, and leaves to the actors what is done."""

    def __init__(self, schemas, actors, configured):
        self._resources, self._data = schemas["resources"], schemas["data"]
        self._provider, self._actors, self._configured = schemas["provider"], actors, configured

    def GetProviderSchema(self, request, context):
        return pb.GetProviderSchema.Response(
            provider=_schema(self._provider),
            resource_schemas={type_: _schema(block) for type_, block in self._resources.items()},
            data_source_schemas={type_: _schema(block) for type_, block in self._data.items()},
        )

    # Terraform itself holds a configuration to the schema, but for what only the provider may set.

    def ValidateProviderConfig(self, request, context):
        return pb.ValidateProviderConfig.Response()

    def ValidateResourceConfig(self, request, context):
        block, config = self._resources[request.type_name], _decoded(request.config)
        return pb.ValidateResourceConfig.Response(diagnostics=_diagnostics(block, config))

    def ValidateDataResourceConfig(self, request, context):
        block, config = self._data[request.type_name], _decoded(request.config)
        return pb.ValidateDataResourceConfig.Response(diagnostics=_diagnostics(block, config))

    def ConfigureProvider(self, request, context):
        response = pb.ConfigureProvider.Response()
        with _refusing(response):
            self._configured(_known(_decoded(request.config)))
        return response

    def StopProvider(self, request, context):
        return pb.StopProvider.Response()

    def UpgradeResourceState(self, request, context):
        as_it_is = pb.DynamicValue(json=request.raw_state.json)
        return pb.UpgradeResourceState.Response(upgraded_state=as_it_is)

    def ImportResourceState(self, request, context):
        """Its ID and nothing else: the reading that follows tells the rest."""
        state = {**_empty(self._resources[request.type_name]), "id": request.id}
        imported = pb.ImportResourceState.ImportedResource(
            type_name=request.type_name, state=_encoded(state)
        )
        return pb.ImportResourceState.Response(imported_resources=[imported])

    def ReadResource(self, request, context):
        response = pb.ReadResource.Response(new_state=request.current_state)
        with _refusing(response):
            state = _decoded(request.current_state)
            told = self._actors[request.type_name].read(state)
            response.new_state.CopyFrom(self._state(request.type_name, state, told))
        return response

    def ReadDataSource(self, request, context):
        response = pb.ReadDataSource.Response()
        with _refusing(response):
            config = _decoded(request.config)
            told = self._actors[f"data.{request.type_name}"].read(config)
            found = _completed(self._data[request.type_name], config, told)
            response.state.CopyFrom(_encoded(found))
        return response

    def PlanResourceChange(self, request, context):
        prior, proposed = _decoded(request.prior_state), _decoded(request.proposed_new_state)
        planned = proposed and _planned(self._resources[request.type_name], proposed, prior)
        response = pb.PlanResourceChange.Response(planned_state=_encoded(planned))
        if prior and planned:
            for name in self._actors[request.type_name].replaced_for:
                if prior[name] != planned[name]:
                    step = pb.AttributePath.Step(attribute_name=name)
                    response.requires_replace.append(pb.AttributePath(steps=[step]))
        return response

    def ApplyResourceChange(self, request, context):
        response = pb.ApplyResourceChange.Response(new_state=request.prior_state)
        with _refusing(response):
            prior, planned = _decoded(request.prior_state), _known(_decoded(request.planned_state))
            told = self._applied(request, prior, planned)
            response.new_state.CopyFrom(self._state(request.type_name, planned, told))
        return response

    def _applied(self, request, prior, planned):
        actor = self._actors[request.type_name]
        if planned is None:
            actor.delete(prior)
            return None
        block, config = self._resources[request.type_name], _decoded(request.config)
        values = _with_write_only(block, planned, config)
        return actor.create(values) if prior is None else actor.update(prior, values)

    def _state(self, type_, values, told):
        block = self._resources[type_]
        if told is None:
            return _encoded(None)
        return _encoded(_with_write_only(block, _completed(block, values, told), None))


@contextmanager
def _refusing(response):
    """An actor's exception is an error of Terraform's."""
    try:
        yield
    except Exception as error:
        response.diagnostics.append(_diagnostic(str(error), type(error).__name__))


def _diagnostic(summary, detail):
    return pb.Diagnostic(severity=pb.Diagnostic.ERROR, summary=summary, detail=detail)


def _diagnostics(block, config):
    """A complaint about each value that is configured and is only ever told by the provider."""
    for name, attribute in block["attributes"].items():
        told_only = attribute["computed"] and not attribute["optional"]
        if told_only and config[name] is not None:
            yield _diagnostic(f'"{name}" cannot be configured', "The provider decides its value.")
    for name, nested in block["blocks"].items():
        for inner in config[name] if isinstance(config[name], list) else ():
            yield from _diagnostics(nested["block"], inner)


# schemas


def _schema(block):
    return pb.Schema(version=0, block=_block(block))


def _block(block):
    return pb.Schema.Block(
        attributes=[_attribute(name, found) for name, found in block["attributes"].items()],
        block_types=[
            pb.Schema.NestedBlock(
                type_name=name,
                nesting=NESTING[nested["nesting"]],
                min_items=nested["min"],
                max_items=nested["max"],
                block=_block(nested["block"]),
            )
            for name, nested in block["blocks"].items()
        ],
    )


def _attribute(name, found):
    attribute = pb.Schema.Attribute(
        name=name,
        type=json.dumps(found["type"]).encode(),
        required=found["required"],
        optional=found["optional"],
        computed=found["computed"],
    )
    if found["write_only"]:
        attribute.MergeFromString(WRITE_ONLY)
    return attribute


# values


def _decoded(value):
    if value.json:
        return json.loads(value.json)
    return msgpack.unpackb(value.msgpack, ext_hook=lambda *_: UNKNOWN, strict_map_key=False)


def _encoded(value):
    return pb.DynamicValue(msgpack=msgpack.packb(value))


def _empty(block):
    values = dict.fromkeys(block["attributes"])
    for name, nested in block["blocks"].items():
        values[name] = None if nested["nesting"] == "single" else []
    return values


def _known(value):
    """With None for what is not known."""
    if isinstance(value, dict):
        return {name: _known(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_known(inner) for inner in value]
    return None if value is UNKNOWN else value


def _completed(block, values, told):
    """What an actor told, over what was there."""
    strange = told.keys() - _empty(block).keys()
    if strange:
        raise KeyError(f"the schema has no {', '.join(sorted(strange))}")
    return {**values, **told}


def _with_write_only(block, values, config):
    """With what only the configuration holds; without a configuration, without."""

    def of(name):
        return None if config is None else config[name]

    done = dict(values)
    for name, attribute in block["attributes"].items():
        if attribute["write_only"]:
            done[name] = of(name)
    for name, nested in block["blocks"].items():
        inner, inside = values[name], of(name)
        if nested["nesting"] == "list" and inner:
            given = inside or [None] * len(inner)
            pairs = zip(inner, given, strict=True)
            done[name] = [_with_write_only(nested["block"], *pair) for pair in pairs]
    return done


def _planned(block, proposed, prior):
    """What is computed and not there yet is told after apply; what is write-only, never."""
    planned = dict(proposed)
    for name, attribute in block["attributes"].items():
        if attribute["write_only"]:
            planned[name] = None
        elif attribute["computed"] and prior is None and proposed[name] is None:
            planned[name] = UNKNOWN
    for name, nested in block["blocks"].items():
        if isinstance(proposed[name], list):
            before = _before(nested, proposed[name], prior and prior[name])
            pairs = zip(proposed[name], before, strict=True)
            planned[name] = [_planned(nested["block"], *pair) for pair in pairs]
    return planned


def _before(nested, proposed, prior):
    """Of each block that is proposed, the one that it was; None where it is new."""
    prior = prior or []
    if nested["nesting"] == "set":
        return [value if value in prior else None for value in proposed]
    return [prior[n] if n < len(prior) else None for n in range(len(proposed))]
