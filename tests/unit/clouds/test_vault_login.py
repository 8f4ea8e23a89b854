"""Every way to log in, and how a token is kept alive, on the real server; logins are counted in its audit trail."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cmzon_secrets.clouds import vault, vault_login
from cmzon_secrets.clouds.vault import Place, Session
from cmzon_secrets.errors import AccessDenied, ConfigurationError, ProviderUnavailable
from cmzon_secrets.testing.clock import ManualClock
from cmzon_secrets.uri import split
from servers.openbao import token_review, unused

URI = "hashivault://secret/app"


class Secret:
    """A path that holds something, and a policy that lets read it."""

    def __init__(self, server):
        self.path = f"secret/data/{unused('app')}"
        self.server = server
        server.admin("POST", self.path, {"data": {"a": "b"}})
        self.policy = server.policy(f'path "{self.path}" {{ capabilities = ["read"] }}')


@pytest.fixture
def secret(openbao):
    return Secret(openbao)


@pytest.fixture
def environment(openbao, vault_environment):
    vault_environment(openbao.environment())
    return vault_environment


def session(query="", **options):
    """One of our own, which shares no login with other tests."""
    return Session(Place.from_location(split(f"{URI}?{query}" if query else URI)), **options)


def read(at, path, **options):
    return at.begin(uri=URI, **options).read(path)["data"]["data"]


def approle(openbao, environment, secret, *, secret_id=None, **fields):
    """The environment of a new AppRole that may read ``secret``; its name."""
    name, role_id = openbao.approle(secret.policy, **fields)
    secret_id = secret_id if secret_id is not None else openbao.secret_id(name)
    environment({"VAULT_ROLE_ID": role_id, "VAULT_SECRET_ID": secret_id})
    return name


class Logins:
    """Counts what happens at ``path`` from now on."""

    def __init__(self, openbao, path="auth/approle/login"):
        self._openbao, self._path = openbao, path
        self._before = len(openbao.audited(path))

    @property
    def count(self):
        return len(self._openbao.audited(self._path)) - self._before


# tokens that are handed over


def test_a_token_of_a_variable_reads(openbao, environment, secret):
    environment({"VAULT_TOKEN": openbao.token(secret.policy)})
    assert read(session(), secret.path) == {"a": "b"}


def test_one_call_is_one_round_trip(openbao, environment, secret):
    environment({"VAULT_TOKEN": openbao.token(secret.policy)})
    before = len(openbao.audited())
    read(session(), secret.path)
    assert len(openbao.audited()) == before + 1


def test_the_token_file_is_read_again_after_a_denial(openbao, environment, secret, tmp_path):
    file = tmp_path / ".vault-token"
    file.write_text(openbao.token(secret.policy))
    at = session()
    read(at, secret.path)
    openbao.admin("POST", "auth/token/revoke", {"token": file.read_text()})
    with pytest.raises(AccessDenied, match="expired, revoked"):
        read(at, secret.path)
    file.write_text(openbao.token(secret.policy))
    assert read(at, secret.path) == {"a": "b"}


def test_a_revoked_token_is_told_from_a_missing_right(openbao, environment, secret):
    token = openbao.token(secret.policy)
    environment({"VAULT_TOKEN": token})
    at = session()
    with pytest.raises(AccessDenied, match="no right to read secret/data/other") as caught:
        read(at, "secret/data/other")
    assert 'path "secret/data/other" { capabilities = ["read"] }' in caught.value.hint

    openbao.admin("POST", "auth/token/revoke", {"token": token})
    with pytest.raises(AccessDenied, match="VAULT_TOKEN is expired, revoked or unknown") as caught:
        read(at, secret.path)
    assert "bao login" in caught.value.hint


def test_a_new_token_in_the_file_is_not_called_dead_because_the_last_one_was(
    openbao, environment, secret, tmp_path
):
    file = tmp_path / ".vault-token"
    file.write_text("dead-for-long")
    at = session()
    with pytest.raises(AccessDenied, match="expired, revoked"):
        read(at, "secret/data/other")
    file.write_text(openbao.token(secret.policy))
    with pytest.raises(AccessDenied, match="no right to read"):
        read(at, "secret/data/other")


def test_a_live_token_that_may_not_look_at_itself_is_not_called_dead(openbao, environment, secret):
    environment({"VAULT_TOKEN": openbao.token(secret.policy, no_default_policy=True)})
    at = session()
    assert read(at, secret.path) == {"a": "b"}
    with pytest.raises(AccessDenied, match="no right to read"):
        read(at, "secret/data/other")


def test_a_handed_token_is_looked_at_after_a_while_and_renewed_before_it_ends(
    openbao, environment, secret
):
    environment({"VAULT_TOKEN": openbao.token(secret.policy, period="1h")})
    clock = ManualClock()
    at = session(clock=clock)
    looks = Logins(openbao, "auth/token/lookup-self")
    renewals = Logins(openbao, "auth/token/renew-self")
    for wait, counts in ((0, (0, 0)), (31, (1, 0)), (1800, (1, 0)), (900, (1, 1)), (900, (1, 1))):
        clock.advance(wait)
        assert read(at, secret.path) == {"a": "b"}
        assert (looks.count, renewals.count) == counts


@pytest.mark.parametrize(
    "fields",
    [
        {"type": "batch"},
        {"no_default_policy": True},
        {"ttl": "0", "explicit_max_ttl": "0"},
        {"renewable": False},
    ],
    ids=["batch", "may not look at itself", "long", "not renewable"],
)
def test_a_token_that_cannot_be_renewed_is_simply_used(
    openbao, environment, secret, monkeypatch, fields
):
    monkeypatch.setattr(vault_login, "FIRST_LOOK", 0.0)
    environment({"VAULT_TOKEN": openbao.token(secret.policy, **fields)})
    at = session()
    for _ in range(3):
        assert read(at, secret.path) == {"a": "b"}


def test_a_root_token_is_looked_at_once_and_never_renewed(
    openbao, environment, secret, monkeypatch
):
    monkeypatch.setattr(vault_login, "FIRST_LOOK", 0.0)
    environment({"VAULT_TOKEN": openbao.root_token})
    at = session()
    looks = Logins(openbao, "auth/token/lookup-self")
    renewals = Logins(openbao, "auth/token/renew-self")
    for _ in range(5):
        read(at, secret.path)
    assert (looks.count, renewals.count) == (1, 0)


# AppRole


def test_an_approle_logs_in_once_for_many_calls(openbao, environment, secret):
    approle(openbao, environment, secret)
    logins = Logins(openbao)
    at = session("auth=approle")
    for _ in range(5):
        assert read(at, secret.path) == {"a": "b"}
    assert logins.count == 1


def test_a_secret_id_in_a_file_is_read_again_at_each_login(
    openbao, environment, secret, tmp_path, monkeypatch
):
    role = approle(openbao, environment, secret, token_num_uses=1)
    file = tmp_path / "secret-id"
    file.write_text(openbao.secret_id(role, num_uses=1))
    monkeypatch.delenv("VAULT_SECRET_ID")
    environment({"VAULT_SECRET_ID_FILE": str(file)})
    at = session("auth=approle")
    read(at, secret.path)
    file.write_text(openbao.secret_id(role, num_uses=1))
    assert read(at, secret.path) == {"a": "b"}


def test_fifty_threads_that_begin_together_log_in_once(openbao, environment, secret):
    approle(openbao, environment, secret)
    logins, ready, at = Logins(openbao), threading.Barrier(50), session("auth=approle")

    def one(_):
        ready.wait()
        return read(at, secret.path)

    with ThreadPoolExecutor(50) as pool:
        assert list(pool.map(one, range(50))) == [{"a": "b"}] * 50
    assert logins.count == 1


def test_all_handles_of_a_process_share_one_login(openbao, environment, secret):
    approle(openbao, environment, secret)
    logins = Logins(openbao)
    for uri in (URI, "hashivault://secret/other", "hashivault-transit://transit/kek"):
        location = split(f"{uri}?auth=approle")
        shared = vault.session(Place.from_location(location))
        read(shared, secret.path)
    assert logins.count == 1


def test_a_namespace_has_its_own_mounts_and_logins(openbao, environment, monkeypatch):
    team = unused("team")
    openbao.admin("POST", f"sys/namespaces/{team}", {})
    openbao.admin("POST", f"{team}/sys/mounts/secret", {"type": "kv", "options": {"version": "2"}})
    openbao.admin("POST", f"{team}/secret/data/app", {"data": {"of": "the team"}})
    openbao.admin("POST", f"{team}/sys/auth/approle", {"type": "approle"})
    policy = {"policy": 'path "secret/data/app" { capabilities = ["read"] }'}
    openbao.admin("POST", f"{team}/sys/policies/acl/app", policy)
    role = f"{team}/auth/approle/role/app"
    openbao.admin("POST", role, {"token_policies": "app"})
    environment(
        {
            "VAULT_ROLE_ID": openbao.admin("GET", f"{role}/role-id")["data"]["role_id"],
            "VAULT_SECRET_ID": openbao.admin("POST", f"{role}/secret-id", {})["data"]["secret_id"],
        }
    )
    assert read(session(f"auth=approle&namespace={team}"), "secret/data/app") == {"of": "the team"}
    with pytest.raises(AccessDenied):
        read(session("auth=approle"), "secret/data/app")
    with pytest.raises(ConfigurationError, match="no such namespace"):
        read(session("auth=approle&namespace=nowhere"), "secret/data/app")


def test_a_refused_login_is_not_tried_again_and_says_what_to_do(openbao, environment, secret):
    role = approle(openbao, environment, secret, secret_id="no-such-secret-id")
    logins = Logins(openbao)
    at = session(f"auth=approle&role={role}")
    for _ in range(3):
        with pytest.raises(AccessDenied, match="invalid role or secret ID") as caught:
            read(at, secret.path)
    assert f"auth/approle/role/{role}/secret-id" in caught.value.hint
    assert "VAULT_SECRET_ID" in caught.value.message
    assert "no-such-secret-id" not in str(caught.value)
    assert logins.count == 1


def test_fifty_threads_with_a_refused_login_ask_once(openbao, environment, secret):
    approle(openbao, environment, secret, secret_id="no-such-secret-id")
    logins = Logins(openbao)
    at = session("auth=approle")

    def denied(_):
        with pytest.raises(AccessDenied, match="invalid role or secret ID"):
            read(at, secret.path)

    with ThreadPoolExecutor(50) as pool:
        list(pool.map(denied, range(50)))
    assert logins.count == 1


def test_a_used_up_secret_id_is_said_when_the_token_ends(openbao, environment, secret):
    role = approle(openbao, environment, secret, secret_id="", token_num_uses=1)
    environment({"VAULT_SECRET_ID": openbao.secret_id(role, num_uses=1)})
    at = session("auth=approle")
    read(at, secret.path)
    with pytest.raises(AccessDenied, match=r"a new login failed: .*VAULT_SECRET_ID") as caught:
        read(at, secret.path)
    assert "used up" in caught.value.hint


def test_without_a_secret_id_no_login_is_sent(openbao, environment, secret, monkeypatch):
    approle(openbao, environment, secret)
    monkeypatch.delenv("VAULT_SECRET_ID")
    logins = Logins(openbao)
    with pytest.raises(AccessDenied, match="there is no secret ID") as caught:
        read(session("auth=approle"), secret.path)
    assert "VAULT_SECRET_ID_FILE" in caught.value.hint
    assert logins.count == 0


def test_a_role_id_of_another_role_than_the_uris_is_refused_after_one_login(
    openbao, environment, secret
):
    role = approle(openbao, environment, secret)
    assert read(session(f"auth=approle&role={role}"), secret.path) == {"a": "b"}
    logins = Logins(openbao)
    at = session("auth=approle&role=other")
    for _ in range(3):
        with pytest.raises(ConfigurationError, match=f"VAULT_ROLE_ID is .*{role}.* role=other"):
            read(at, secret.path)
    assert logins.count == 1


def test_an_auth_method_that_is_not_mounted_is_named(openbao, environment, secret):
    approle(openbao, environment, secret)
    with pytest.raises((ConfigurationError, AccessDenied), match="auth/elsewhere") as caught:
        read(session("auth=approle&auth_mount=elsewhere"), secret.path)
    assert caught.value.hint


# a wrapped secret ID


def wrapped(openbao, environment, monkeypatch, token):
    monkeypatch.delenv("VAULT_SECRET_ID", raising=False)
    environment({"VAULT_WRAPPED_SECRET_ID": token})


def test_a_wrapped_secret_id_is_unwrapped_once_and_kept_for_later_logins(
    openbao, environment, secret, monkeypatch
):
    role = approle(openbao, environment, secret, token_num_uses=1)
    wrapped(openbao, environment, monkeypatch, openbao.wrapped_secret_id(role))
    unwraps = Logins(openbao, "sys/wrapping/unwrap")
    logins = Logins(openbao)
    at = session(f"auth=approle&role={role}")
    for _ in range(3):
        assert read(at, secret.path) == {"a": "b"}
    assert (unwraps.count, logins.count) == (1, 3)


def test_one_that_somebody_unwrapped_before_is_told_as_an_interception(
    openbao, environment, secret, monkeypatch
):
    role = approle(openbao, environment, secret)
    wrapping = openbao.wrapped_secret_id(role)
    wrapped(openbao, environment, monkeypatch, wrapping)
    openbao.ask("POST", "sys/wrapping/unwrap", {}, token=wrapping)
    looks = Logins(openbao, "sys/wrapping/lookup")
    at = session(f"auth=approle&role={role}")
    for _ in range(3):
        with pytest.raises(AccessDenied, match="may have been intercepted") as caught:
            read(at, secret.path)
    assert "revoke the secret IDs" in caught.value.hint
    assert looks.count == 1
    assert wrapping not in str(caught.value)


def test_what_was_wrapped_elsewhere_is_refused_before_it_is_unwrapped(
    openbao, environment, secret, monkeypatch
):
    role = approle(openbao, environment, secret)
    other, _ = openbao.approle(secret.policy)
    forged = openbao.wrapped("POST", "sys/wrapping/wrap", {"secret_id": "mine"})
    unwraps = Logins(openbao, "sys/wrapping/unwrap")
    for wrapping, origin in ((openbao.wrapped_secret_id(other), other), (forged, "sys/wrapping")):
        wrapped(openbao, environment, monkeypatch, wrapping)
        with pytest.raises(AccessDenied, match=f"no secret ID of this role.*{origin}"):
            read(session(f"auth=approle&role={role}"), secret.path)
    assert unwraps.count == 0


# JWT and Kubernetes


@pytest.fixture(scope="module")
def key():
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.generate_private_key(ec.SECP256R1())


@pytest.fixture(scope="module")
def signer(openbao, key):
    """Signs JWTs that the server's jwt auth accepts."""
    import jwt
    from cryptography.hazmat.primitives import serialization as s

    public = key.public_key().public_bytes(s.Encoding.PEM, s.PublicFormat.SubjectPublicKeyInfo)
    openbao.admin("POST", "auth/jwt/config", {"jwt_validation_pubkeys": [public.decode()]})

    def sign(subject, seconds=60):
        claims = {"sub": subject, "aud": "bao", "exp": int(time.time()) + seconds}
        return jwt.encode(claims, key, algorithm="ES256")

    return sign


