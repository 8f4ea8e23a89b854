"""``hashivault:``: names, rights, what others do to the same secret, and answers that are lost. On a real server."""

import re
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest

from cmzon_secrets import Token, Versions, open_provider, open_store, permissions
from cmzon_secrets.clouds import vault
from cmzon_secrets.errors import (
    AccessDenied,
    ConfigurationError,
    ConflictError,
    InvalidToken,
    InvalidURI,
    ProviderUnavailable,
    TokenNotFound,
)
from cmzon_secrets.providers.vault_kv import VaultKV
from cmzon_secrets.testing import ManualClock
from cmzon_secrets.testing.conformance.store_hooks import bootstrap, new_token, rotate_to, seen
from cmzon_secrets.uri import parse
from servers.openbao import unused
from servers.relay import relay

# names


REFUSED = {
    "hashivault://secret": "no second part",
    "hashivault://secret/": "is empty",
    "hashivault://secret//app": "is empty",
    "hashivault://secret/app/": "is empty",
    "hashivault:secret/app": "two slashes",
    "hashivault://secret/../sys/app": "'..'",
    "hashivault://secret/%2e%2e/app": "'..'",
    "hashivault://secret/./app": "'.'",
    "hashivault://secret/+/app": "'+'",
    "hashivault://secret/app%0a": "cannot be printed",
    "hashivault://secret/app*": "mean something else in a policy",
    "hashivault://secret/app%22": "mean something else in a policy",
    "hashivault://secret/{{identity}}": "mean something else in a policy",
    "hashivault://secret/app.rotation": "second secret of another",
    "hashivault://secret/app?layout=both": "layout='both'",
    "hashivault://secret/app?mount=team/kv": "does not begin with mount=",
    "hashivault://team/kv?mount=team/kv": "does not begin with mount=",
    "hashivault://team/kv/app?mount=/": "does not begin with mount=",
    "hashivault://secret/app?version=2": "unknown option",
}


@pytest.mark.parametrize(("uri", "why"), REFUSED.items(), ids=REFUSED)
def test_a_name_that_could_mean_another_place_is_refused_before_anything_is_sent(
    uri, why, vault_environment
):
    vault_environment({"VAULT_ADDR": "https://127.0.0.1:1"})
    with pytest.raises(InvalidURI, match=re.escape(why)):
        open_store(uri)


ODD_NAMES = ["a b", "50%", "what?", "a#b", "a+b", "é", "a.b", "UPPER", "a=b&c", "(x)", "a:b@c"]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_an_odd_name_is_one_place_and_its_uri_opens_it_again(name, openbao, as_root):
    path = f"odd/{unused('dir')}/{name}"
    store = opened(path)
    store.create()
    token = bootstrap(store)
    assert open_store(store.uri).get() == token
    listed = openbao.admin("LIST", f"secret/metadata/{path.rpartition('/')[0]}")
    assert listed["data"]["keys"] == [name]


# fixtures


def location(path, **options):
    query = "&".join(f"{name}={value}" for name, value in options.items())
    quoted = re.sub(r"[%?#&+]", lambda found: f"%{ord(found[0]):02x}", path)
    uri = f"hashivault://{quoted if '://' in path else f'secret/{quoted}'}"
    return parse(f"{uri}?{query}" if query else uri, schemes=["hashivault"])


def opened(path, *, timeout=10.0, **options):
    return VaultKV(location(path, **options), timeout=timeout)


@pytest.fixture
def as_root(openbao, vault_environment):
    vault_environment(openbao.environment(openbao.root_token))


@pytest.fixture(params=["single", "split"])
def layout(request):
    return request.param


@pytest.fixture
def store(as_root, layout):
    made = opened(unused("unit"), layout=layout)
    made.create()
    return made


@pytest.fixture
def read(openbao):
    return lambda store, suffix="": openbao.admin("GET", f"secret/data/{store.path}{suffix}")[
        "data"
    ]


