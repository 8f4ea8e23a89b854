"""What ``quickstart`` does: one account's whole life in seconds, against an emulator, counted.

Every number comes from a counter of the client, of the rotator's events or of the emulator, and the
three have to agree. Nothing here prints.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cmzon_secrets.cache import TokenCache
from cmzon_secrets.client import Client, RateLimits
from cmzon_secrets.errors import AuthenticationError, CMzonSecretsError, ConfigurationError
from cmzon_secrets.events import Event
from cmzon_secrets.issuers.cmzon import CMzonIssuer
from cmzon_secrets.provider import TokenProvider, TokenStore
from cmzon_secrets.registry import open_store
from cmzon_secrets.rotation import RotationPolicy, RotationReport, Rotator
from cmzon_secrets.sealing_keys.key_file import generate_key_file
from cmzon_secrets.tokens import Token
from cmzon_secrets.uri import Location

if TYPE_CHECKING:
    from cmzon_secrets.emulator import Emulator

__all__ = ["Encore", "Outcome", "Tell", "prepare_folder", "tell_story"]

Tell = Callable[[str, str], None]
"""Called with a heading and what just happened."""

THREADS = 8
PACE = 40.0
"""Messages a second: half the vendor's limit, so that a busy machine cannot bunch them beyond it."""
BREATH = 1.0
"""Seconds of plain sending between two acts."""
PATIENCE = 60.0
"""Seconds after which a rotation that should take three is called stuck."""
RECIPIENT = "+12025550123"  # 555-01xx is reserved for fiction

POLICY = RotationPolicy(
    "quickstart",
    scopes=("messages:send",),
    allowed_ips=("127.0.0.1",),
    # Real ones last a day; these are as short as the readers below allow.
    grace=2.0,
    reader_ttl=0.5,
    request_deadline=1.0,
)