@pytest.fixture
def jwt_role(openbao, secret, signer):
    name = unused("role")
    body = {"role_type": "jwt", "user_claim": "sub", "bound_audiences": ["bao"]}
    openbao.admin(
        "POST",
        f"auth/jwt/role/{name}",
        {**body, "bound_subject": "me", "token_policies": [secret.policy], "token_num_uses": 1},
    )
    return name


def test_a_jwt_is_read_from_its_file_at_each_login(
    openbao, environment, secret, signer, jwt_role, tmp_path
):
    file = tmp_path / "jwt"
    environment({"VAULT_JWT_FILE": str(file)})
    at = session(f"auth=jwt&role={jwt_role}")
    file.write_text(signer("me"))
    assert read(at, secret.path) == {"a": "b"}
    file.write_text(signer("me", seconds=-600))
    with pytest.raises(AccessDenied, match=r"a new login failed.*expired") as caught:
        read(at, secret.path)
    assert file.read_text() not in f"{caught.value} {caught.value.hint}"
    file.write_text(signer("me"))
    assert read(at, secret.path) == {"a": "b"}


def test_a_jwt_of_somebody_else_is_refused_with_the_servers_reason(
    openbao, environment, secret, signer, jwt_role, tmp_path
):
    (tmp_path / "jwt").write_text(signer("not me"))
    environment({"BAO_JWT_FILE": str(tmp_path / "jwt")})
    with pytest.raises(AccessDenied, match=r"login at auth/jwt as .* was refused: .*sub") as caught:
        read(session(f"auth=jwt&role={jwt_role}"), secret.path)
    assert f"auth/jwt/role/{jwt_role}" in caught.value.hint