@pytest.fixture
def write(openbao):
    def change(store, data, suffix=""):
        openbao.admin("POST", f"secret/data/{store.path}{suffix}", {"data": data})

    return change


# what is stored


def test_readers_that_know_nothing_of_us_find_the_token_and_split_shows_no_other(
    store, layout, read
):
    first = bootstrap(store)
    second = rotate_to(store, new_token(), replacing=first)
    data = read(store)["data"]
    assert data["token"] == second.reveal()
    assert set(data) - {"token", "rotation"} == ({"previous"} if layout == "single" else set())
    assert first.reveal() not in data["rotation"]


def test_fields_of_others_survive_a_whole_life(store, read, write):
    others = {"owner": "me", "deep": {"n": [1, 2.5, None, True]}, "": "no name"}
    write(store, others | read(store)["data"])
    first = bootstrap(store)
    rotate_to(store, new_token(), replacing=first)
    store.discard(first.id)
    assert read(store)["data"].items() >= others.items()


def test_a_transition_of_the_single_layout_is_one_version(as_root, read):
    store = opened(unused("unit"))
    store.create()
    first = bootstrap(store)
    rotate_to(store, new_token(), replacing=first)
    store.discard(first.id)
    assert read(store)["metadata"]["version"] == 6  # create, 2 + 2, discard


def test_get_is_one_round_trip_and_the_server_is_not_asked_who_we_are(store, openbao):
    bootstrap(store)
    before = len(openbao.audited())
    store.get()
    assert [entry["path"] for entry in openbao.audited()[before:]] == [f"secret/data/{store.path}"]


def test_no_value_is_in_the_servers_own_audit_trail(store, openbao):
    token = bootstrap(store)
    assert token.reveal() not in openbao.audit_log.read_text()


def test_check_and_set_may_be_required_by_the_mount(as_root, layout, openbao):
    store = opened(unused("unit"), layout=layout)
    openbao.admin("POST", f"secret/metadata/{store.path}", {"cas_required": True})
    store.create()
    assert bootstrap(store) == store.get()


# by hand


def test_a_token_pasted_into_our_fields_keeps_pending_and_previous(store, read, write):
    first = bootstrap(store)
    second = rotate_to(store, new_token(), replacing=first)
    pending = new_token()
    store.stage(pending)
    pasted = Token(new_token().reveal())
    write(store, {**read(store)["data"], "token": pasted.reveal()})
    assert seen(store.versions()) == seen(Versions(pasted, pending, first))
    assert second not in store.versions()
    store.discard(first.id)
    store.promote(pending.id, replacing=pasted.id)
    assert seen(store.versions()) == seen(Versions(pending, None, pasted))


def test_a_rollback_by_hand_is_no_token_to_be_revoked(store, read, write):
    first = bootstrap(store)
    rotate_to(store, new_token(), replacing=first)
    write(store, {**read(store)["data"], "token": first.reveal()})
    view = store.versions()
    assert view.current == first
    assert view.previous is None


def test_a_secret_of_others_without_a_token_is_named_and_left_alone(store, read, write):
    theirs = {"username": "me", "password": "hunter2"}
    write(store, theirs)
    for verb in (store.get, store.versions, lambda: store.stage(new_token())):
        with pytest.raises(InvalidToken, match="none of them is token") as caught:
            verb()
        assert caught.value.message.startswith(store.uri)
    assert read(store)["data"] == theirs


def test_a_null_document_is_an_empty_store(as_root, openbao):
    store = opened(unused("unit"))
    openbao.admin("POST", f"secret/data/{store.path}", {"data": None})
    assert store.versions() == Versions()
    bootstrap(store)


def test_the_other_layout_is_refused_by_all_who_could_spoil_it(store, layout):
    token = bootstrap(store)
    other = opened(store.path, layout={"single": "split", "split": "single"}[layout])
    assert other.get() == token
    for verb in (other.versions, lambda: other.stage(new_token())):
        with pytest.raises(ConfigurationError, match=f"written with layout={layout}"):
            verb()


