"""What the database holds, in this format and how it comes from an older one."""

from __future__ import annotations

__all__ = ["OURS", "SHAPES", "STEPS", "TABLES", "VERSION"]

_FORMAT_1 = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE tokens (
  seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, sha256 TEXT NOT NULL UNIQUE,
  name TEXT NOT NULL, scopes TEXT NOT NULL, allowed_ips TEXT NOT NULL, created_at REAL NOT NULL,
  expires_at REAL, revoked_at REAL, last_used_at REAL, last_used_ip TEXT);
CREATE TABLE messages (
  seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, recipient TEXT NOT NULL, body TEXT NOT NULL,
  token_id TEXT NOT NULL, request_id TEXT NOT NULL, accepted_at REAL NOT NULL,
  idempotency_key TEXT);
CREATE TABLE idempotency (
  route TEXT NOT NULL, key TEXT NOT NULL, fingerprint TEXT NOT NULL, result_id TEXT NOT NULL,
  PRIMARY KEY (route, key)) WITHOUT ROWID;
CREATE TABLE audit (
  seq INTEGER PRIMARY KEY, at REAL NOT NULL, method TEXT NOT NULL, route TEXT, status INTEGER,
  token_id TEXT, ip TEXT NOT NULL, request_id TEXT NOT NULL);
"""
_TO_2 = """
ALTER TABLE tokens ADD COLUMN verified_at REAL;
ALTER TABLE tokens ADD COLUMN first_used_at REAL;
ALTER TABLE tokens ADD COLUMN promoted_at REAL;
ALTER TABLE tokens ADD COLUMN messages INTEGER NOT NULL DEFAULT 0;
ALTER TABLE tokens ADD COLUMN refused INTEGER NOT NULL DEFAULT 0;
ALTER TABLE tokens ADD COLUMN last_refused_at REAL;
CREATE TABLE token_events (
  seq INTEGER PRIMARY KEY, at REAL NOT NULL, event TEXT NOT NULL, token_id TEXT NOT NULL,
  by TEXT NOT NULL, ip TEXT, request_id TEXT);
CREATE INDEX token_events_by_token ON token_events (token_id);
CREATE TABLE days (day TEXT PRIMARY KEY, accepted INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE exchanges (
  seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, at REAL NOT NULL, seconds REAL NOT NULL,
  recipient TEXT NOT NULL, text TEXT NOT NULL, status INTEGER, message_id TEXT, token_id TEXT,
  ip TEXT NOT NULL, idempotency_key TEXT, notes TEXT NOT NULL, request_headers TEXT NOT NULL,
  request_body TEXT NOT NULL, response_headers TEXT NOT NULL, response_body TEXT NOT NULL);
CREATE INDEX exchanges_by_recipient ON exchanges (recipient, message_id);
CREATE INDEX audit_failed_sends ON audit (at)
  WHERE route = 'POST /v1/messages' AND (status IS NULL OR status >= 400);
UPDATE tokens SET promoted_at = first, messages = sent FROM
  (SELECT token_id, min(accepted_at) AS first, count(*) AS sent FROM messages GROUP BY token_id)
  WHERE token_id = tokens.id;
UPDATE tokens SET first_used_at = first FROM
  (SELECT token_id, min(at) AS first FROM audit GROUP BY token_id)
  WHERE token_id = tokens.id AND last_used_at IS NOT NULL;
INSERT INTO days SELECT date(accepted_at, 'unixepoch'), count(*) FROM messages GROUP BY 1;
INSERT INTO exchanges SELECT seq, request_id, accepted_at, 0, recipient, without_secrets(body),
  200, id, token_id, '', without_secrets(idempotency_key), '[]', '[]', '', '[]', '' FROM messages;
DROP TABLE messages;
UPDATE idempotency SET key = sha256(key);
ALTER TABLE idempotency RENAME COLUMN key TO key_sha256;
"""
STEPS = (_FORMAT_1, _TO_2)
"""What makes each format of the one before it; the first of nothing at all."""
VERSION = len(STEPS)
TABLES = ("tokens", "token_events", "days", "exchanges", "idempotency", "audit", "meta")
OURS = {"tokens", "idempotency", "audit", "meta"}
"""What every format has: by it a state is told from another program's database."""

_TEXTS = "EXISTS (SELECT 1 FROM json_each({0}) WHERE type != 'text')"
_PAIRS = (
    "EXISTS (SELECT 1 FROM json_each({0}) WHERE type != 'array' OR json_array_length(value) != 2"
    " OR json_type(value, '$[0]') != 'text' OR json_type(value, '$[1]') != 'text')"
)
SHAPES = {
    "tokens": {"scopes": _TEXTS, "allowed_ips": _TEXTS},
    "exchanges": {"notes": _TEXTS, "request_headers": _PAIRS, "response_headers": _PAIRS},
}
"""The columns that hold a JSON array, each with the condition that finds a wrong entry in it."""