@pytest.fixture
def cluster(openbao):
    with token_review() as server:
        openbao.admin(
            "POST",
            "auth/kubernetes/config",
            {
                "kubernetes_host": server.address,
                "disable_local_ca_jwt": True,
                "kubernetes_ca_cert": Path(openbao.ca).read_text(),
                "token_reviewer_jwt": "reviewer",
            },
        )
        yield server


def service_account_token(name, key):
    import jwt

    claims = {
        "iss": "kubernetes/serviceaccount",
        "sub": f"system:serviceaccount:apps:{name}",
        "kubernetes.io/serviceaccount/namespace": "apps",
        "kubernetes.io/serviceaccount/service-account.name": name,
        "kubernetes.io/serviceaccount/service-account.uid": f"uid-{name}",
        "iat": int(time.time()) - 10,
        "nbf": int(time.time()) - 10,
        "exp": int(time.time()) + 600,
    }
    return jwt.encode(claims, key, algorithm="ES256")


def test_a_service_account_logs_in_and_its_token_is_read_again_each_time(
    openbao, environment, secret, cluster, key, tmp_path
):
    role, file = unused("role"), tmp_path / "token"
    openbao.admin(
        "POST",
        f"auth/kubernetes/role/{role}",
        {
            "bound_service_account_names": "sender",
            "bound_service_account_namespaces": "apps",
            "token_policies": [secret.policy],
            "token_num_uses": 1,
        },
    )
    environment({"VAULT_JWT_FILE": str(file)})
    at = session(f"auth=kubernetes&role={role}")
    for _ in range(2):
        token = service_account_token("sender", key)
        file.write_text(token)
        cluster.accounts = {token: ("apps", "sender")}
        assert read(at, secret.path) == {"a": "b"}
    file.write_text(service_account_token("other", key))
    with pytest.raises(AccessDenied, match="auth/kubernetes") as caught:
        read(session(f"auth=kubernetes&role={role}"), secret.path)
    assert role in caught.value.hint


