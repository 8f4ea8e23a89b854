"""Whoever uses the API while people look at the dashboard."""

import httpx2

TO = "+12025550123"


class Caller:
    """Calls the API and the controls of one emulator; ``token`` None is the admin token."""

    def __init__(self, base_url, admin_token):
        self.base_url = base_url
        self._admin_token = admin_token
        self.http = httpx2.Client(base_url=base_url, trust_env=False, verify=False, timeout=30)

    def call(self, method, path, token=None, headers=(), **options):
        authorized = {"Authorization": f"Bearer {token or self._admin_token}", **dict(headers)}
        return self.http.request(method, path, headers=authorized, **options)

    def send(self, text="Hello from CMzon!", to=TO, token=None, **headers):
        body = {"to": to, "type": "text", "text": {"body": text}}
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.call("POST", "/v1/messages", token, named, json=body)

    def issue(self, name="acme", **wish):
        body = {"name": name, "scopes": ["messages:send"], **wish}
        return self.call("POST", "/v1/tokens", json=body).raise_for_status().json()

    def control(self, name, **body):
        return self.http.post(f"/_emulator/{name}", json=body).raise_for_status().json()

    def messages(self):
        return self.control_stats()["messages"]

    def control_stats(self):
        return self.http.get("/_emulator/stats").raise_for_status().json()

    def close(self):
        self.http.close()
