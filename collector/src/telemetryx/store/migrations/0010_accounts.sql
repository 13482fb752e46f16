-- People's accounts, tokens of programs, who is logged in, and who guessed wrong lately. Of secrets there are digests only.

CREATE TABLE account (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  name TEXT NOT NULL UNIQUE,
  role TEXT NOT NULL,                         -- viewer, operator, admin
  password TEXT NOT NULL,                     -- Argon2id, with its parameters and salt
  created_ns INTEGER NOT NULL,
  login_ns INTEGER
);

CREATE TABLE api_token (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  name TEXT NOT NULL UNIQUE,
  digest BLOB NOT NULL UNIQUE,                -- SHA-256
  role TEXT NOT NULL,
  created_ns INTEGER NOT NULL,
  created_by TEXT NOT NULL,
  expires_ns INTEGER NOT NULL,
  used_ns INTEGER,
  revoked_ns INTEGER
);

CREATE TABLE login_session (
  digest BLOB PRIMARY KEY,                    -- SHA-256 of what the browser's cookie holds
  account_id INTEGER,                         -- as whom: an account,
  token_id INTEGER,                           -- a token,
  mark BLOB,                                  -- or a line of the token file
  created_ns INTEGER NOT NULL,
  seen_ns INTEGER NOT NULL,
  expires_ns INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX login_session_account ON login_session(account_id);
CREATE INDEX login_session_end ON login_session(expires_ns);

CREATE TABLE known_device (                   -- browsers that logged in before: their person is not made to wait for others' guesses
  digest BLOB PRIMARY KEY,
  account_id INTEGER NOT NULL,
  seen_ns INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX known_device_account ON known_device(account_id);

CREATE TABLE first_link (digest BLOB PRIMARY KEY, expires_ns INTEGER NOT NULL) WITHOUT ROWID;

CREATE TABLE login_attempt (                  -- wrong logins by source and by account
  name TEXT PRIMARY KEY,
  count INTEGER NOT NULL,
  last_ns INTEGER NOT NULL,
  forget_ns INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX login_attempt_end ON login_attempt(forget_ns);
