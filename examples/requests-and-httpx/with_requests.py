"""Code that uses Requests already: one line gives its session the current token."""

import os

import requests

from cmzon_secrets.integrations.requests_auth import TokenAuth

API = os.environ.get("CMZON_BASE_URL", "https://api.cmzon.com")
session = requests.Session()
session.auth = TokenAuth(os.environ["CMZON_TOKEN_URI"])


def send_message(to: str, text: str) -> requests.Response:
    return session.post(
        f"{API}/v1/messages",
        json={"to": to, "type": "text", "text": {"body": text}},
        timeout=10,
        allow_redirects=False,
    )


if __name__ == "__main__":
    print(send_message("+1234567890", "Hello from CMzon!").json())