# absent, deleted, destroyed


def test_reading_makes_nothing_and_says_how_to_make_it(as_root, layout, openbao):
    store = opened(unused("typo"), layout=layout)
    assert store.versions() == Versions()
    assert store.identity
    assert not store.exists()
    store.discard("tok_any")
    with pytest.raises(ConflictError):
        store.promote("tok_any", replacing=None)
    with pytest.raises(TokenNotFound) as caught:
        store.get()
    assert f"cmzon-secrets put --create {store.uri}" in caught.value.hint.replace("'", "")
    assert openbao.ask("GET", f"secret/metadata/{store.path}", token=openbao.root_token)[0] == 404


def test_staging_makes_the_secret(as_root, layout):
    store, token = opened(unused("fresh"), layout=layout), new_token()
    store.stage(token)
    assert store.exists()
    assert store.versions() == Versions(pending=token)


def test_create_never_touches_what_is_there(store, read):
    token = bootstrap(store)
    store.create()
    assert store.get() == token
    assert read(store)["metadata"]["version"] == 3 - (store.layout == "split")


def test_a_deleted_secret_says_how_it_is_restored_and_is_back_after_that(store, openbao):
    token = bootstrap(store)
    openbao.admin("DELETE", f"secret/data/{store.path}")
    assert store.versions() == Versions()
    for verb in (store.get, lambda: store.stage(new_token())):
        with pytest.raises(TokenNotFound, match="is deleted") as caught:
            verb()
    version = re.search(r"-versions (\d+)", caught.value.hint)[1]
    assert caught.value.hint == (
        f"restore it: bao kv undelete -mount secret -versions {version} {store.path}"
    )
    openbao.admin("POST", f"secret/undelete/{store.path}", {"versions": [version]})
    assert store.get() == token


@pytest.mark.parametrize("how", ["deleted", "destroyed", "removed with its history"])
def test_create_makes_an_empty_secret_where_one_was(how, store, openbao, read):
    bootstrap(store)
    version = read(store)["metadata"]["version"]
    if how == "destroyed":
        openbao.admin("PUT", f"secret/destroy/{store.path}", {"versions": [version]})
        with pytest.raises(TokenNotFound, match="destroyed"):
            store.get()
    elif how == "deleted":
        openbao.admin("DELETE", f"secret/data/{store.path}")
    else:
        openbao.admin("DELETE", f"secret/metadata/{store.path}")
    assert store.exists() == (how == "deleted")  # which alone can be restored
    store.create()
    assert store.versions() == Versions()
    bootstrap(store)


# the mount


def test_a_kv_version_1_mount_is_refused_and_nothing_is_written_to_it(as_root, layout, openbao):
    store = open_store(f"hashivault://legacy/{unused('app')}?layout={layout}")
    for verb in (store.get, store.versions, store.create, store.exists):
        with pytest.raises(ConfigurationError, match="not KV version 2") as caught:
            verb()
        assert "enable-versioning legacy/" in caught.value.hint
    assert openbao.ask("GET", f"legacy/data/{store.path}", token=openbao.root_token)[0] == 404


def test_a_version_1_mount_that_tells_nobody_what_it_is_is_known_by_its_first_answer(
    as_root, monkeypatch, openbao
):
    real = vault.Calls.read

    def secretive(self, path, **rest):
        if path.startswith("sys/internal"):
            raise AccessDenied("not for you")
        return real(self, path, **rest)

    monkeypatch.setattr(vault.Calls, "read", secretive)
    store = open_store(f"hashivault://legacy/{unused('app')}")
    with pytest.raises(ConfigurationError, match="not KV version 2"):
        store.stage(new_token())


def test_what_a_version_1_mount_made_of_a_version_2_write_is_refused_too(as_root, openbao):
    path = unused("app")
    body = {"data": {"token": "cmz_wrong"}, "options": {"cas": 0}}
    openbao.admin("POST", f"legacy/data/{path}", body)
    with pytest.raises(ConfigurationError, match="not KV version 2"):
        open_provider(f"hashivault://legacy/{path}").get()


