"""A folder with many accounts, for the commands that work on all of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

HEAD = 'admin = "env:ADMIN_TOKEN"\n[defaults]\nrotate_every = "30d"\n'


def place(name: str, *, key: str = "token.key") -> str:
    return f"file:places/{name}.sealed?key=keyfile:{key}"


class Accounts:
    """The text of a ``cmzon-secrets.toml`` in ``folder``, written anew at each change."""

    def __init__(self, folder: Path, count: int) -> None:
        self.path = folder / "cmzon-secrets.toml"
        self.settings: dict[str, dict[str, object]] = {
            f"acme-{n:03}": {"token": place(f"acme-{n:03}")} for n in range(count)
        }
        (folder / "places").mkdir()
        self.write()

    def __iter__(self):
        return iter(self.settings)

    def change(self, name: str, /, **settings: object) -> None:
        self.settings.setdefault(name, {}).update(settings)
        self.write()

    def write(self, head: str = HEAD) -> None:
        tables = [
            f"[accounts.{json.dumps(name)}]\n"
            + "".join(f"{k} = {json.dumps(v)}\n" for k, v in given.items())
            for name, given in self.settings.items()
        ]
        self.path.write_text(head + "\n" + "\n".join(tables))


def items(done) -> Mapping[str, dict[str, object]]:
    """Account → its item, in the order of the document."""
    return {item["account"]: item for item in json.loads(done.out)["items"]}


def kinds(item: Mapping[str, object]) -> list[str]:
    return [action["kind"] for action in item["actions"]]
