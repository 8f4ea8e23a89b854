"""``forked_actors`` from outside: its processes as jobs, and the emulator as a process of its own."""

import itertools
import json
import subprocess
import sys
import threading
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import cmzon_secrets

PROGRAM = Path(__file__).with_name("forked_actors.py")
PATIENCE = 60.0
"""Seconds for what takes a fraction of one on an idle machine."""


class Job:
    """One process: the lines it told, and how it ended."""

    def __init__(self, number, asked):
        self.number = number
        self.asked = asked
        self.lines = []
        self.done = threading.Event()

    def told(self, what):
        return [line for line in list(self.lines) if line["what"] == what]

    def wait(self):
        assert self.done.wait(PATIENCE), f"it does not end: {self}"
        assert self.told("ended"), f"nobody saw it end: {self}"
        assert not self.told("broke"), f"it broke: {self}"
        return self

    @property
    def report(self):
        return next(iter(self.told("report")), None)

    @property
    def killed(self):
        """In the middle of its work; one that had told its result does not count."""
        return self.told("ended")[0]["killed"] and self.report is None

    @property
    def last_call(self):
        names = [line["name"] for line in self.told("call")]
        return names[-1] if names else "no call yet"

    @property
    def lasted(self):
        return self.report["at"] - self.told("began")[0]["at"]

    def __str__(self):
        return "\n  ".join([str(self.asked), *map(str, self.lines[-40:])])


class Actors:
    """The program: ``start`` lets it fork a process."""

    def __init__(self, process):
        self._process = process
        self._numbers = itertools.count(1)
        self._writing = threading.Lock()
        self._jobs = {}
        self.listener = threading.Thread(target=self._listen, daemon=True)
        self.listener.start()

    def start(self, do, **options):
        job = Job(next(self._numbers), {"do": do, **options})
        self._jobs[job.number] = job
        self._say(job=job.number, do=do, **options)
        return job

    def stop(self, job):
        self._say(job=job.number, do="stop")
        return job.wait()

    def _say(self, **command):
        with self._writing:
            self._process.stdin.write(json.dumps(command) + "\n")
            self._process.stdin.flush()

    def _listen(self):
        for line in self._process.stdout:
            told = json.loads(line)
            job = self._jobs[told["job"]]
            job.lines.append(told)
            if told["what"] == "ended":
                job.done.set()
        for job in self._jobs.values():  # the program is gone
            job.done.set()


@contextmanager
def actors(environment):
    """The program, in an environment that leads to the store's server and to the API."""
    folders = [Path(__file__).parents[1], Path(cmzon_secrets.__file__).parents[1]]
    path = ":".join(map(str, folders))
    process = subprocess.Popen(
        [sys.executable, str(PROGRAM)],
        env={**environment, "PYTHONPATH": path},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    told = Actors(process)
    try:
        yield told
    finally:
        process.stdin.close()
        try:
            code = process.wait(PATIENCE)
        finally:
            process.kill()
            told.listener.join(PATIENCE)
            process.stdout.close()
    assert code == 0


class API:
    """The emulator in a process of its own."""

    def __init__(self, ready):
        self.base_url = ready["base_url"]
        self.admin_token = Path(ready["admin_token_file"]).read_text().strip()

    @property
    def environment(self):
        return {"CMZON_BASE_URL": self.base_url, "CMZON_API_TOKEN": self.admin_token}

    def stats(self):
        return self._get("/_emulator/stats")

    def tokens(self, name):
        """Id → entry, of all tokens of an account."""
        found, cursor = {}, ""
        while cursor is not None:
            page = self._get(f"/v1/tokens?cursor={cursor}")
            found |= {e["id"]: e for e in page["data"] if e["name"].startswith(f"{name}-")}
            cursor = page["next_cursor"]
        return found

    def _get(self, path):
        headers = {"Authorization": f"Bearer {self.admin_token}"}
        request = urllib.request.Request(self.base_url + path, headers=headers)
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request) as answer:
            return json.load(answer)


@contextmanager
def api():
    command = [sys.executable, "-m", "cmzon_secrets.cli", "emulator", "--port", "0", "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    with process:
        try:
            yield API(json.loads(process.stdout.readline()))
        finally:
            process.terminate()
