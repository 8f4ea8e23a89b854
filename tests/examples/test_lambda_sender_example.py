"""examples/lambda-sender: a warm function sends a queue's records, through a rotation."""

import importlib.util
import json

import pytest


@pytest.fixture
def function(examples, in_its_environment):
    """The module as Lambda loads it: once, before the first event."""
    path = examples / "lambda-sender" / "sender.py"
    spec = importlib.util.spec_from_file_location("sender", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    module.client.close()


def batch(*bodies):
    records = [
        {"messageId": f"record-{n}", "body": body if isinstance(body, str) else json.dumps(body)}
        for n, body in enumerate(bodies)
    ]
    return {"Records": records}


def failed(answer):
    return [item["itemIdentifier"] for item in answer["batchItemFailures"]]


HELLO = {"to": "+1234567890", "text": "Hello from CMzon!"}


def test_a_warm_instance_goes_on_after_a_rotation(function, in_its_environment):
    assert failed(function.handler(batch(HELLO), None)) == []
    in_its_environment.replace()
    assert failed(function.handler(batch("not read", HELLO), None)) == ["record-0"]
    assert in_its_environment.messages == 2


def test_a_record_that_is_delivered_twice_is_one_message(function, in_its_environment):
    for _ in range(2):
        assert failed(function.handler(batch(HELLO), None)) == []
    assert in_its_environment.messages == 1


@pytest.mark.parametrize("body", ["", "{}", '"text"', "[]", '{"to": "+1234567890"}'])
def test_a_record_that_cannot_be_read_fails_alone(function, in_its_environment, body):
    assert failed(function.handler(batch(HELLO, body), None)) == ["record-1"]
    assert in_its_environment.messages == 1


def test_a_number_that_is_none_is_not_brought_back_for_ever(function, capsys):
    assert failed(function.handler(batch({**HELLO, "to": "nobody"}), None)) == []
    told = json.loads(capsys.readouterr().out)
    assert told["rejected"] == "record-0"


def test_what_the_api_does_not_take_comes_back(function, in_its_environment, capsys):
    (current,) = in_its_environment.store.versions()
    in_its_environment._issuer.revoke(current.id)
    assert failed(function.handler(batch(HELLO), None)) == ["record-0"]
    shown = capsys.readouterr().out
    assert json.loads(shown)["error"] == "AuthenticationError"
    assert current.reveal() not in shown
    assert HELLO["to"] not in shown


def test_what_may_have_been_sent_is_told_and_does_not_come_back(
    function, in_its_environment, capsys
):
    in_its_environment.fault(reset=True, after_accept=True, count=1)
    assert failed(function.handler(batch(HELLO), None)) == []
    assert json.loads(capsys.readouterr().out)["unknown"] == "record-0"
    assert in_its_environment.messages == 1
