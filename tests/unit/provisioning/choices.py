"""Every backend and place that `init` knows, and a value for each detail of them."""

from cmzon_secrets.provisioning.wanted import BACKENDS, DETAILS, Wanted

VALUES = {
    "name": "acme",
    "region": "eu-central-1",
    "cluster": "prod",
    "vault_name": "cmzon-acme",
    "resource_group": "messages",
    "location": "westeurope",
    "operator": "00000000-0000-0000-0000-000000000001",
    "allow": "203.0.113.7/32,198.51.100.0/24",
    "oidc_issuer": "https://westeurope.oic.example.com/a/b/",
    "principal_id": "00000000-0000-0000-0000-000000000000",
    "address": "https://vault.example.com:8200",
    "mount": "cmzon",
    "image": "registry.example.com/team/cmzon-secrets:2",
}
CHOICES = [(backend, place) for backend, one in BACKENDS.items() for place in one.places]


def wanting(backend, runs_on, **details):
    """A choice with a value for each detail of it, or those given."""
    concern = {k: VALUES[k] for k, detail in DETAILS.items() if detail.concerns(backend, runs_on)}
    return Wanted(backend, runs_on, {**concern, **details})


def options(wanted):
    """The same on a command line."""
    yield from ("--backend", wanted.backend, "--runs-on", wanted.runs_on)
    for key, value in wanted.details.items():
        yield from (f"--{key.replace('_', '-')}", value)
