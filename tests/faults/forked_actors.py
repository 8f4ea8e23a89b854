"""A program whose children rotate, read and hoard: real processes, killed at the instants asked for.

It imports everything once, opens nothing, has no threads and forks for every job, so that a job
begins in milliseconds. Commands come as JSON lines on stdin; it and its children tell what happens
as JSON lines on stdout: ids, never values. The admin token is in ``CMZON_API_TOKEN``.

    {"job": 1, "do": "rotate", "uri": …, "policy": {…}, "intent": "force", "kill_after": 0.12}
    {"job": 2, "do": "read", "uri": …, "policy": {…}}                    as an application does
    {"job": 3, "do": "hoard", "uri": …, "seconds": 2.5}           keeps one token, and uses it on and on
    {"do": "stop", "job": 2}

``kill_after`` counts seconds from when the job's own work begins. At the end of stdin all end.
"""

import functools
import gc
import importlib
import json
import os
import pkgutil
import select
import signal
import sys
import time
from contextlib import suppress
from dataclasses import dataclass

from cmzon_secrets import (
    Client,
    CMzonIssuer,
    RateLimits,
    RotationPolicy,
    Rotator,
    TokenCache,
    clouds,
    http,
    issuers,
    open_provider,
    open_store,
    providers,
    sealing_keys,
)
from cmzon_secrets.errors import CMzonSecretsError
from cmzon_secrets.provider import TokenProvider

ADMIN = "env:CMZON_API_TOKEN"
CALLS = frozenset(
    {"versions", "identity", "stage", "promote", "discard", "list", "issue", "verify", "revoke"}
)
SEND_EVERY = 0.12
"""Seconds between two messages of a reader."""


def tell(job, what, **facts):
    """One line, whole even among those of others: shorter than what a pipe takes at once."""
    line = json.dumps({"job": job, "what": what, "at": time.time(), **facts})
    os.write(1, line[:4000].encode() + b"\n")


# ── what the children do ────────────────────────────────────────────────────────────────────────


def rotate(job, begin, uri, policy, intent, token_id=None):
    def heard(event):
        tell(job, "event", name=event.name, token=event.token_id, facts=dict(event.facts))

    with open_store(uri) as store:
        issuer = CMzonIssuer(ADMIN)
        rotator = Rotator(
            Telling(job, store), Telling(job, issuer), RotationPolicy(**policy), subscriber=heard
        )
        runs = {
            "force": lambda: rotator.run(force=True),
            "schedule": rotator.run,
            "retire": rotator.retire,
            "rollback": rotator.rollback,
            "revoke": lambda: rotator.revoke(token_id=token_id),
        }
        issuer._http.open()
        store.versions()  # connected by now, so that kills fall into the rotation itself
        begin()
        report = runs[intent]()
        did = [action.kind for action in report.actions if action.outcome == "ok"]
        tell(job, "report", state=report.state, reason=report.reason[:1000], did=did)


def read(job, begin, uri, policy):
    """Send with the client and the cache, as an application does, until told to stop."""
    stopped, sent = [], 0
    signal.signal(signal.SIGTERM, lambda *_: stopped.append(True))
    provider = Watched(job, open_provider(uri))
    cache = WatchedCache(job, provider, ttl=policy["reader_ttl"])
    with provider, cache, Client(cache, limits=RateLimits.unlimited()) as client:
        begin()
        while not stopped:
            try:
                client.send_message("+1234567890", "hello")
                sent += 1
            except CMzonSecretsError as error:
                tell(job, "failed", error=f"{type(error).__name__}: {error}"[:1000])
            time.sleep(SEND_EVERY)
    tell(job, "sent", count=sent, reads=provider.reads)


def hoard(job, begin, uri, seconds):
    """Keep one token far too long, and use it all the time. ``gap``: the longest time without."""
    session, gap, uses = http.Session(), 0.0, 0
    session.open()
    with open_provider(uri) as provider:
        token = Watched(job, provider).get()
    begin()
    began = before = time.monotonic()
    while before < began + seconds:
        now = time.monotonic()
        answer = session.send("POST", "/v1/messages", token=token, json={})
        gap, before = max(gap, time.monotonic() - before), now
        if answer.status == 401:
            tell(job, "hoarded in vain", token=token.id, gap=gap)
            return
        uses += 1
        time.sleep(SEND_EVERY)
    tell(job, "hoarded", token=token.id, uses=uses)


class Telling:
    """Passes the calls of a rotator on, and tells of each before it is made."""

    def __init__(self, job, inner):
        self._job = job
        self._inner = inner

    def __getattr__(self, name):
        if name in CALLS:
            tell(self._job, "call", name=name)
        return getattr(self._inner, name)


