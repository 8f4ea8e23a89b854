"""Pages of other sites, opened in a browser on the machine where the emulator runs."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

ATTEMPTS = """async (url) => {
  const told = {};
  const attempt = async (name, path, options) => {
    try {
      const answer = await fetch(url + path, options);
      told[name] = answer.type === "opaque" ? "sent, not readable" : await answer.text();
    } catch (error) {
      told[name] = error.name;
    }
  };
  const form = () => new URLSearchParams({name: "stolen", scopes: "messages:send", advance: "60"});
  await attempt("reads a page", "/dashboard", {});
  await attempt("reads the stream", "/dashboard/events", {});
  await attempt("posts a form", "/dashboard/tokens", {method: "POST", body: form()});
  await attempt("posts blindly", "/dashboard/tokens", {method: "POST", body: form(), mode: "no-cors"});
  await attempt("posts JSON", "/v1/tokens",
    {method: "POST", body: "{}", headers: {"Content-Type": "application/json"}});
  told["follows the stream"] = await new Promise((done) => {
    const stream = new EventSource(url + "/dashboard/events");
    stream.onopen = () => done("open");
    stream.onerror = () => { stream.close(); done("refused"); };
  });
  return told;
}"""
SENDS = """async (url) => {
  const message = {to: "+12025550123", type: "text", text: {body: "not from here"}};
  const blindly = {method: "POST", body: JSON.stringify(message), mode: "no-cors"};
  await Promise.allSettled([1, 2, 3].map(() => fetch(url + "/v1/messages", blindly)));
}"""
FORM = """<!doctype html><title>Win a prize</title>
<form method="post" action="{url}/dashboard/tokens">
<input name="csrf" value="{csrf}"><input name="once" value="x"><input name="name" value="stolen">
<input name="scopes" value="messages:send"><button>Yes please</button></form>
<script>/* a page of its own would not ask for the click */</script>"""
FRAME = """<!doctype html><title>Frame</title><iframe src="{url}/dashboard" width="900" height="500"></iframe>"""
LINK = """<!doctype html><title>Link</title><a href="{url}/dashboard">Look</a>"""


class OtherSite:
    """Serves one page on a port of its own, whatever is asked for."""

    def __init__(self):
        self.page = "<!doctype html><title>Harmless</title>"
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200)
                self.send_header("Content-Type", "text/html")
                self.end_headers()
                self.wfile.write(site.page.encode())

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def close(self):
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def other_site():
    site = OtherSite()
    yield site
    site.close()


@pytest.fixture(params=["127.0.0.1", "localhost"], ids=["another port", "another name"])
def foreign(request, chromium, other_site):
    """A page of the other site; what it complains of is its own affair."""
    context = chromium.new_context(base_url=f"http://{request.param}:{other_site.port}")
    page = context.new_page()
    page.goto("/")
    yield page
    context.close()


def everything(api):
    """All that a form could change."""
    looked_at = ("faults", "limits", "stats")
    controls = {name: api.http.get(f"/_emulator/{name}").json() for name in looked_at}
    shift = api.http.get("/_emulator/clock").json()["shift"]
    kept = api.http.get("/_emulator/messages").json()["data"]
    return controls["faults"], controls["limits"], controls["stats"]["tokens"], shift, kept


def a_form_value(api):
    """The secret of the forms, as no other page can know it."""
    page = api.http.get("/dashboard/tokens").text
    return page.split('name="csrf" value="')[1].split('"')[0]


def test_a_script_of_another_site_reads_nothing_and_changes_nothing(cmzon_emulator, api, foreign):
    before = everything(api)
    told = foreign.evaluate(ATTEMPTS, cmzon_emulator.base_url)
    assert told.pop("follows the stream") == "refused"
    assert told.pop("posts blindly") in ("sent, not readable", "TypeError")
    assert set(told.values()) == {"TypeError"}, told
    assert everything(api) == before


@pytest.mark.parametrize("knows_the_secret", [False, True], ids=["guessing", "knowing the secret"])
def test_a_form_of_another_site_is_refused(
    cmzon_emulator, api, other_site, foreign, knows_the_secret
):
    csrf = a_form_value(api) if knows_the_secret else "guess"
    other_site.page = FORM.format(url=cmzon_emulator.base_url, csrf=csrf)
    before = everything(api)
    foreign.reload()
    with foreign.expect_navigation() as answer:
        foreign.get_by_role("button", name="Yes please").click()
    assert answer.value.status == 403
    assert everything(api) == before


def test_a_page_of_another_site_cannot_frame_the_dashboard(cmzon_emulator, other_site, foreign):
    other_site.page = FRAME.format(url=cmzon_emulator.base_url)
    refusals = []
    foreign.on("console", lambda message: refusals.append(message.text))
    foreign.reload()
    assert "Messages" not in foreign.frame_locator("iframe").locator("body").inner_text()
    assert any("frame-ancestors" in text or "403" in text for text in refusals), refusals


def test_a_link_of_another_site_opens_the_dashboard(cmzon_emulator, other_site, foreign):
    other_site.page = LINK.format(url=cmzon_emulator.base_url)
    foreign.reload()
    foreign.get_by_role("link", name="Look").click()
    foreign.get_by_role("heading", name="Messages", level=1).wait_for()


@pytest.fixture
def misled(launch):
    """A browser for which the name of another site leads to this machine."""
    browser = launch("--host-resolver-rules=MAP evil.example 127.0.0.1")
    yield browser
    browser.close()


def test_a_name_that_was_made_to_lead_here_is_refused(cmzon_emulator, api, misled):
    """DNS rebinding: for the browser the emulator is then that site's own server."""
    url = cmzon_emulator.base_url.replace("127.0.0.1", "evil.example")
    before = everything(api)
    page = misled.new_page()
    assert page.goto(f"{url}/dashboard").status == 403
    assert "Host has to be this machine" in page.content()
    told = page.evaluate(ATTEMPTS, url)
    assert told.pop("follows the stream") == "refused"
    assert told.pop("posts blindly") == told["posts a form"]
    assert all("Loopback only" in text for text in told.values()), told
    assert everything(api) == before


def test_a_page_of_such_a_name_is_not_heard_by_the_api_though_its_browser_says_nothing_of_it(
    cmzon_emulator, api, misled
):
    """By http a browser tells neither ``Origin`` nor ``Sec-Fetch-Site`` of what a page only reads."""
    url = cmzon_emulator.base_url.replace("127.0.0.1", "evil.example")
    api.control("faults", route="GET /v1/tokens", status=500, count=1)
    before = everything(api)
    page = misled.new_page()
    page.goto(f"{url}/nowhere")
    read = "async (url) => (await fetch(url + '/v1/tokens', {headers: {'Accept-Language': ''}})).text()"
    assert "Host has to be this machine" in page.evaluate(read, url)
    assert everything(api) == before
    assert api.call("GET", "/v1/tokens").status_code == 500


def test_of_what_a_page_on_the_web_sends_blindly_nothing_is_kept_and_no_fault_is_used_up(
    cmzon_emulator, api, other_site, misled
):
    api.send("kept")
    api.control("faults", route="POST /v1/messages", status=500, count=1)
    before = everything(api)
    page = misled.new_page()
    page.goto(f"http://evil.example:{other_site.port}/")
    page.evaluate(SENDS, cmzon_emulator.base_url)
    assert everything(api) == before
    assert api.send("meets the fault").status_code == 500