# denied, or dead?


def test_a_denied_path_costs_one_login_in_half_a_minute(openbao, environment, secret):
    approle(openbao, environment, secret)
    logins = Logins(openbao)
    at = session("auth=approle")
    for _ in range(5):
        with pytest.raises(AccessDenied, match="no right to read secret/data/other"):
            read(at, "secret/data/other")
    assert read(at, secret.path) == {"a": "b"}
    assert logins.count == 2


def test_a_right_that_the_role_got_later_is_had_by_one_new_login(openbao, environment, secret):
    role, role_id = openbao.approle()
    environment({"VAULT_ROLE_ID": role_id, "VAULT_SECRET_ID": openbao.secret_id(role)})
    at = session("auth=approle")
    at.begin(uri=URI).read("auth/token/lookup-self")
    openbao.admin("POST", f"auth/approle/role/{role}", {"token_policies": [secret.policy]})
    assert read(at, secret.path) == {"a": "b"}


def test_a_denial_that_the_caller_expects_costs_no_login(openbao, environment, secret):
    from cmzon_secrets.clouds.vault import Refused

    approle(openbao, environment, secret)
    logins = Logins(openbao)
    at = session("auth=approle")
    with pytest.raises(Refused):
        at.begin(uri=URI).read("secret/data/other", expecting=[403])
    assert logins.count == 1


