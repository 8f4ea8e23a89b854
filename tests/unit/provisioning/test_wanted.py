"""What can be wanted of `init`, and what is refused, with the remedy and without repeating a token."""

import json
import shutil

import pytest

from cmzon_secrets.errors import ConfigurationError
from cmzon_secrets.provisioning.wanted import BACKENDS, DETAILS, Wanted, check_detail
from servers.terraform import ROOT, Terraform, written_out
from unit.provisioning.choices import CHOICES, wanting


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
    valid = BACKENDS[backend].places if backend in BACKENDS else tuple(BACKENDS)
    assert refused.value.hint == f"valid: {', '.join(valid)}"


def test_a_detail_that_does_not_apply_there_is_refused():
    with pytest.raises(ConfigurationError, match="--region — it does not apply to --backend file"):
        wanting("file", "vm", region="eu-central-1")


def test_a_detail_that_is_missing_is_named():
    with pytest.raises(ConfigurationError, match="--region — it is missing"):
        Wanted("aws", "lambda", {"name": "acme"})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("name", "Acme"), ("name", "Q"), ("name", "acme-"), ("name", "a" * 41), ("name", "a b"), ("name", "a--b"),
        ("name", 'a"b'), ("name", "1acme"), ("name", "acme\n"), ("region", "Frankfurt"), ("cluster", "arn:aws:eks"),
        ("image", "cmzon-secrets"), ("image", "r.example.com/x"), ("image", 'r.example.com/x:1"'),
    ],
)  # fmt: skip
def test_what_is_no_such_thing_is_refused_with_what_is_valid(key, value):
    with pytest.raises(
        ConfigurationError, match=f"--{key} — .* is not {DETAILS[key].what}"
    ) as told:
        wanting("aws", "kubernetes", **{key: value})
    assert told.value.hint == DETAILS[key].remedy


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("vault_name", "a--b"), ("vault_name", "ab-"), ("vault_name", "1ab"), ("location", "West Europe"),
        ("resource_group", "a."), ("resource_group", ".a"), ("resource_group", "$(x)"), ("principal_id", "x"),
        ("allow", "203.0.113.7/8"), ("allow", "office"), ("allow", "203.0.113.0/33"), ("allow", "10.0.0.0/8"),
        ("allow", "2001:db8::/32"), ("allow", ""), ("allow", "203.0.113.7,"), ("allow", "none,203.0.113.7"),
    ],
)  # fmt: skip
def test_of_azure_too(key, value):
    with pytest.raises(ConfigurationError, match=f"is not {DETAILS[key].what}"):
        wanting("azure", "vm", **{key: value})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("address", "http://v"), ("address", "https://v/v1"), ("address", "http://127.0.0.1.example.com"),
        ("mount", "/a"), ("mount", "a//b"),
    ],
)  # fmt: skip
def test_of_vault_too(key, value):
    with pytest.raises(ConfigurationError, match=f"is not {DETAILS[key].what}"):
        wanting("vault", "vm", **{key: value})


@pytest.mark.parametrize("token", ["cmz_live_0123", "hvs.CAESIJ", "s." + "a" * 24])
@pytest.mark.parametrize("key", ["cluster", "image"])
def test_a_token_is_no_detail_and_is_not_repeated(key, token):
    with pytest.raises(ConfigurationError, match=f"--{key} — this looks like a token") as refused:
        wanting("aws", "kubernetes", **{key: token})
    assert token not in f"{refused.value} {refused.value.hint}"


@pytest.mark.parametrize("end", ["admin", "pending", "transit", "reader", "rotator", "seeder"])
def test_a_name_is_not_that_of_what_another_account_has(end):
    with pytest.raises(ConfigurationError, match="belongs to the account 'acme'") as refused:
        wanting("vault", "vm", name=f"acme-{end}")
    assert f"-{end}" in refused.value.hint
    assert wanting("vault", "vm", name=f"{end}-acme").name == f"{end}-acme"