def test_a_mount_that_is_not_there_is_told_as_such(as_root):
    with pytest.raises(TokenNotFound, match="nothing mounted there"):
        open_provider("hashivault://nowhere/app").get()


def test_a_mount_with_slashes_is_told_by_mount(as_root, openbao):
    mount = f"{unused('team')}/kv"
    openbao.admin("POST", f"sys/mounts/{mount}", {"type": "kv", "options": {"version": "2"}})
    store = open_store(f"hashivault://{mount}/app/db?mount={mount}")
    assert (store.mount, store.path) == (mount, "app/db")
    store.create()
    token = bootstrap(store)
    assert openbao.admin("GET", f"{mount}/data/app/db")["data"]["data"]["token"] == token.reveal()


def test_a_namespace_is_part_of_the_identity_however_it_is_written(as_root, openbao, monkeypatch):
    namespace = unused("ns")
    openbao.admin("POST", f"sys/namespaces/{namespace}")
    kv = {"type": "kv", "options": {"version": "2"}}
    openbao.admin("POST", f"{namespace}/sys/mounts/kv", kv)
    by_option = open_store(f"hashivault://kv/app?namespace={namespace}")
    by_option.create()
    by_path = open_store(f"hashivault://{namespace}/kv/app?mount={namespace}/kv")
    monkeypatch.setenv("BAO_NAMESPACE", f"/{namespace}/")
    by_environment = open_store("hashivault://kv/app")
    assert by_option.identity == by_path.identity == by_environment.identity
    assert by_option.identity.endswith(f":{namespace}/kv/app")
    assert "127.0.0.1" not in by_option.identity


# least privilege


def holder_of(openbao, set_all, role, store):
    scheme = "hashivault" if store.layout == "single" else "hashivault-split"
    names = {"mount": store.mount, "path": store.path}
    token = openbao.token(openbao.policy(permissions.policy(scheme, role, names)))
    set_all({"VAULT_TOKEN": token})
    return token, opened(store.path, layout=store.layout)


FORBIDDEN = [
    ("LIST", "secret/metadata/"),
    ("GET", "secret/metadata/{path}"),
    ("POST", "secret/metadata/{path}"),
    ("DELETE", "secret/metadata/{path}"),
    ("DELETE", "secret/data/{path}"),
    ("POST", "secret/delete/{path}"),
    ("POST", "secret/undelete/{path}"),
    ("POST", "secret/destroy/{path}"),
    ("GET", "secret/data/{path}-neighbour"),
    ("POST", "secret/data/{path}-neighbour"),
    ("GET", "secret/data/{path}/below"),
    ("GET", "sys/policies/acl"),
]


def test_the_reader_may_read_current_and_nothing_else(store, openbao, vault_environment):
    token = bootstrap(store)
    held, reader = holder_of(openbao, vault_environment, "reader", store)
    assert reader.get() == token
    with pytest.raises(AccessDenied, match="no right to"):
        reader.stage(new_token())
    also = [("POST", "secret/data/{path}")]
    if store.layout == "split":
        also += [("GET", "secret/data/{path}.rotation"), ("POST", "secret/data/{path}.rotation")]
    assert_denied(openbao, held, store.path, [*FORBIDDEN, *also])


def test_the_rotator_may_do_the_four_verbs_and_nothing_else(store, openbao, vault_environment):
    held, rotator = holder_of(openbao, vault_environment, "rotator", store)
    first = bootstrap(rotator)
    second = rotate_to(rotator, new_token(), replacing=first)
    rotator.discard(first.id)
    assert seen(rotator.versions()) == seen(Versions(second))
    assert rotator.identity == store.identity
    assert_denied(openbao, held, store.path, FORBIDDEN)


def assert_denied(openbao, token, path, attempts):
    allowed = [
        f"{method} {where}"
        for method, where in attempts
        if openbao.ask(method, where.format(path=path), {"data": {}}, token=token)[0] != 403
    ]
    assert allowed == []


