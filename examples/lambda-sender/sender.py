"""An AWS Lambda function that sends what a queue (SQS) brings; handler: ``sender.handler``.

Its environment names the token's place (``CMZON_TOKEN_URI=awssecretsmanager://ARN``); its role may
read it: ``cmzon-secrets doctor --policy reader``. The client is made once for each instance of the
function: while that is warm, token and connection are there, and a rotation needs no deployment.

Give the function a reserved concurrency: all instances together share the account's limits.
"""

import json
import os
from typing import Any

from cmzon_secrets import Client, RateLimits
from cmzon_secrets.errors import CMzonSecretsError, RequestRejected

INSTANCES = int(os.environ.get("RESERVED_CONCURRENCY", "1"))
limits = RateLimits(per_second=80 / INSTANCES, per_day=10_000 // INSTANCES)
client = Client(os.environ["CMZON_TOKEN_URI"], limits=limits)


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Send each record's ``{"to", "text"}``; the queue brings back those that failed."""
    failed = [record["messageId"] for record in event["Records"] if not _sent(record)]
    return {"batchItemFailures": [{"itemIdentifier": name} for name in failed]}


def _sent(record: dict[str, Any]) -> bool:
    key = record["messageId"]  # the same when a record is delivered twice: one message
    try:
        message = json.loads(record["body"])
        client.send_message(message["to"], message["text"], idempotency_key=key)
    except RequestRejected as error:  # again would not help
        print(json.dumps({"rejected": key, "why": str(error)}))
    except (CMzonSecretsError, LookupError, TypeError, ValueError) as error:
        unknown = getattr(
            error, "may_have_been_sent", False
        )  # again might be twice: a person looks
        what = {"unknown" if unknown else "failed": key, "error": type(error).__name__}
        print(json.dumps({**what, "why": str(error)}))
        return unknown
    return True