def test_two_mounts_of_one_vault_have_roles_of_their_own():
    """Names of policies and roles are the server's."""
    roles = {wanting("vault", "vm", mount=mount).rotator for mount in ("cmzon", "eu/test", "eu")}
    assert roles == {"cmzon-acme-rotator", "eu-test-acme-rotator", "eu-acme-rotator"}


# ── as the modules judge ────────────────────────────────────────────────────────────────────────

NAMES = [
    "ab", "a1", "a" * 40, "a-b", "a", "a" * 41, "a--b", "a-", "-a", "1a", "A", "ü", "a_b", "a b",
    "acme-admin", "acme-pending", "acme-transit", "acme-reader", "acme-rotator", "acme-seeder",
]  # fmt: skip
GROUPS = ["a", "(a)", "a.b", "_", "a" * 90, "a" * 91, "a.", ".rg", "a b", ""]
VAULTS = ["abc", "A-b-1", "a" * 24, "a" * 25, "ab", "a--b", "ab-", "1ab", "a_b"]
RANGES = [
    "203.0.113.7", "203.0.113.0/24", "172.32.0.1", "172.16.0.1", "0.0.0.0/0", "10.0.0.0/8", "192.168.0.0/16",
    "x", "203.0.113.0/33", "2001:db8::/32",
]  # fmt: skip
MOUNTS = ["a", "a/b", "A_1", "a/", "/a", "a//b", "a.b", ""]
ADDRESSES = [
    "https://v", "https://v:8200", "https://[::1]:1", "http://localhost:8200", "http://127.0.0.1:8200",
    "http://[::1]:8200", "http://v", "http://127.0.0.1.example.com", "https://v/v1", "v:8200",
]  # fmt: skip
JUDGED = {
    ("aws", "name"): ("name", NAMES),
    ("azure", "name"): ("name", NAMES),
    ("azure", "resource_group_name"): ("resource_group", GROUPS),
    ("azure", "key_vault_name"): ("vault_name", VAULTS),
    ("azure", "allowed_cidrs"): ("allow", RANGES),
    ("vault", "name"): ("name", NAMES),
    ("vault", "mount"): ("mount", MOUNTS),
    ("vault", "address"): ("address", ADDRESSES),
}
NEEDED = {"name": "acme", "resource_group_name": "rg", "location": "westeurope"}


@pytest.mark.parametrize("module", ["aws", "azure", "vault"])
def test_a_value_is_judged_as_the_module_judges_it(module, tmp_path):
    """What we let pass, Terraform must not refuse ten minutes later. One plan of its variables alone."""
    variables = ROOT / "terraform/modules" / module / "variables.tf"
    (tmp_path / "module").mkdir()
    shutil.copy(variables, tmp_path / "module")
    ours = {}
    for (where, variable), (key, values) in JUDGED.items():
        for value in values if where == module else ():
            called = f"{variable}{len(ours)}"
            ours[called] = accepted(key, value, module)
            written_out(tmp_path, calling(called, module, variable, value), f"{called}.tf")
    terraform = Terraform(tmp_path)
    terraform.init()
    said = map(json.loads, terraform.run("plan", "-json", expect=1).out.splitlines())
    refused = {line["diagnostic"]["range"]["filename"] for line in said if "diagnostic" in line}
    assert {name: f"{name}.tf" not in refused for name in ours} == ours


def accepted(key, value, backend):
    try:
        check_detail(key, value, backend, BACKENDS[backend].places[0])
    except ConfigurationError:
        return False
    return True


def calling(called, module, variable, value):
    needed = NEEDED if module == "azure" else {"name": "acme"}
    given = {**needed, variable: [value] if variable == "allowed_cidrs" else value}
    arguments = "".join(f"{name} = {json.dumps(it)}\n" for name, it in given.items())
    return f'module "{called}" {{\nsource = "./module"\n{arguments}}}\n'
