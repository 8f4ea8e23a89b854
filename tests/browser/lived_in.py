"""An emulator in which a lot has happened, and every page of it."""

from browser.callers import Caller
from browser.hostile import SHORT, TEXTS

NUMBERS = ("+12025550123", "+4915112345678", "+81312345678")


def live_in(emulator):
    """Use everything there is once."""
    api = Caller(emulator.base_url, emulator.admin_token)
    tokens = [api.issue(expires_in=5_184_000, allowed_ips=["127.0.0.1", "10.0.0.0/8"])]
    tokens += [api.issue(), api.issue("W" * 200), api.issue(SHORT[0], scopes=["audit:read"])]
    for n, text in enumerate(["Hello!", "Your parcel is on its way.", *TEXTS]):
        api.send(text, NUMBERS[n % 3], tokens[n % 2]["token"])
    api.send("to nobody", to="no number")
    api.send("twice", Idempotency_Key="once")
    api.send("twice", Idempotency_Key="once")
    api.call("DELETE", f"/v1/tokens/{tokens[0]['id']}")
    api.send("too late", token=tokens[0]["token"])
    api.control("limits", per_second=100)
    api.control("clock", advance=86_400)
    api.control("faults", route="POST /v1/messages", status=429, retry_after=1, count=20)
    api.control("faults", route="GET /v1/tokens", latency=0.1, probability=0.5, seed=7)
    api.send("struck by a fault")
    shown = api.send("struck by a fault").headers["X-Request-Id"]
    api.close()
    return pages(tokens[0]["id"], shown)


def pages(token_id, request_id):
    """Every page by its name."""
    return {
        "messages": "/dashboard",
        "conversation": "/dashboard?to=%2B12025550123",
        "message": f"/dashboard?to=%2B12025550123&show={request_id}",
        "all messages": "/dashboard?limit=all",
        "nothing found": "/dashboard?text=no+such+text",
        "refused filter": "/dashboard?status=abc",
        "settings": "/dashboard/tokens",
        "token": f"/dashboard/tokens/{token_id}",
        "unknown token": "/dashboard/tokens/tok_unknown",
        "rotation": "/dashboard/rotation",
        "rehearse": "/dashboard/rehearse",
        "audit": "/dashboard/audit",
        "refused audit filter": "/dashboard/audit?event=abc",
    }