def test_a_revoked_token_under_fifty_threads_is_one_login(openbao, environment, secret):
    approle(openbao, environment, secret)
    at = session("auth=approle")
    accessor = at.begin(uri=URI).read("auth/token/lookup-self")["data"]["accessor"]
    openbao.admin("POST", "auth/token/revoke-accessor", {"accessor": accessor})
    logins, ready = Logins(openbao), threading.Barrier(50)

    def one(_):
        ready.wait()
        return read(at, secret.path)

    with ThreadPoolExecutor(50) as pool:
        assert list(pool.map(one, range(50))) == [{"a": "b"}] * 50
    assert logins.count == 1


# lives


@pytest.mark.slow
@pytest.mark.paced
def test_a_token_is_renewed_and_at_its_maximum_replaced(openbao, environment, secret):
    approle(openbao, environment, secret, token_ttl="3s", token_max_ttl="6s")
    at = session("auth=approle")
    logins, renewals = Logins(openbao), Logins(openbao, "auth/token/renew-self")
    reads, end = 0, time.monotonic() + 30  # far beyond: a machine busy elsewhere stalls for seconds
    while logins.count < 2 and time.monotonic() < end:
        assert read(at, secret.path) == {"a": "b"}
        reads += 1
        time.sleep(0.1)
    assert logins.count >= 2
    assert renewals.count >= 1
    assert logins.count + renewals.count < reads / 2


