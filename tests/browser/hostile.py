"""What people and programs could write into everything that the dashboard shows."""

from cmzon_secrets.emulator.web.visible import as_on_a_phone, visible

RUN = "window.pwned=1"

TEXTS = [
    f"<script>{RUN}</script>",
    f"</script><script>{RUN}</script>",
    f"<ScRiPt\n>{RUN}</sCrIpT >",
    f"<script src=data:,{RUN}></script>",
    f"<img src=x onerror={RUN}>",
    f"<img src='x' onerror='{RUN}' ",
    f"<svg onload={RUN}>",
    f"<svg><script>{RUN}</script></svg>",
    f"<svg><animate onbegin={RUN} attributeName=x dur=1s>",
    f"<math><mtext></mtext><mglyph><style><!--</style><img title='--&gt;&lt;img src=1 onerror={RUN}&gt;'>",
    f"<iframe srcdoc='<script>parent.{RUN}</script>'></iframe>",
    f"<iframe src='javascript:parent.{RUN}'></iframe>",
    f"<object data='data:text/html,<script>{RUN}</script>'></object>",
    "<base href='https://evil.example/'>",
    "<meta http-equiv=refresh content='0;url=https://evil.example/'>",
    "<link rel=stylesheet href=https://evil.example/x.css>",
    "<style>body{display:none}</style>",
    "<form action=https://evil.example><button>Generate New Token</button></form>",
    f"<body onload={RUN}>",
    f"<details open ontoggle={RUN}>",
    f"<input autofocus onfocus={RUN}>",
    f'" onmouseover="{RUN}" x="',
    f"' onfocus='{RUN}' autofocus='",
    f'"><script>{RUN}</script>',
    f"'><img src=x onerror={RUN}>",
    f"` onclick={RUN} `",
    f"</textarea><script>{RUN}</script>",
    f"</title><script>{RUN}</script>",
    f"</style><script>{RUN}</script>",
    f"--><script>{RUN}</script><!--",
    f"]]><script>{RUN}</script>",
    f"javascript:{RUN}",
    f"jAvAsCrIpT&colon;{RUN}",
    f"data:text/html,<script>{RUN}</script>",
    "{{ 7 * 7 }} {% if 1 %}{{ account.admin_token() }}{% endif %} {# gone #}",
    "${7*7} #{7*7} <%= 7*7 %>",
    f"&lt;script&gt;{RUN}&lt;/script&gt; &amp;amp; &#60;b&#62;",
    f"\u2028{RUN}\u2029",
    "\u202egnirts desrever\u202c \u2066isolated\u2069 \u200f\u061c",
    "NUL:\x00 bell:\x07 escape:\x1b[31m delete:\x7f",
    "\ufeff\ufffe\uffff\ufdd0 \U0001ffff",
    "👩‍👩‍👧‍👦 🏳️‍🌈 e\u0301 Z\u0351\u036b\u0343\u036a\u0302a\u0334\u0335lgo \u200b|\u00ad|",
    "'; DROP TABLE exchanges; -- \\' $(reboot) `reboot` $CMZON_API_TOKEN",
    "../../etc/passwd?to=x&show=y#z%00%3Cscript%3E",
    "two\nlines\r\nand\ttabs",
    "W" * 4096,
    f"<script>{RUN}</script> " * 125,
]
"""Each at most 4,096 characters, which is what a message may have."""

POLYGLOT = (
    f"jaVasCript:/*-/*`/*\\`/*'/*\"/**/(/* */oNcliCk={RUN} )//%0D%0A"
    f"</stYle/</titLe/</teXtarEa/</scRipt/--!>\\x3csVg/<sVg/oNloAd={RUN}//>\\x3e {{{{7*7}}}}"
)
"""One that breaks out of most places at once."""

SHORT = [text for text in TEXTS if len(text) <= 200]
"""Those that can be a token's name."""

HARM = """(other) => {
  const page = other ?? document;
  const links = /^(href|src|action)$/i;
  const foreign = (a) => /^on/i.test(a.name) || a.name === "style"
    || (links.test(a.name) && !/^(\\/|#|\\?|$)/.test(a.value));
  const elements = [...page.querySelectorAll("*")];
  const active = "script, style, iframe, object, embed, base, meta[http-equiv]";
  return [
    ...(window.pwned === undefined ? [] : ["a script ran"]),
    ...elements.flatMap((element) => [...element.attributes].filter(foreign)
      .map((a) => `<${element.localName} ${a.name}="${a.value.slice(0, 80)}">`)),
    ...elements.filter((element) => element.matches(active))
      .filter((element) => !element.matches('script[src="/dashboard/script.js"]'))
      .map((element) => element.outerHTML.slice(0, 80)),
  ];
}"""
"""What a text has done to a page: nothing, as long as it is only text."""

READ = """async (paths) => {
  const harm = HARM;
  const read = (path) => new Promise((done) => {
    const request = new XMLHttpRequest();
    request.open("GET", path);
    request.responseType = "document";
    request.onloadend = () => done(request.response
      ? {text: request.response.documentElement.textContent, harm: harm(request.response)}
      : {text: "", harm: ["no page came"]});
    request.send();
  });
  const pages = {};
  for (const path of paths) pages[path] = await read(path);
  return pages;
}""".replace("HARM", HARM)
"""Has a page read others as the script reads them: their text, and the harm, by path. It takes a tenth
of the time that it takes to open them."""


def as_shown(text):
    """A text as a page has it: what cannot be seen as pictures, line ends as HTML reads them."""
    return as_html_reads(visible(text))


def as_on_screen(text):
    """A message's text as a bubble and its details have it."""
    return as_html_reads(as_on_a_phone(text))


def as_html_reads(text):
    return text.replace("\r\n", "\n").replace("\r", "\n")