def test_making_a_secret_needs_create_and_says_so(as_root, layout, openbao, vault_environment):
    absent = opened(unused("absent"), layout=layout)
    _, rotator = holder_of(openbao, vault_environment, "rotator", absent)
    with pytest.raises(AccessDenied) as caught:
        rotator.create()
    assert "needs create" in caught.value.hint


# what a look is good for


@pytest.fixture
def requests_of(openbao):
    """A function: what → ``read`` and ``update`` requests that it makes, in order."""

    def requests_of(act):
        before = len(openbao.audited())
        act()
        return [entry["operation"] for entry in openbao.audited()[before:]]

    return requests_of


def test_a_verb_on_what_was_just_looked_at_reads_nothing(store, layout, requests_of):
    first, second = bootstrap(store), new_token()
    view = store.versions()
    assert requests_of(lambda: store.stage(second)) == ["update"]
    view = store.versions()
    writes = 1 if layout == "single" else 3
    promotion = requests_of(lambda: store.promote(second.id, replacing=first.id))
    assert promotion == ["update"] * writes
    view = store.versions()
    assert requests_of(lambda: store.discard(first.id)) == ["update"]
    del view
    assert seen(store.versions()) == seen(Versions(second))


def test_a_look_serves_one_verb_while_its_view_is_held_and_the_handle_is_open(store, requests_of):
    bootstrap(store)
    held, token = store.versions(), new_token()
    store.stage(token)
    assert requests_of(lambda: store.discard(token.id))[0] == "read"
    held = store.versions()
    store.close()
    assert requests_of(lambda: store.stage(token))[0] == "read"
    held = store.versions()
    del held
    assert requests_of(lambda: store.discard(token.id))[0] == "read"


def test_what_a_rival_wrote_since_the_look_is_found_out_by_the_write(store):
    first, second = bootstrap(store), new_token()
    rival = opened(store.path, layout=store.layout)
    store.stage(second)
    view = store.versions()
    rival.discard(second.id)
    with pytest.raises(ConflictError, match="is not PENDING"):
        store.promote(second.id, replacing=first.id)
    view = store.versions()
    rival.stage(second)
    with pytest.raises(ConflictError, match=f"{second.id} is PENDING"):
        store.stage(new_token())
    view = store.versions()
    rival.promote(second.id, replacing=first.id)
    with pytest.raises(ConflictError, match="is CURRENT"):
        store.discard(second.id)
    del view
    assert seen(store.versions()) == seen(Versions(second, None, first))


def test_no_change_and_conflict_are_answered_by_a_look_never_by_an_old_one(store):
    first, second = bootstrap(store), new_token()
    rival = opened(store.path, layout=store.layout)
    view = store.versions()
    rival.stage(second)
    store.promote(second.id, replacing=first.id)  # there was no PENDING
    view = store.versions()
    third = new_token()
    rival.discard(first.id)
    rival.stage(third)
    rival.promote(third.id, replacing=second.id)
    with pytest.raises(ConflictError):
        store.stage(third)  # which nobody had
    view = store.versions()
    rival.discard(second.id)
    store.stage(second)  # which was PREVIOUS
    view = store.versions()
    rival.discard(second.id)
    store.stage(second)  # which was PENDING already
    del view
    assert seen(store.versions()) == seen(Versions(third, second))


def test_fields_that_others_changed_since_the_look_are_kept(store, read, write):
    bootstrap(store)
    view, token = store.versions(), new_token()
    for suffix in ("", ".rotation") if store.layout == "split" else ("",):
        write(store, {**read(store, suffix)["data"], "owner": "me"}, suffix)
    store.stage(token)
    del view
    assert store.versions().pending == token
    assert read(store)["data"]["owner"] == "me"


# rivals, and answers that are lost


