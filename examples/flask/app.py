"""A Flask app that tells customers that their order is on its way.

    export CMZON_TOKEN_URI=… WEB_CONCURRENCY=4
    gunicorn --preload app:app

One client for each process: it opens nothing before the first message, so it survives the fork.
"""

import os

from flask import Flask, abort

from cmzon_secrets import Client, RateLimits
from cmzon_secrets.errors import CMzonSecretsError

WORKERS = int(os.environ.get("WEB_CONCURRENCY", "1"))  # they share the account's limits

app = Flask(__name__)
client = Client(
    os.environ["CMZON_TOKEN_URI"],
    limits=RateLimits(per_second=80 // WORKERS, per_day=10_000 // WORKERS),
)
customers = {1001: "+1234567890"}  # of your database


@app.post("/orders/<int:number>/shipped")
def shipped(number: int) -> tuple[dict[str, str | None], int]:
    to = customers.get(number) or abort(404)
    # The key makes the second click on the button no second message.
    result = client.send_message(
        to, f"Order {number} is on its way.", idempotency_key=f"shipped-{number}"
    )
    return {"message": result.id}, 202


@app.errorhandler(CMzonSecretsError)
def not_sent(error: CMzonSecretsError) -> tuple[dict[str, str], int]:
    app.logger.warning("message not sent: %s", error)  # it holds no token, number or text
    return {"error": "message not sent"}, 503 if error.retryable else 502
