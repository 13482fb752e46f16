-- Agents that joined with a token: whose key has which name, what was issued to it, and which tokens may still be used.

CREATE TABLE enrolment_token (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  digest BLOB NOT NULL UNIQUE,                -- SHA-256 of its secret, which is kept nowhere
  site TEXT NOT NULL,
  agent TEXT NOT NULL,                        -- the only agent that may use it; '': any
  may_replace INTEGER NOT NULL,               -- 1: it may take the place of an agent of that name
  uses INTEGER NOT NULL,
  used INTEGER NOT NULL,
  author TEXT NOT NULL,
  created_ns INTEGER NOT NULL,
  expires_ns INTEGER NOT NULL,
  revoked_ns INTEGER
);

CREATE TABLE enrolled (
  agent TEXT PRIMARY KEY,
  state TEXT NOT NULL,                        -- pending, active, revoked
  public_key BLOB NOT NULL UNIQUE,            -- SubjectPublicKeyInfo, DER
  site TEXT NOT NULL,
  token_id INTEGER NOT NULL,
  peer TEXT NOT NULL,
  asked_ns INTEGER NOT NULL,
  changed_ns INTEGER NOT NULL                 -- when its state or its key last changed
);
CREATE INDEX enrolled_change ON enrolled(changed_ns);

CREATE TABLE certificate (
  serial TEXT PRIMARY KEY,
  agent TEXT NOT NULL,
  issued_ns INTEGER NOT NULL,
  expires_ns INTEGER NOT NULL
);
CREATE INDEX certificate_agent ON certificate(agent, issued_ns);

CREATE TABLE enrolment_seen (                 -- requests that were taken: none is taken twice
  digest BLOB PRIMARY KEY,
  expires_ns INTEGER NOT NULL
);
