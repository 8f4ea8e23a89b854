"""urllib3, the token asked for at each message; a 401 is answered once, with another token."""

import os

import urllib3

from cmzon_secrets import Token, TokenCache, open_provider

MESSAGES = os.environ.get("CMZON_BASE_URL", "https://api.cmzon.com") + "/v1/messages"
cache = TokenCache(open_provider())  # $CMZON_TOKEN_URI
http = urllib3.PoolManager(timeout=10.0, retries=False)  # nor are redirects followed


def send_message(to: str, text: str) -> urllib3.BaseHTTPResponse:
    body: dict[str, object] = {"to": to, "type": "text", "text": {"body": text}}
    token = cache.get()
    answer = _post(body, token)
    if answer.status == 401:
        cache.invalidate(token)
        another = cache.get()
        if another != token:  # never the same token twice
            answer = _post(body, another)
    return answer


def _post(body: dict[str, object], token: Token) -> urllib3.BaseHTTPResponse:
    headers = {"Authorization": f"Bearer {token.reveal()}"}
    return http.request("POST", MESSAGES, json=body, headers=headers)


if __name__ == "__main__":
    print(send_message("+1234567890", "Hello from CMzon!").json())