@contextmanager
def before_write(number, act, monkeypatch):
    """Do ``act`` just before the write of this number."""
    real, writes = vault.Calls.write, []

    def write(self, path, data, **rest):
        writes.append(path)
        if len(writes) == number:
            act()
        return real(self, path, data, **rest)

    with monkeypatch.context() as patch:
        patch.setattr(vault.Calls, "write", write)
        yield writes


def test_a_rival_that_discards_what_is_being_promoted_wins_or_loses_whole(store, monkeypatch):
    """At each write of the promotion; with ``split`` the first of three has been done by then."""
    for number in (1, 2) if store.layout == "split" else (1,):
        current = store.versions().current or bootstrap(store)
        pending, rival = new_token(), opened(store.path, layout=store.layout)
        store.stage(pending)
        with (
            before_write(number, lambda p=pending, r=rival: r.discard(p.id), monkeypatch),
            pytest.raises(ConflictError, match="is not PENDING"),
        ):
            store.promote(pending.id, replacing=current.id)
        assert seen(store.versions()) == seen(Versions(current))


def test_a_promotion_that_somebody_tidied_up_after_is_done(as_root, monkeypatch):
    path = unused("unit")
    store, rival = (opened(path, layout="split") for _ in range(2))
    store.create()
    first, second, third = bootstrap(store), new_token(), new_token()
    store.stage(second)
    with before_write(3, lambda: rival.stage(third), monkeypatch):
        store.promote(second.id, replacing=first.id)
    assert seen(store.versions()) == seen(Versions(second, third, first))


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_view_of_two_secrets_is_of_one_moment(number, as_root, monkeypatch):
    path = unused("unit")
    store, rival = (opened(path, layout="split") for _ in range(2))
    store.create()
    first, second = bootstrap(store), new_token()
    store.stage(second)
    real, reads = vault.Calls.read, []

    def overtaken(self, path, **rest):
        reads.append(path)
        if len(reads) == number:
            monkeypatch.setattr(vault.Calls, "read", real)
            rival.promote(second.id, replacing=first.id)
        return real(self, path, **rest)

    monkeypatch.setattr(vault.Calls, "read", overtaken)
    assert seen(store.versions()) == seen(Versions(second, None, first))


def test_what_others_write_between_is_kept_and_ours_comes_after_it(store, monkeypatch, read, write):
    first, second = bootstrap(store), new_token()
    store.stage(second)
    with before_write(1, lambda: write(store, {**read(store)["data"], "owner": "me"}), monkeypatch):
        store.promote(second.id, replacing=first.id)
    assert seen(store.versions()) == seen(Versions(second, None, first))
    assert read(store)["data"]["owner"] == "me"


def test_one_that_always_comes_too_late_says_conflict_when_its_time_is_up(
    store, monkeypatch, read, write
):
    slow = opened(store.path, layout=store.layout, timeout=0.5)
    suffix = ".rotation" if store.layout == "split" else ""
    real = vault.Calls.write

    def after_a_rival(self, path, data, **rest):
        write(store, read(store, suffix)["data"], suffix)
        return real(self, path, data, **rest)

    monkeypatch.setattr(vault.Calls, "write", after_a_rival)
    with pytest.raises(ConflictError, match="others wrote it"):
        slow.stage(new_token())


@pytest.fixture
def relayed(store, openbao):
    """The store behind a relay that can lose answers."""
    with relay(openbao.port) as between:
        address = f"https://127.0.0.1:{between.port}"
        yield between, opened(store.path, layout=store.layout, address=address)


def test_a_write_whose_answer_is_lost_is_done_once(store, relayed, monkeypatch, read):
    between, behind = relayed
    first, second = bootstrap(behind), new_token()
    suffix = ".rotation" if store.layout == "split" else ""
    before = read(store, suffix)["metadata"]["version"]
    with before_write(1, lambda: setattr(between, "lose_answers", 1), monkeypatch) as writes:
        behind.stage(second)
    assert len(writes) == 1
    assert read(store, suffix)["metadata"]["version"] == before + 1
    for number in range(1, 4 if suffix else 2):
        with before_write(number, lambda: setattr(between, "lose_answers", 1), monkeypatch):
            behind.promote(second.id, replacing=first.id)
        assert seen(store.versions()) == seen(Versions(second, None, first))
        store.discard(first.id)
        first, second = second, new_token()
        behind.stage(second)


