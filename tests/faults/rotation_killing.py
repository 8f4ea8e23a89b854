"""Accounts whose rotators are killed by ``kill -9`` at random instants, and what must hold meanwhile.

An ``Account`` lets rotators run and die, one round after the other, and checks after each kill;
``settle`` ends it with undisturbed runs, after which nothing may be lost. What no single process can
know is judged from outside: by the API's own list of tokens, and by what readers were given when.
"""

import itertools
import math
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime

from cmzon_secrets import CMzonIssuer, open_store
from cmzon_secrets.errors import AuthenticationError

GRACE, READER_TTL, REQUEST_DEADLINE, ORPHAN_AGE = 1.0, 0.2, 0.2, 3.0
"""Seconds. A token just replaced counts as in use for half of its grace; the other half is for the grace to show."""
WINDOW = READER_TTL + REQUEST_DEADLINE

MIX = {"force": 60, "schedule": 18, "retire": 4, "rollback": 10, "revoke": 8}
"""What a round is about, and how often."""


@dataclass
class Tally:
    kills: int = 0
    missed: int = 0
    """Runs that ended before their kill."""
    rotations: int = 0
    retired: int = 0
    """Tokens revoked that had been CURRENT, by no emergency."""
    soonest: float = math.inf
    """Seconds after a token was last known to be CURRENT until it was revoked."""
    reads: int = 0
    sent: int = 0
    hoarded: int = 0
    refused: int = 0
    """Requests that got a 401, unseen by the caller, because of an emergency."""
    late: int = 0
    """The same, because this machine stalled the reader beyond its own deadline."""
    calls: Counter = field(default_factory=Counter)
    """The call of store or issuer in which the kills fell, or right after it."""
    states: Counter = field(default_factory=Counter)

    def __add__(self, other):
        names = [name for name in self.__dataclass_fields__ if name != "soonest"]
        both = {name: getattr(self, name) + getattr(other, name) for name in names}
        return Tally(**both, soonest=min(self.soonest, other.soonest))

    def __str__(self):
        calls = ", ".join(f"{name} {n}" for name, n in self.calls.most_common())
        return (
            f"{self.kills} kills (in {calls}), {self.missed} came too late; {self.rotations} promotions told, "
            f"{self.retired} retired, the soonest {self.soonest:.2f} s after it was CURRENT; runs ended {dict(self.states)}; {self.reads} reads, {self.sent} messages, none refused to its sender; "
            f"within: {self.refused} refused by an emergency, {self.late} sent too late; {self.hoarded} hoarded uses"
        )


class Aim:
    """The longest time until a kill, which follows how long rotations take while they are many:
    about a third of the kills come too late, so the others fall on all of a run."""

    def __init__(self, seconds):
        self.seconds = seconds

    def hit(self):
        self.seconds *= 1.15

    def missed(self):
        self.seconds *= 0.75


