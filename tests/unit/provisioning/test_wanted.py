"""What can be wanted of `init`, and what is refused, with the remedy and without repeating it."""

import re
from pathlib import Path

import pytest

from cmzon_secrets.errors import ConfigurationError
from cmzon_secrets.provisioning.wanted import DETAILS, PLACES, Wanted
from unit.provisioning.choices import CHOICES, VALUES, wanting

MODULES = Path(__file__).parents[3] / "terraform" / "modules"


@pytest.mark.parametrize("choice", CHOICES, ids="-".join)
def test_every_choice_can_be_wanted(choice):
    assert wanting(*choice).name == "acme"


def test_every_detail_concerns_somebody_and_everybody_has_a_name():
    for key, detail in DETAILS.items():
        concerned = [choice for choice in CHOICES if detail.concerns(*choice)]
        assert concerned, key
    assert all(DETAILS["name"].concerns(*choice) for choice in CHOICES)


@pytest.mark.parametrize(
    ("backend", "place"), [("file", "lambda"), ("aws", "compose"), ("x", "vm")]
)
def test_a_choice_that_does_not_fit_is_refused_with_what_is_valid(backend, place):
    with pytest.raises(ConfigurationError) as refused:
        Wanted(backend, place, {"name": "acme"})
    valid = PLACES.get(backend, tuple(PLACES))
    assert refused.value.hint == f"valid: {', '.join(valid)}"


def test_a_detail_that_has_no_meaning_there_is_refused():
    with pytest.raises(
        ConfigurationError, match="--region — it has no meaning with --backend file"
    ):
        wanting("file", "vm", region="eu-central-1")


def test_a_detail_that_is_missing_is_named():
    with pytest.raises(ConfigurationError, match="--region — it is missing"):
        Wanted("aws", "lambda", {"name": "acme"})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("name", "Acme"), ("name", "Q"), ("name", "acme-"), ("name", "a" * 41), ("name", "a b"),
        ("name", 'a"b'), ("name", "1acme"), ("name", "acme\n"), ("region", "Frankfurt"), ("cluster", "arn:aws:eks"),
        ("image", "cmzon-secrets"), ("image", "r.example.com/x"), ("image", 'r.example.com/x:1"'),
    ],
)  # fmt: skip
def test_what_is_none_is_refused_and_not_repeated(key, value):
    with pytest.raises(ConfigurationError) as refused:
        wanting("aws", "kubernetes", **{key: value})
    assert refused.value.hint == DETAILS[key].remedy
    assert "this is none" in str(refused.value)
    assert value not in str(refused.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("vault_name", "a--b"), ("vault_name", "ab-"), ("vault_name", "1ab"), ("location", "West Europe"),
        ("resource_group", "a."), ("resource_group", "$(x)"), ("principal_id", "x"),
    ],
)  # fmt: skip
def test_of_azure_too(key, value):
    with pytest.raises(ConfigurationError, match="this is none"):
        wanting("azure", "vm", **{key: value})


@pytest.mark.parametrize(
    ("key", "value"),
    [("address", "http://v"), ("address", "https://v/v1"), ("mount", "/a"), ("mount", "a//b")],
)
def test_of_vault_too(key, value):
    with pytest.raises(ConfigurationError, match="this is none"):
        wanting("vault", "vm", **{key: value})


@pytest.mark.parametrize(
    "cidr", ["203.0.113.7/8", "office", "203.0.113.0/33", "10.0.0.0/8", "2001:db8::/32"]
)
def test_a_range_that_is_none_is_refused(cidr):
    details = {
        key: VALUES[key] for key in ("name", "vault_name", "resource_group", "location", "operator")
    }
    with pytest.raises(ConfigurationError, match="--allow — this is no range"):
        Wanted("azure", "function", details, (cidr,))


def test_only_azure_has_a_firewall_to_open():
    with pytest.raises(ConfigurationError, match="--backend azure only"):
        Wanted("file", "vm", {"name": "acme"}, ("203.0.113.7/32",))


@pytest.mark.parametrize("module", ["aws", "azure", "vault"])
def test_names_are_judged_as_the_modules_judge_them(module):
    """What we let pass, Terraform must not refuse ten minutes later."""
    text = (MODULES / module / "variables.tf").read_text()
    block = text.partition('variable "name" {')[2].partition("\nvariable ")[0]
    assert re.search(r'regex\("\^(.*)\$"', block)[1] == DETAILS["name"].pattern
