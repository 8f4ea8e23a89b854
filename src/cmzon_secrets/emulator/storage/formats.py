"""What the database holds, in this format and how it comes from an older one."""

from __future__ import annotations

__all__ = ["JSON_COLUMNS", "OURS", "STEPS", "TABLES", "VERSION"]

VERSION = 2
_SCHEMA = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE tokens (
  seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, sha256 TEXT NOT NULL UNIQUE,
  name TEXT NOT NULL, scopes TEXT NOT NULL, allowed_ips TEXT NOT NULL, created_at REAL NOT NULL,
  expires_at REAL, revoked_at REAL, last_used_at REAL, last_used_ip TEXT);
CREATE TABLE idempotency (
  route TEXT NOT NULL, key TEXT NOT NULL, fingerprint TEXT NOT NULL, result_id TEXT NOT NULL,
  PRIMARY KEY (route, key)) WITHOUT ROWID;
CREATE TABLE audit (
  seq INTEGER PRIMARY KEY, at REAL NOT NULL, method TEXT NOT NULL, route TEXT, status INTEGER,
  token_id TEXT, ip TEXT NOT NULL, request_id TEXT NOT NULL);
"""
_ADDED_BY_2 = """
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
CREATE INDEX exchanges_by_recipient ON exchanges (recipient, status);
CREATE INDEX audit_failed_sends ON audit (at)
  WHERE route = 'POST /v1/messages' AND (status IS NULL OR status >= 400);
"""
_FROM_1 = """
UPDATE tokens SET promoted_at = first, messages = sent FROM
  (SELECT token_id, min(accepted_at) AS first, count(*) AS sent FROM messages GROUP BY token_id)
  WHERE token_id = tokens.id;
UPDATE tokens SET first_used_at = first FROM
  (SELECT token_id, min(at) AS first FROM audit GROUP BY token_id)
  WHERE token_id = tokens.id AND last_used_at IS NOT NULL;
INSERT INTO days SELECT date(accepted_at, 'unixepoch'), count(*) FROM messages GROUP BY 1;
INSERT INTO exchanges SELECT seq, request_id, accepted_at, 0, recipient, body, 200, id, token_id,
  '', idempotency_key, '[]', '[]', '', '[]', '' FROM messages;
DROP TABLE messages;
"""
STEPS = {0: f"{_SCHEMA} {_ADDED_BY_2}", 1: f"{_ADDED_BY_2} {_FROM_1}"}
"""What brings each older format up to date; 0 is nothing at all."""
TABLES = ("tokens", "token_events", "days", "exchanges", "idempotency", "audit", "meta")
OURS = {"tokens", "idempotency", "audit", "meta"}
"""What every format has: by it a state is told from another program's database."""
JSON_COLUMNS = {
    "tokens": ("scopes", "allowed_ips"),
    "exchanges": ("notes", "request_headers", "response_headers"),
}
"""Read only when somebody looks; SQLite takes them for any text."""
