// What a page gains with a script: it follows what happens, counts down, and copies. Without one
// everything else works. Pages are rendered by the server only; this fetches the page anew and
// carries over what differs. Nothing is ever parsed from a string here (Trusted Types forbid it).
"use strict";

const PATIENCE = 250; // milliseconds between two looks
const live = document.getElementById("live");
const topics = document.body.dataset.topics.split(" ").filter(Boolean);
const began = performance.now();
let now = Number(document.body.dataset.now);
let readAt = began;

// --- carrying over -------------------------------------------------------------------------

function carry(old, fresh) {
  if (old.isEqualNode(fresh)) return;
  if (old.nodeType !== fresh.nodeType || old.nodeName !== fresh.nodeName) {
    old.replaceWith(document.importNode(fresh, true));
  } else if (old.nodeType !== Node.ELEMENT_NODE) {
    old.nodeValue = fresh.nodeValue;
  } else {
    carryAttributes(old, fresh);
    carryChildren(old, fresh);
  }
}

function carryAttributes(old, fresh) {
  for (const { name } of [...old.attributes]) {
    if (name !== "open" && !fresh.hasAttribute(name)) old.removeAttribute(name);
  }
  for (const { name, value } of [...fresh.attributes]) {
    if (name !== "open" && old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
}

// Children with an id are the same thing wherever they stand; the others are told by their place.
function carryChildren(old, fresh) {
  const known = new Map([...old.children].filter((child) => child.id).map((child) => [child.id, child]));
  let at = old.firstChild;
  for (const child of fresh.childNodes) {
    const here = at && !at.id && !child.id && at.nodeName === child.nodeName ? at : null;
    const match = child.id ? known.get(child.id) : here;
    if (!match) {
      old.insertBefore(document.importNode(child, true), at);
      continue;
    }
    if (match === at) at = at.nextSibling;
    else old.insertBefore(match, at);
    carry(match, child);
  }
  while (at) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
}

// --- looking again -------------------------------------------------------------------------

let looking = false;
let again = false;

function look() {
  if (looking || document.hidden) {
    again = true;
    return;
  }
  looking = true;
  again = false;
  const request = new XMLHttpRequest();
  request.open("GET", location.href);
  request.responseType = "document";
  request.onloadend = () => {
    if (request.status === 200 && request.response) show(request.response);
    setTimeout(() => {
      looking = false;
      if (again) look();
    }, PATIENCE);
  };
  request.send();
}

function show(fresh) {
  now = Number(fresh.body.dataset.now);
  readAt = performance.now();
  const csrf = fresh.querySelector("input[name=csrf]")?.value;
  for (const part of document.querySelectorAll("[data-live]")) {
    const other = fresh.getElementById(part.id);
    if (!other) continue;
    const atEnd = part.scrollHeight - part.scrollTop - part.clientHeight < 40;
    carry(part, other);
    if (part.hasAttribute("data-end") && atEnd) part.scrollTop = part.scrollHeight;
  }
  if (csrf) for (const field of document.querySelectorAll("input[name=csrf]")) field.value = csrf;
  ready(document);
}

// A hidden page lets go of its stream: a browser has only six connections to one address.
let stream = null;
let broken = false;

function follow() {
  if (stream || document.hidden) return;
  stream = new EventSource("/dashboard/events");
  stream.onopen = () => {
    say("live");
    if (broken || again) look();
    broken = false;
  };
  stream.onerror = () => {
    broken = true;
    say("reconnecting…");
    if (stream.readyState === EventSource.CLOSED) {
      leave();
      setTimeout(follow, 2000);
    }
  };
  stream.addEventListener("changed", (event) => {
    if (event.data.split(" ").some((topic) => topics.includes(topic))) look();
  });
}

function leave() {
  stream?.close();
  stream = null;
}

function say(state) {
  live.hidden = false;
  if (live.textContent !== state) live.textContent = state;
  live.dataset.state = state;
}

// --- small things --------------------------------------------------------------------------

function tick() {
  const moment = now + (performance.now() - readAt) / 1000;
  for (const time of document.querySelectorAll("time[data-until]")) {
    const left = Number(time.dataset.until) - moment;
    const text = left > 0 ? `in ${duration(left)}` : `${duration(-left)} ago`;
    if (time.textContent !== text) time.textContent = text;
  }
}

function duration(seconds) {
  let left = Math.floor(seconds);
  const parts = [];
  for (const [size, unit] of [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]]) {
    const count = Math.floor(left / size);
    left -= count * size;
    if (count || parts.length || unit === "s") parts.push([count, unit]);
  }
  const shown = parts.slice(0, 2).filter(([count]) => count || parts.length === 1);
  return shown.map(([count, unit]) => `${count} ${unit}`).join(" ");
}

async function copy(button) {
  await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
  const label = button.textContent;
  button.textContent = "Copied";
  setTimeout(() => { button.textContent = label; }, 1500);
}

function ready(root) {
  for (const button of root.querySelectorAll("button[data-copy][hidden]")) button.hidden = false;
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-copy]");
  if (button) copy(button);
});

document.addEventListener("keydown", (event) => {
  const typing = event.target.closest("input, textarea, select");
  const search = document.querySelector("input[type=search]");
  if (event.key === "/" && !typing && search) {
    event.preventDefault();
    search.focus();
  }
});

document.addEventListener("visibilitychange", () => {
  if (document.hidden) leave();
  else if (topics.length) {
    again = true;
    follow();
  }
});

ready(document);
for (const part of document.querySelectorAll("[data-end]")) part.scrollTop = part.scrollHeight;
setInterval(tick, 1000);
if (topics.length) follow();