class Watched(TokenProvider):
    """Tells which token the backend handed out, and when that read began."""

    def __init__(self, job, inner):
        self._job = job
        self._inner = inner
        self.reads = 0

    @property
    def uri(self):
        return self._inner.uri

    def get(self):
        began = time.time()
        token = self._inner.get()
        self.reads += 1
        tell(self._job, "read", token=token.id, began=began)
        return token

    def close(self):
        self._inner.close()


class WatchedCache(TokenCache):
    """Tells of every refusal, and how long before it the token was taken from the cache."""

    def __init__(self, job, provider, **options):
        super().__init__(provider, **options)
        self._job = job
        self._taken = 0.0

    def get(self):
        self._taken = time.monotonic()
        return super().get()

    def invalidate(self, token):
        tell(self._job, "refused", token=token.id, after=time.monotonic() - self._taken)
        super().invalidate(token)


JOBS = {"rotate": rotate, "read": read, "hoard": hoard}

# ── the parent ──────────────────────────────────────────────────────────────────────────────────


@dataclass
class Child:
    job: int
    pid: int
    pipe: int
    """Says when its work begins; at its end the child is dead."""
    kill_after: float | None
    kill_at: float | None = None
    began: float | None = None


class Parent:
    def __init__(self):
        self._children = {}
        self._buffer = b""

    def serve(self):
        while self._look():
            self._kill_who_is_due()
        for child in list(self._children.values()):
            os.kill(child.pid, signal.SIGKILL)
            os.waitpid(child.pid, 0)

    def _look(self):
        due = [child.kill_at for child in self._children.values() if child.kill_at is not None]
        wait = max(0.0, min(due) - time.monotonic()) if due else None
        ready, _, _ = select.select([0, *self._children], [], [], wait)
        for pipe in ready:
            if pipe and os.read(pipe, 1):
                self._began(self._children[pipe])
            elif pipe:
                self._ended(self._children.pop(pipe))
        return self._obey() if 0 in ready else True

    def _kill_who_is_due(self):
        for child in self._children.values():
            if child.kill_at is not None and child.kill_at <= time.monotonic():
                os.kill(child.pid, signal.SIGKILL)  # not waited for yet, so the id is still its own
                child.kill_at = None

    def _began(self, child):
        child.began = time.monotonic()
        if child.kill_after is not None:
            child.kill_at = child.began + child.kill_after

    def _ended(self, child):
        os.close(child.pipe)
        _, status = os.waitpid(child.pid, 0)
        lasted = time.monotonic() - child.began if child.began is not None else 0.0
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        tell(child.job, "ended", killed=killed, began=child.began is not None, lasted=lasted)

    def _obey(self):
        data = os.read(0, 65536)
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        for line in lines:
            self._do(json.loads(line))
        return bool(data)

    def _do(self, command):
        job, what = command.pop("job"), command.pop("do")
        if what != "stop":
            self._start(job, what, command.pop("kill_after", None), command)
            return
        for child in self._children.values():
            if child.job == job:
                os.kill(child.pid, signal.SIGTERM)

    def _start(self, job, what, kill_after, options):
        ours, theirs = os.pipe()
        pid = os.fork()
        if pid == 0:
            self._be(job, what, theirs, options)
        os.close(theirs)
        self._children[ours] = Child(job, pid, ours, kill_after)

    def _be(self, job, what, pipe, options):
        """The child's whole life."""
        for other in self._children:
            os.close(other)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)

        def begin():
            tell(job, "began")
            os.write(pipe, b"!")

        try:
            JOBS[what](job, begin, **options)
        except BaseException as error:
            tell(job, "broke", error=f"{type(error).__name__}: {error}"[:1000])
        os._exit(0)


def load_everything():
    """Whatever a child would otherwise load, each anew and for longer than it then rotates."""
    for package in (clouds, issuers, providers, sealing_keys):
        for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)
    http.tls_context = functools.cache(http.tls_context)
    http.Session().open()
    load_sdks()
    gc.collect()
    gc.freeze()


def load_sdks():
    with suppress(ImportError):
        importlib.import_module("hvac")
    with suppress(ImportError):
        loaders = importlib.import_module("botocore.loaders")
        files = loaders.JSONFileLoader
        files.load_file = functools.cache(files.load_file)
        loaders.Loader.FILE_LOADER_CLASS = staticmethod(functools.cache(files))  # one for all
        session = importlib.import_module("boto3").Session("none", "none", region_name="none")
        session.client("secretsmanager")
    if "KEY_VAULT_PORT" in os.environ:
        importlib.import_module("azure.identity")
        importlib.import_module("azure.keyvault.secrets")
        from servers.key_vault import open_there

        open_there(int(os.environ["KEY_VAULT_PORT"]), list)


if __name__ == "__main__":
    load_everything()
    Parent().serve()
    sys.stdout.flush()
