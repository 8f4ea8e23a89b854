"""The error tree: what is drawn is what there is; errors carry facts and nothing else."""

import copy
import inspect
import pickle
import re
import traceback

import pytest

from cmzon_secrets import errors
from cmzon_secrets.errors import (
    AccessDenied,
    APIError,
    CMzonSecretsError,
    ConflictError,
    DailyLimitReached,
    InvalidURI,
    ProviderError,
    RateLimited,
    TransportError,
    missing_extra,
    retold,
    shielded,
    without_frames,
)

CLASSES = {
    name: cls
    for name, cls in vars(errors).items()
    if inspect.isclass(cls) and issubclass(cls, CMzonSecretsError)
}


def drawn() -> dict[str, str | None]:
    """Class → parent, read from the tree at the top of the module."""
    parents: dict[str, str | None] = {}
    branch: list[tuple[int, str]] = []
    for line in errors.__doc__.splitlines():
        found = re.match(r"^(?P<lines>[│├└─ ]*)(?P<name>[A-Z]\w+)( {2,}.*)?$", line)
        if found is None or (not found["lines"] and parents):
            continue
        depth = len(found["lines"])
        while branch and branch[-1][0] >= depth:
            branch.pop()
        parents[found["name"]] = branch[-1][1] if branch else None
        branch.append((depth, found["name"]))
    return parents


def test_the_tree_drawn_at_the_top_is_the_tree_there_is():
    real = {
        name: cls.__base__.__name__ if cls is not CMzonSecretsError else None
        for name, cls in CLASSES.items()
    }
    assert drawn() == real


def test_every_error_is_public():
    assert set(CLASSES) <= set(errors.__all__)


def test_the_retryable_ones_are_those_where_the_same_call_may_succeed_later():
    assert {name for name, cls in CLASSES.items() if cls.retryable} == {
        "ProviderUnavailable",
        "RateLimited",
        "ServerError",
        "TransportError",
    }


@pytest.mark.parametrize("cls", CLASSES.values(), ids=CLASSES)
def test_an_error_has_a_message_and_perhaps_a_hint(cls):
    error = cls("file:x — it is not there", hint="make it")
    assert str(error) == error.message == "file:x — it is not there"
    assert error.hint == "make it"
    assert cls("x").hint is None


def test_a_provider_error_says_where():
    assert ConflictError("x", uri="file:t").uri == "file:t"
    assert ProviderError("x").uri == ""


def test_an_api_error_carries_what_the_server_said():
    error = RateLimited(
        "x", status=429, code=429, details="d", request_id="r", headers={"retry-after": "1"}
    )
    assert (error.status, error.code, error.details, error.request_id) == (429, 429, "d", "r")
    assert error.headers == {"retry-after": "1"}
    assert error.retry_after is None


def test_what_is_not_known_is_assumed_for_the_worse():
    assert TransportError("x").may_have_been_sent is True
    assert TransportError("x").status is None
    assert DailyLimitReached("x").resets_at is None
    assert APIError("x").headers == {}


@pytest.mark.parametrize("cls", CLASSES.values(), ids=CLASSES)
def test_an_error_survives_copying_and_another_process(cls):
    error = cls("what — why", hint="remedy")
    for twin in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert type(twin) is cls
        assert (twin.message, twin.hint, str(twin)) == ("what — why", "remedy", "what — why")


def printed(error):
    """As Python prints it where nobody catches it."""
    return "".join(traceback.format_exception_only(error)).splitlines()


@pytest.mark.parametrize("cls", CLASSES.values(), ids=CLASSES)
def test_a_traceback_shows_the_remedy_once_whoever_passed_the_error_on(cls):
    error = cls("what — why", hint="remedy")
    twins = [copy.copy(error), pickle.loads(pickle.dumps(error)), retold(error, "what — why")]
    for one in (error, *twins):
        assert printed(one) == [f"cmzon_secrets.errors.{cls.__name__}: what — why", "hint: remedy"]
    assert len(printed(cls("what — why"))) == 1


def test_a_remedy_that_is_mended_takes_the_place_of_the_one_before_and_of_no_other_note():
    error = AccessDenied("file:t — no", hint="chmod")
    error.add_note("seen in a test")
    told = retold(error, "file:t — no, never")
    told.hint = "chown"
    assert printed(told)[1:] == ["seen in a test", "hint: chown"]
    assert printed(error)[1:] == ["hint: chmod", "seen in a test"]
    told.hint = None
    assert printed(told)[1:] == ["seen in a test"]


def test_a_missing_extra_names_the_command_that_installs_it():
    assert missing_extra("aws", "aws: provider").hint == 'pip install "cmzon-secrets[aws]"'


def test_an_error_is_retold_as_a_copy_with_the_same_facts():
    error = AccessDenied("keyfile:k — no", uri="keyfile:k", hint="chmod")
    told = retold(error, "key= of file:t: keyfile:k — no", uri="file:t")
    assert type(told) is AccessDenied
    assert (str(told), told.message) == ("key= of file:t: keyfile:k — no",) * 2
    assert (told.uri, told.hint) == ("file:t", "chmod")
    assert (error.message, error.uri) == ("keyfile:k — no", "keyfile:k")


# frames

SECRET = "value-in-a-local"


def test_without_frames_empties_the_error_and_all_it_came_from():
    def dig():
        hidden = "-".join(["value", "in", "a", "local"])
        raise KeyError(len(hidden))

    def wrap():
        try:
            dig()
        except KeyError as error:
            raise InvalidURI("bad") from error

    with pytest.raises(InvalidURI) as caught:
        wrap()
    assert SECRET in shown(caught.value)
    assert without_frames(caught.value) is caught.value
    assert SECRET not in shown(caught.value)
    assert isinstance(caught.value.__cause__, KeyError), "the cause stays reachable"


def test_without_frames_ends_on_a_circle():
    one, two = ValueError("1"), ValueError("2")
    one.__context__, two.__context__ = two, one
    assert without_frames(one) is one


@pytest.mark.parametrize("kind", [InvalidURI, ValueError, KeyboardInterrupt])
def test_a_shielded_function_raises_without_its_frames(kind):
    @shielded
    def use(secret, *, again):
        copied = secret + again
        raise kind(len(copied))

    with pytest.raises(kind) as caught:
        use("-".join(["value", "in", "a", "local"]), again="-".join(["value", "in", "a", "local"]))
    assert SECRET not in shown(caught.value)


def test_a_shielded_function_is_otherwise_itself():
    @shielded
    def add(one: int, two: int = 2) -> int:
        """Adds."""
        return one + two

    assert add(1, two=3) == 4
    assert (add.__name__, add.__doc__) == ("add", "Adds.")
    assert list(inspect.signature(add).parameters) == ["one", "two"]


def shown(error):
    """As a reporter prints it, from the frame below the test's own."""
    frames = error.__traceback__.tb_next if error.__traceback__ else None
    return "".join(
        traceback.TracebackException(type(error), error, frames, capture_locals=True).format()
    )