@pytest.mark.parametrize(
    ("fields", "logins_after", "renewals_after"),
    [
        ({}, 1, 1),
        ({"token_type": "batch"}, 2, 0),
        ({"token_no_default_policy": True}, 2, 1),
        ({"token_period": "1h"}, 1, 1),
    ],
    ids=["renewed", "a batch token cannot be", "this one may not be", "periodic"],
)
def test_at_two_thirds_of_its_life_a_token_is_renewed_or_replaced_before_anything_is_denied(
    openbao, environment, secret, fields, logins_after, renewals_after
):
    approle(openbao, environment, secret, **fields)
    clock = ManualClock()
    at = session("auth=approle", clock=clock)
    logins, renewals = Logins(openbao), Logins(openbao, "auth/token/renew-self")
    reads = Logins(openbao, secret.path)
    for wait, counts in ((0, (1, 0)), (2100, (1, 0)), (600, (logins_after, renewals_after))):
        clock.advance(wait)
        assert read(at, secret.path) == {"a": "b"}
        assert (logins.count, renewals.count) == counts
    assert reads.count == 3


def test_a_renewal_that_shrinks_is_answered_with_a_login(openbao, environment, secret):
    approle(openbao, environment, secret, token_ttl="1h", token_explicit_max_ttl="1h")
    clock = ManualClock()
    at = session("auth=approle", clock=clock)
    read(at, secret.path)
    time.sleep(2.1)  # seconds of the server's, which it takes off the renewal
    logins, renewals = Logins(openbao), Logins(openbao, "auth/token/renew-self")
    clock.advance(2700)
    read(at, secret.path)
    assert (logins.count, renewals.count) == (1, 1)


def test_a_token_that_still_lives_is_used_while_nobody_can_renew_it(
    openbao, environment, secret, monkeypatch
):
    approle(openbao, environment, secret, token_ttl="60s")
    at = session("auth=approle")
    read(at, secret.path)
    lease = at.logins.current(at.begin(uri=URI).deadline, URI)
    monkeypatch.setattr(at.logins, "_exchange", _unavailable)
    monkeypatch.setattr(at.logins, "_lease", vault_login.replace(lease, due=0.0))
    assert read(at, secret.path) == {"a": "b"}


def _unavailable(request, deadline, uri):
    raise ProviderUnavailable(f"{uri} — down", uri=uri)


def test_a_child_keeps_the_token_and_makes_its_own_connections(openbao, environment, secret):
    import os

    approle(openbao, environment, secret)
    at = session("auth=approle")
    read(at, secret.path)
    logins = Logins(openbao)
    lock = at.logins._lock
    with lock:  # as if another thread held it
        child = os.fork()
        if child == 0:
            try:
                good = read(at, secret.path) == {"a": "b"} and not at.logins._lock.locked()
                os._exit(0 if good else 1)
            finally:
                os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert read(at, secret.path) == {"a": "b"}
    assert logins.count == 0
    before, in_child, after = (
        request["remote_port"] for request in openbao.audited(secret.path)[-3:]
    )
    assert before == after != in_child