def test_a_secret_is_made_although_an_answer_is_lost_or_the_request_itself(
    as_root, layout, monkeypatch
):
    store, real, writes = opened(unused("made"), layout=layout), vault.Calls.write, []

    def losing(self, path, data, **rest):
        writes.append(path)
        if len(writes) != 1:
            real(self, path, data, **rest)
        raise vault.OutcomeUnknown("lost")

    with monkeypatch.context() as patch:
        patch.setattr(vault.Calls, "write", losing)
        store.create()
    assert len(writes) == (2 if layout == "single" else 3)
    bootstrap(store)


def test_a_write_whose_answer_is_lost_is_known_again_under_a_rivals_write(
    store, relayed, monkeypatch
):
    """The rival's write must not make our success look like a lost race."""
    between, behind = relayed
    first, second = bootstrap(behind), new_token()
    real = vault.Calls.write

    def lost_and_overtaken(self, path, data, **rest):
        monkeypatch.setattr(vault.Calls, "write", real)
        between.lose_answers = 1
        try:
            return real(self, path, data, **rest)
        finally:
            store.promote(second.id, replacing=first.id)

    monkeypatch.setattr(vault.Calls, "write", lost_and_overtaken)
    behind.stage(second)
    assert seen(store.versions()) == seen(Versions(second, None, first))


def test_a_write_that_never_arrived_is_sent_again(store, monkeypatch):
    bootstrap(store)
    token, real, lost = new_token(), vault.Calls.write, []

    def first_one_is_lost(self, path, data, **rest):
        if not lost:
            lost.append(path)
            raise vault.OutcomeUnknown("lost on its way")
        return real(self, path, data, **rest)

    monkeypatch.setattr(vault.Calls, "write", first_one_is_lost)
    store.stage(token)
    assert store.versions().pending == token


# standbys that lag behind


def test_what_is_older_than_what_this_handle_has_seen_is_read_again(store, monkeypatch):
    first = bootstrap(store)
    stale = {}
    real = vault.Calls.read

    def lagging(self, path, **rest):
        answer = real(self, path, **rest)
        return stale.pop(path, answer)

    def remembering(self, path, **rest):
        return stale.setdefault(path, real(self, path, **rest))

    with monkeypatch.context() as patch:
        patch.setattr(vault.Calls, "read", remembering)
        store.versions()
    second = rotate_to(store, new_token(), replacing=first)
    monkeypatch.setattr(vault.Calls, "read", lagging)
    assert seen(store.versions()) == seen(Versions(second, None, first))
    assert stale == {}


def test_a_secret_made_anew_is_believed_although_its_versions_begin_again(store, openbao):
    for _ in range(2):
        first = bootstrap(store)
        store.stage(new_token())
        assert store.get() == first
        for suffix in ("", ".rotation"):
            openbao.admin("DELETE", f"secret/metadata/{store.path}{suffix}")
        store.create()
        assert store.versions() == Versions()


def test_a_false_mismatch_is_no_conflict(store, monkeypatch):
    bootstrap(store)
    token, real, lies = new_token(), vault.Calls.write, []

    def lying(self, path, data, **rest):
        if len(lies) < 2:
            lies.append(path)
            said = "check-and-set parameter did not match the current version"
            raise vault.Refused(400, (said,), {})
        return real(self, path, data, **rest)

    monkeypatch.setattr(vault.Calls, "write", lying)
    store.stage(token)
    assert store.versions().pending == token


# strange answers


STRANGE = {
    "no data": {},
    "a list": {"data": ["x"]},
    "no version": {"data": {"data": {}, "metadata": {}}},
    "a version in words": {"data": {"data": {}, "metadata": {"version": "two"}}},
    "fields that are no object": {"data": {"data": "text", "metadata": {"version": 1}}},
}


