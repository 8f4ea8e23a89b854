"""One process of a race: ``python -m cmzon_secrets.testing.contender``, driven over its pipes.

First line in: how to open the store (pickled, base64). It answers ``ready``. Every further line is
a JSON array ``[verb, arguments]``; a token travels as its record. It answers with ``done`` or the
name of the error's class. The end of the input ends it.
"""

from __future__ import annotations

import base64
import json
import pickle
import sys
from collections.abc import Mapping
from typing import Any

from cmzon_secrets.errors import CMzonSecretsError
from cmzon_secrets.provider import TokenStore
from cmzon_secrets.records import from_record


def main() -> None:
    """Serve one driver on stdin and stdout."""
    opener = pickle.loads(base64.b64decode(sys.stdin.readline()))  # noqa: S301  # our parent wrote it
    with opener() as store:
        _say("ready")
        for line in sys.stdin:
            verb, arguments = json.loads(line)
            _say(_outcome(store, verb, arguments))


def _outcome(store: TokenStore, verb: str, arguments: Mapping[str, Any]) -> str:
    try:
        if verb == "stage":
            store.stage(from_record(arguments["token"]))
        elif verb == "promote":
            store.promote(arguments["token_id"], replacing=arguments["replacing"])
        else:
            store.discard(arguments["token_id"])
    except CMzonSecretsError as error:
        return type(error).__name__
    return "done"


def _say(word: str) -> None:
    sys.stdout.write(word + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