MARKER = "made-by-quickstart.txt"
_MARKER_TEXT = """\
Made by `cmzon-secrets quickstart`; it starts anew here at every run, so keep nothing in this folder.

token.sealed  the token of an emulator that is gone: worthless by now
token.key     opens it (for real tokens, keep the key somewhere else)
"""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The account at the end."""

    uri: str
    sent: int
    accepted: int
    failed: int
    unauthorized: int
    met_inside: int
    issued: int
    revoked: int
    faults: tuple[str, ...]

    @property
    def went_well(self) -> bool:
        """Whether nothing failed and all counters agree."""
        return not self.faults


Encore = Callable[[Outcome, str, Callable[[], None]], None]
"""Called at the end, while all of it still runs, with the outcome, the dashboard's address, and what
sends one more message, whatever becomes of that."""


def prepare_folder(folder: Path) -> str:
    """Make the folder with a new key; returns the URI of its sealed file, which is not there yet.

    Raises ConfigurationError where a sealed file lies there that no quickstart made.
    """
    sealed, key = folder / "token.sealed", folder / "token.key"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not _made_by_us(folder / MARKER):
            _refuse_foreign(sealed, key)
            (folder / MARKER).write_text(_MARKER_TEXT, encoding="utf-8")
        sealed.unlink(missing_ok=True)
        key.unlink(missing_ok=True)
    except OSError as error:
        raise ConfigurationError(
            f"{folder} — {(error.strerror or 'it cannot be used').lower()}",
            hint="choose another folder: --dir DIR",
        ) from error
    generate_key_file(key)
    return str(Location("file", str(sealed), {"key": str(Location("keyfile", str(key), {}))}))


def _made_by_us(marker: Path) -> bool:
    return marker.is_file() and marker.read_bytes() == _MARKER_TEXT.encode()


def _refuse_foreign(*paths: Path) -> None:
    for path in paths:
        if path.exists():
            raise ConfigurationError(
                f"{path} — it is there already, and no quickstart made it",
                hint="choose another folder: --dir DIR",
            )


def tell_story(
    uri: str, tell: Tell, wait: Callable[[float, Senders], None], encore: Encore | None = None
) -> Outcome:
    """Play it all; ``wait(seconds, senders)`` passes time. Raises what stops it from starting.

    With an ``encore`` the day's limit is off: it would be used up within the hour.
    """
    from cmzon_secrets.emulator import Emulator

    counts: Counter[str] = Counter()
    with ExitStack() as open_things:
        emulator = open_things.enter_context(Emulator(limits=encore is None))
        dashboard = emulator.ready_line.dashboard_url
        tell("emulator", f"the CMzon API on this machine; watch it: {dashboard}/rotation")
        store = open_things.enter_context(open_store(uri))
        issuer = CMzonIssuer(_Admin(emulator), base_url=emulator.base_url)
        open_things.callback(issuer.close)
        rotator = Rotator(store, issuer, POLICY, subscriber=_counting(counts))
        play = _Play(store, rotator, tell, wait)
        play.bootstrap()
        cache = open_things.enter_context(TokenCache(store, ttl=POLICY.reader_ttl.total_seconds()))
        client = open_things.enter_context(
            Client(
                cache,
                base_url=emulator.base_url,
                limits=RateLimits(PACE, per_day=None),
                subscriber=_counting(counts),
            )
        )
        tell("messages", f"{THREADS} threads send, {PACE:.0f} messages a second")
        with sending(client) as senders:
            play.acts(senders)
        outcome = _outcome(uri, senders, counts, emulator, play.faults)
        if encore is not None:
            encore(outcome, dashboard, lambda: _send_once_more(client))
        return outcome


def _send_once_more(client: Client) -> None:
    with suppress(CMzonSecretsError):  # whoever rehearses on the dashboard now wants it to fail
        client.send_message(RECIPIENT, "Hello again from CMzon!")


class Senders:
    """Threads that send without a pause, and what became of their messages."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._stop = threading.Event()
        self._counting = threading.Lock()
        self._counts: Counter[str] = Counter()
        self.first_failure: str | None = None
        self._threads = [
            threading.Thread(target=self._send_on, name=f"sender-{n}", daemon=True)
            for n in range(1, THREADS + 1)
        ]

    def start(self) -> None:
        """Begin to send."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Finish the messages under way and end."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def count(self, what: str) -> int:
        """How many so far: ``sent``, ``failed`` or ``unauthorized``."""
        return self._counts[what]

    def _send_on(self) -> None:
        while not self._stop.is_set():
            try:
                self._client.send_message(RECIPIENT, "Hello from CMzon!")
                self._add("sent")
            except CMzonSecretsError as error:
                self._add("failed", error)

    def _add(self, what: str, error: CMzonSecretsError | None = None) -> None:
        with self._counting:
            self._counts[what] += 1
            if error is not None:
                self._counts["unauthorized"] += isinstance(error, AuthenticationError)
                self.first_failure = self.first_failure or str(error)


@contextmanager
def sending(client: Client) -> Iterator[Senders]:
    """Senders at work; stopped at the end, whatever happens."""
    senders = Senders(client)
    senders.start()
    try:
        yield senders
    finally:
        senders.stop()


class _Play:
    """The acts, one after the other; ``faults`` collects what was not as it should be."""

    def __init__(
        self,
        store: TokenStore,
        rotator: Rotator,
        tell: Tell,
        wait: Callable[[float, Senders], None],
    ) -> None:
        self._store = store
        self._rotator = rotator
        self._tell = tell
        self._wait = wait
        self.faults: list[str] = []

    def bootstrap(self) -> None:
        """The first token, with scopes and addresses chosen. Raises what stops it."""
        report = self._rotator.run()
        if report.error is not None:
            raise report.error
        current = self._store.get()
        scopes, ips = ", ".join(current.scopes), ", ".join(current.allowed_ips)
        self._tell("token", f"{_short(current.id)} for {scopes}, from {ips} only")
        self._tell("sealed file", "holds it, encrypted; the client reads it from there")

    def acts(self, senders: Senders) -> None:
        """Two rotations and an emergency while messages flow."""
        self._wait(BREATH, senders)
        for number in ("first", "second"):
            self._rotate(f"{number} rotation", senders)
            self._wait(BREATH, senders)
        self._emergency()
        self._wait(BREATH, senders)

    def _rotate(self, title: str, senders: Senders) -> None:
        report = self._rotator.run(force=True)
        self._tell(title, f"{_steps(report)}; the old in grace")
        self._expect(title, report, ("issue", "stage", "promote"))
        report = self._retire(senders)
        self._tell("", f"{_steps(report)}, its grace is over")
        self._expect(title, report, ("revoke", "discard"))

    def _retire(self, senders: Senders) -> RotationReport:
        """Run as a schedule would, until the replaced token is gone."""
        patience = time.monotonic() + PATIENCE
        while True:
            report = self._rotator.run()
            if report.actions or report.error is not None or time.monotonic() > patience:
                return report
            self._wait(0.25, senders)

    def _emergency(self) -> None:
        self._tell("emergency", f"{_short(self._store.get().id)} leaked")
        report = self._rotator.revoke()
        end = "STILL ALIVE" if report.state == "failed" else "proved dead"
        for told in f"{_steps(report)}, {end}".split("; "):
            self._tell("", told)
        self._expect("emergency", report, ("issue", "promote", "revoke"))

    def _expect(self, title: str, report: RotationReport, kinds: tuple[str, ...]) -> None:
        done = {action.kind for action in report.actions if action.outcome == "ok"}
        missing = [kind for kind in kinds if kind not in done]
        if missing or report.state not in ("done", "waiting"):
            self.faults.append(f"{title}: {report.state}, {report.reason or 'no reason given'}")


class _Admin(TokenProvider):
    """The emulator's admin token, with which tokens are issued and revoked."""

    def __init__(self, emulator: Emulator) -> None:
        self._emulator = emulator

    @property
    def uri(self) -> str:
        return "emulator:admin"

    def get(self) -> Token:
        return Token(self._emulator.admin_token)