class Account:
    """One store and whoever rotates and reads it. ``seed`` decides all but the time things take."""

    def __init__(self, name, uri, actors, api, seed, *, aim=None, currents=None, dated_to=0.0):
        self.name = name
        self.uri = uri
        self.tally = Tally()
        self._actors = actors
        self._api = api
        self._random = random.Random(seed)
        self._policy = {
            "name": name,
            "rotate_every": 86400.0,
            "grace": GRACE,
            "reader_ttl": READER_TTL,
            "request_deadline": REQUEST_DEADLINE,
            "orphan_age": ORPHAN_AGE,
        }
        self._store = open_store(uri)
        self._issuer = CMzonIssuer("env:CMZON_API_TOKEN")
        self._currents = currents
        self._dated_to = dated_to
        self._aim = aim
        self._rotators, self._readers, self._hoarders = [], [], []
        self._counted = 0
        self._current_at = {}
        """Id → the last moment of which it is known that it was CURRENT then."""
        self._emergencies = []
        """(from, to, ids held at the start): what those may have killed at once."""

    def close(self):
        self._store.close()
        self._issuer.close()

    # rounds

    def measured(self):
        """Seconds that a rotation takes on a new place, where nobody kills it."""
        self._create()
        self._rotate("schedule").wait()
        return self._rotate("force").wait().lasted

    def run(self, kills):
        """Rotate and be killed ``kills`` times, then settle."""
        self._create()
        while self._store.versions().current is None:  # a first token is killed for as well
            self._rotate("schedule", kill=self._random.random() < 0.7).wait()
            self._after_round()
        self._readers = [self._actors.start("read", uri=self.uri, policy=self._policy)]
        for _ in range(20 + 10 * kills):
            if self.tally.kills >= kills:
                break
            self._round()
        assert self.tally.kills >= kills, f"too few kills hit: {self.tally}"
        self.settle()
        return self.tally

    def _create(self):
        if hasattr(self._store, "create"):
            self._store.create()

    def _round(self):
        about = self._random.choices([*MIX], [*MIX.values()])[0]
        if about == "rollback" and self._store.versions().previous is None:
            self._rotate("force").wait()
        elif about != "rollback":
            self._wait_for_the_grace()
        if self._random.random() < 0.12:
            seconds = self._random.uniform(1.5, 3.5) * GRACE
            self._hoarders.append(self._actors.start("hoard", uri=self.uri, seconds=seconds))
        if about == "revoke":
            self._emergency()
        else:
            others = self._random.choice([0, 0, 0, 1, 1, 2])
            intents = self._random.choices(["force", "schedule", "rollback"], k=others)
            self._let_run([about, *intents])
        self._after_round()

    def _wait_for_the_grace(self):
        """Most rounds find PREVIOUS at the end of its grace, so that they have all there is to do."""
        versions = self._store.versions()
        if versions.previous is not None:
            age = time.time() - versions.promoted_at.timestamp()
            soon, late = (0.6 * GRACE, GRACE), (GRACE + 0.02,) * 2
            between = self._random.choices([late, soon, (0, 0)], [60, 30, 10])[0]
            until = self._random.uniform(*between)
            time.sleep(max(0.0, until - age))

    def _let_run(self, intents):
        jobs = []
        for intent in intents:
            jobs.append(self._rotate(intent, kill=self._random.random() < 0.85))
            time.sleep(self._random.uniform(0, 0.05) if len(intents) > 1 else 0)
        for job in jobs:
            job.wait()
            self.check()

    def _rotate(self, intent, *, kill=False, **options):
        after = self._random.uniform(0, self._aim.seconds) if kill else None
        job = self._actors.start(
            "rotate",
            uri=self.uri,
            policy=self._policy,
            intent=intent,
            kill_after=after,
            **options,
        )
        self._rotators.append(job)
        return job

    def _emergency(self):
        """Killed, and repeated by the id, until it is told that the token is dead."""
        began, held = time.time(), {token.id for token in self._store.versions()}
        job = self._rotate("revoke", kill=True).wait()
        started = [e for e in job.told("event") if e["name"] == "emergency_started"]
        for _ in range(20):
            if job.report is not None or not started:
                break
            kill = self._random.random() < 0.3
            job = self._rotate("revoke", token_id=started[0]["token"], kill=kill).wait()
        self._emergencies.append((began, time.time(), held))
        if started:
            assert job.report is not None, f"the emergency never ended: {job}"
            assert job.report["state"] == "done", str(job)
            entry = self._api.tokens(self.name)[started[0]["token"]]
            assert entry["revoked_at"] is not None, f"{entry['id']} lives on: {job}"

    def _after_round(self):
        for job in self._rotators[self._counted :]:
            self._count(job)
        self._counted = len(self._rotators)
        self.check()

    def _count(self, job):
        asked_to_die = job.asked["kill_after"] is not None
        if job.killed:
            self.tally.kills += 1
            self._aim.hit()
            self.tally.calls[job.last_call] += 1
        else:
            self.tally.states[job.report["state"]] += 1
            if asked_to_die:
                self.tally.missed += 1
                self._aim.missed()
        promoted = [e for e in job.told("event") if e["name"] == "token_promoted"]
        self.tally.rotations += len(promoted)
        for event in promoted:
            self._note_promotion(job, event)

    def _note_promotion(self, job, event):
        """What was verified before was promoted after, and what it replaced was CURRENT until then."""
        tried = [
            e["at"]
            for e in job.told("event")
            if e["name"] == "token_verified" and e["token"] == event["token"]
            if e["at"] <= event["at"]
        ]
        for token_id in (event["token"], event["facts"]["replacing"]):
            if tried and token_id:
                self._was_current(token_id, tried[-1])

    def _was_current(self, token_id, at):
        self._current_at[token_id] = max(at, self._current_at.get(token_id, 0.0))

    # what must hold

    def check(self):
        """A reader gets a token that the API accepts, whatever died, and there is one CURRENT."""
        began = time.time()
        if self._store.versions().current is None:
            return
        token = self._store.get()
        self._was_current(token.id, began)
        try:
            self._issuer.verify(token)
        except AuthenticationError:
            held = time.time() - began
            assert held > WINDOW, self._story(f"a reader was given {token.id}, which is dead")
        if self._currents is not None:
            assert self._currents(self.uri) == 1

    def settle(self):
        """What a scheduler does in the hours after; then nothing is lost, and nothing died too early."""
        last = time.time()
        self._until_done()
        for job in self._hoarders:
            job.wait()
        time.sleep(max(0.0, last + ORPHAN_AGE + 0.1 - time.time()))
        report = self._rotate("schedule").wait().report
        assert report["state"] == "done", self._story(f"it does not come to an end: {report}")
        for job in self._readers:
            self._actors.stop(job)
        self._nothing_is_lost()
        self._nothing_died_early()
        self._nobody_was_refused()

    def _until_done(self):
        for _ in range(40):
            job = self._rotate("schedule").wait()
            versions = self._store.versions()
            if job.report["state"] == "done" and not (versions.pending or versions.previous):
                return
            time.sleep(0.25)
        raise AssertionError(self._story(f"rotation is stuck: {job.report}"))

    def _nothing_is_lost(self):
        versions = self._store.versions()
        assert versions.pending is None
        assert versions.previous is None
        entries = self._api.tokens(self.name).values()
        live = {entry["id"] for entry in entries if entry["revoked_at"] is None}
        assert live == {versions.current.id}, self._story("what lives is not what is held")

    def _nothing_died_early(self):
        for job in [*self._readers, *self._hoarders]:
            for line in job.told("read"):
                self._was_current(line["token"], line["began"])
        # A store dates a promotion when it begins to write it, some to the whole second.
        grace = GRACE - max(map(longest_promotion, self._rotators)) - self._dated_to
        for entry in self._api.tokens(self.name).values():
            current_at = self._current_at.get(entry["id"])
            if entry["revoked_at"] is None or current_at is None:
                continue
            died = datetime.fromisoformat(entry["revoked_at"]).timestamp()
            if not self._by_emergency(entry["id"], died):
                self.tally.retired += 1
                self.tally.soonest = min(self.tally.soonest, died - current_at)
                assert died >= current_at + grace, self._story(
                    f"{entry['id']} was revoked {died - current_at:.3f} s after it was CURRENT",
                    entry["id"],
                )

    def _nobody_was_refused(self):
        for job in self._readers:
            assert not job.told("failed"), self._story(f"a sender saw: {job.told('failed')}")
            self.tally.reads += job.told("sent")[0]["reads"]
            self.tally.sent += job.told("sent")[0]["count"]
            for line in job.told("refused"):
                self._judge(line, in_time=line["after"] <= REQUEST_DEADLINE)
        for job in self._hoarders:
            self.tally.hoarded += sum(line["uses"] for line in job.told("hoarded"))
            for line in job.told("hoarded in vain"):
                self._judge(line, in_time=line["gap"] <= WINDOW)

    def _judge(self, line, *, in_time):
        """A 401 is an emergency's, or the fault of who used the token too late; else it is ours."""
        if self._by_emergency(line["token"], line["at"]):
            self.tally.refused += 1
        else:
            assert not in_time, self._story(f"a token in use was refused: {line}", line["token"])
            self.tally.late += 1

    def _by_emergency(self, token_id, died):
        return any(
            token_id in held or began <= died <= ended + WINDOW
            for began, ended, held in self._emergencies
        )

    def _story(self, what, token_id=""):
        """The failure, and what every rotator told of it, in order."""
        jobs = [*self._rotators, *self._readers, *self._hoarders]
        lines = [{**line, "by": job.asked.get("intent")} for job in jobs for line in job.lines]
        told = sorted((li for li in lines if token_id in str(li)), key=lambda line: line["at"])
        held = {token.id for token in self._store.versions()}
        return "\n".join([f"{self.name}: {what}", f"held: {held}", *map(str, told[-80:])])


def longest_promotion(job):
    """Seconds that a promotion took, or had taken when it was killed."""
    pairs = itertools.pairwise(job.lines)
    return max((b["at"] - a["at"] for a, b in pairs if a.get("name") == "promote"), default=0.0)