@pytest.mark.parametrize("answer", STRANGE.values(), ids=STRANGE)
def test_an_answer_without_version_or_fields_is_not_believed(answer, as_root, monkeypatch):
    store = opened("strange")
    monkeypatch.setattr(vault.Calls, "read", lambda *args, **rest: answer)
    for verb in (store.get, store.versions, lambda: store.stage(new_token())):
        with pytest.raises(ConfigurationError, match="not KV version 2"):
            verb()


@pytest.mark.parametrize("when", ["a year ago", 7, None, "0001-01-01T00:00:00+14:00"])
def test_a_time_of_writing_that_is_none_is_no_time(when, as_root, monkeypatch):
    metadata = {"version": 1, "created_time": when}
    answer = {"data": {"data": {"token": "pasted"}, "metadata": metadata}}
    monkeypatch.setattr(vault.Calls, "read", lambda *args, **rest: answer)
    assert opened("strange").versions().promoted_at is None


@pytest.mark.parametrize(
    "behind", [timedelta(days=2), timedelta()], ids=["slow clock", "right clock"]
)
def test_grace_does_not_begin_before_the_promotion_where_our_clock_is_slow(as_root, layout, behind):
    began = datetime.now(UTC).replace(microsecond=0)
    clock = ManualClock(began - behind)
    store = VaultKV(location(unused("slow"), layout=layout), clock=clock)
    first = bootstrap(store)
    clock.advance(3600)
    rotate_to(store, new_token(), replacing=first)
    latest = max(clock.now(), datetime.now(UTC))
    assert began <= store.versions().promoted_at <= latest


def test_grace_does_not_begin_early_after_a_look_and_a_wall_clock_that_stepped_back(
    as_root, layout
):
    """The server's clock is remembered with the look, and goes on by the clock that never steps back."""
    clock = ManualClock(datetime.now(UTC) - timedelta(days=1))
    store = VaultKV(location(unused("slow"), layout=layout), clock=clock)
    first, second = bootstrap(store), new_token()
    store.stage(second)
    view, looked = store.versions(), datetime.now(UTC)
    clock.set_wall_clock(looked - timedelta(days=2))
    clock.advance(30)
    store.promote(second.id, replacing=first.id)
    del view
    assert store.versions().promoted_at >= looked.replace(microsecond=0) + timedelta(seconds=29)


def test_a_clock_that_is_fast_is_believed_so_grace_ends_late(as_root, layout):
    clock = ManualClock(datetime.now(UTC) + timedelta(days=2))
    store = VaultKV(location(unused("fast"), layout=layout), clock=clock)
    bootstrap(store)
    assert store.versions().promoted_at == clock.now()


def test_a_path_that_was_copied_from_the_api_is_told_how_it_is_written_here(as_root):
    with pytest.raises(TokenNotFound) as caught:
        opened(f"data/{unused('prod')}").get()
    assert "leave out data/" in caught.value.hint
    with pytest.raises(TokenNotFound) as caught:
        opened(unused("prod")).get()
    assert "data/" not in caught.value.hint


def test_a_server_that_does_not_tell_its_cluster_is_known_by_its_address(store, monkeypatch):
    real = vault.Calls.request

    def behind_a_proxy(self, method, path, **rest):
        if path == "sys/health":
            raise vault.Refused(403, (), {})
        return real(self, method, path, **rest)

    monkeypatch.setattr(vault.Calls, "request", behind_a_proxy)
    assert store.identity == f"vault:{store.place.address}:secret/{store.path}"


def test_a_mount_that_is_being_upgraded_is_unavailable_for_a_moment(store, monkeypatch):
    def upgrading(self, path, **rest):
        raise vault.Refused(400, ("Upgrading from non-versioned to versioned data.",), {})

    monkeypatch.setattr(vault.Calls, "read", upgrading)
    with pytest.raises(ProviderUnavailable, match="being upgraded"):
        store.get()