_DONE = {"issue": "issued", "stage": "stored", "promote": "promoted", "revoke": "revoked"}


def _steps(report: RotationReport) -> str:
    """``tok_2… issued, stored, promoted; tok_1… revoked``."""
    by_token: dict[str, list[str]] = {}
    for action in report.actions:
        if action.kind in _DONE and action.outcome == "ok":
            by_token.setdefault(_short(action.token_id), []).append(_DONE[action.kind])
    told = "; ".join(f"{token_id} {', '.join(steps)}" for token_id, steps in by_token.items())
    return told or "nothing was done"


def _short(token_id: str) -> str:
    return token_id if len(token_id) <= 10 else f"{token_id[:9]}…"


def _counting(counts: Counter[str]) -> Callable[[Event], None]:
    adding = threading.Lock()

    def count(event: Event) -> None:
        with adding:
            counts[event.name] += 1

    return count


def _outcome(
    uri: str, senders: Senders, counts: Counter[str], emulator: Emulator, faults: list[str]
) -> Outcome:
    stats = emulator.stats()
    sent, accepted = senders.count("sent"), stats["messages"]
    issued, revoked = counts["token_issued"], counts["token_revoked"]
    if senders.first_failure is not None:
        faults.append(f"a send failed: {senders.first_failure}")
    if sent != accepted:
        faults.append(f"the client counts {sent} messages sent, the emulator {accepted} accepted")
    if stats["tokens"]["revoked"] != revoked:
        faults.append(f"{revoked} tokens revoked, the emulator counts {stats['tokens']['revoked']}")
    return Outcome(
        uri=uri,
        sent=sent,
        accepted=accepted,
        failed=senders.count("failed"),
        unauthorized=senders.count("unauthorized"),
        met_inside=counts["token_rejected"],
        issued=issued,
        revoked=revoked,
        faults=tuple(faults),
    )
