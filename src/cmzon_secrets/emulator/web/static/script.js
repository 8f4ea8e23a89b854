// What a page gains with a script: it follows what happens, counts down, and copies. Without one
// everything else works. Pages are rendered by the server only; this fetches the page anew and
// carries over what differs. Nothing is ever parsed from a string here (Trusted Types forbid it).
"use strict";

const PATIENCE = 250; // milliseconds between two looks, at least
const IDLE = 3; // and this many times what the last one took: a long page must not look all the time
const LONGEST_REST = 2000; // but no longer than that
const GLANCE = 5000; // between two looks of a hidden page at how much came
const TOO_LONG = 15000; // milliseconds for one look
const body = document.body;
const live = document.getElementById("live");
const said = document.getElementById("said");
const topics = body.dataset.topics.split(" ").filter(Boolean);
let now = Number(body.dataset.now); // the account's time, in Unix seconds, when the page was rendered
let readAt = performance.now();
let version = body.dataset.version; // of what the page shows

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

// What the reader opened stays open.
function carryAttributes(old, fresh) {
  for (const { name } of [...old.attributes]) {
    if (name !== "open" && !fresh.hasAttribute(name)) old.removeAttribute(name);
  }
  for (const { name, value } of fresh.attributes) {
    if (name !== "open" && old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
}

// Children with an id are the same thing wherever they stand; the others are told by their place.
// Whatever can stay is not moved: an element that moves loses focus, selection and scroll position.
function carryChildren(old, fresh) {
  const known = removeAllBut(new Set(Array.from(fresh.children, idOf)), old);
  let at = old.firstChild;
  for (const child of fresh.childNodes) {
    const match = known.get(idOf(child)) ?? (alike(at, child) ? at : null);
    while (at && match && at !== match && !idOf(at)) at = remove(at);
    if (match && match === at) at = at.nextSibling;
    else old.insertBefore(match ?? document.importNode(child, true), at);
    if (match) carry(match, child);
  }
  while (at) at = remove(at);
}

function removeAllBut(wanted, parent) {
  const known = new Map();
  for (const child of [...parent.children].filter(idOf)) {
    if (wanted.has(idOf(child))) known.set(idOf(child), child);
    else child.remove();
  }
  return known;
}

const alike = (old, fresh) => old && !idOf(old) && !idOf(fresh) && old.nodeName === fresh.nodeName;

// Not node.id: a form has its field of that name there.
function idOf(node) {
  return node.nodeType === Node.ELEMENT_NODE ? node.getAttribute("id") : null;
}

function remove(node) {
  const next = node.nextSibling;
  node.remove();
  return next;
}

// --- looking again -------------------------------------------------------------------------

let looking = false;
let again = false;

function look() {
  again = looking || document.hidden;
  if (again) return;
  looking = true;
  const began = performance.now();
  fetchPage(location.href, (fresh, status) => {
    try {
      if (fresh) show(fresh, status === 404);
    } finally { // whatever went wrong with one look, there are others
      setTimeout(rested, Math.min(LONGEST_REST, Math.max(PATIENCE, IDLE * (performance.now() - began))));
    }
  });
}

// The page at an address as a document, be it the one that says that there is none; else null.
function fetchPage(href, then) {
  const request = new XMLHttpRequest();
  request.open("GET", href);
  request.responseType = "document";
  request.timeout = TOO_LONG;
  request.onloadend = () => then([200, 404].includes(request.status) ? request.response : null, request.status);
  request.send();
}

function rested() {
  looking = false;
  if (again) look();
}

let gone = false; // what the page is about: a reset forgets tokens, and a snapshot brings them back

function show(fresh, isGone) {
  now = Number(fresh.body.dataset.now);
  readAt = performance.now();
  version = fresh.body.dataset.version;
  ready(fresh);
  const focused = document.activeElement;
  for (const part of document.querySelectorAll(isGone || gone ? "[data-live], #main" : "[data-live]")) {
    const other = fresh.getElementById(part.id);
    if (other) carry(part, other);
  }
  if (isGone || gone) title = fresh.title;
  gone = isGone;
  if (focused !== document.activeElement && focused?.isConnected) focused.focus({ preventScroll: true });
  renewForms(fresh.querySelector("input[name=csrf]")?.value);
  count(fresh);
}

// The emulator may have been started anew since the page was loaded.
function renewForms(csrf) {
  if (!csrf) return;
  for (const field of document.querySelectorAll("input[name=csrf]")) field.value = csrf;
}

// --- following -----------------------------------------------------------------------------

// A hidden page lets go of its stream: a browser has only six connections to one address.
let stream = null;

function follow() {
  if (stream || document.hidden) return;
  stream = new EventSource(`/dashboard/events?seen=${version}`); // what happened since is told at once
  stream.onopen = () => say("live");
  stream.onerror = () => {
    say("reconnecting…");
    if (stream.readyState !== EventSource.CLOSED) return; // the browser comes back by itself
    leave();
    setTimeout(follow, 2000);
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

// --- what came meanwhile ---------------------------------------------------------------------

// A hidden page of messages says in its title how many came since it was last looked at. It has no
// stream, and glances at the smallest page there is.
let title = document.title;
const lastOf = (page) => Number(page.getElementById("inbox")?.dataset.last);
let lookedAt = lastOf(document);

function count(fresh) {
  if (!document.hidden) lookedAt = lastOf(fresh);
  const came = lastOf(fresh) - lookedAt;
  document.title = came > 0 ? `(${came}) ${title}` : title;
}

function glance() {
  if (document.hidden && !Number.isNaN(lookedAt)) {
    fetchPage("/dashboard?limit=1", (fresh) => { if (fresh) count(fresh); });
  }
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

// As the server words it.
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

async function copy(source) {
  try {
    await navigator.clipboard.writeText(source.value ?? source.textContent);
    tell("Copied");
  } catch {
    if (source.select) source.select();
    else getSelection().selectAllChildren(source);
    tell("Selected: copy it with Ctrl+C");
  }
}

let silence;

function tell(text) {
  said.textContent = text;
  clearTimeout(silence);
  silence = setTimeout(() => { said.textContent = ""; }, 2000);
}

// What works with a script only is hidden until there is one.
function ready(root) {
  for (const part of root.querySelectorAll("[data-copy][hidden], [data-key][hidden]")) part.hidden = false;
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-copy]");
  if (button) copy(document.getElementById(button.dataset.copy));
  // A click anywhere on a message is one on its link, unless it ends a selection.
  const message = event.target.closest("a") ? null : event.target.closest("#bubbles li");
  if (message && getSelection().isCollapsed) message.querySelector("a")?.click();
});

// What asks whether one is sure lies over what is below it.
function closeQuestion(near) {
  const open = "details.sure[open]";
  const question = near.closest(open) ?? document.querySelector(open);
  if (!question) return;
  question.open = false;
  question.querySelector("summary").focus();
}

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") closeQuestion(event.target);
  if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey) return;
  const search = document.querySelector("input[type=search]");
  if (!search || event.target.closest("input, textarea, select")) return;
  event.preventDefault();
  search.focus();
});

document.addEventListener("visibilitychange", () => {
  if (document.hidden) leave();
  else follow();
  count(document);
});

// A page that was left by a link on it is found as it was left. Noted while it is scrolled: to ask when
// it is left would lay out a long page once more, and the next one would wait for that.
for (const part of document.querySelectorAll("[data-keep-scroll]")) {
  part.scrollTop = Number(sessionStorage.getItem(part.id));
  part.addEventListener("scroll", () => sessionStorage.setItem(part.id, part.scrollTop), { passive: true });
}

// What a page says was done is said once: not again where it is loaded anew or kept as a bookmark.
const address = new URL(location.href);
if (address.searchParams.has("done")) {
  address.searchParams.delete("done");
  history.replaceState(history.state, "", address);
}

ready(document);
setInterval(tick, 1000);
setInterval(glance, GLANCE);
follow();
