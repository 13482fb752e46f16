-- Which collectors are at work on this store, and which of them does what only one may do at a time.

CREATE TABLE member (                         -- a collector process
  name TEXT PRIMARY KEY,
  host TEXT NOT NULL,
  pid INTEGER NOT NULL,
  started_ns INTEGER NOT NULL,
  until_ns INTEGER NOT NULL                   -- counts as dead from then on, unless it says that it lives
) WITHOUT ROWID;

CREATE TABLE lease (                          -- work that has one owner at a time
  task TEXT PRIMARY KEY,
  owner TEXT NOT NULL,                        -- a member
  fence INTEGER NOT NULL,                     -- counts owners: a transaction of an earlier one is refused
  until_ns INTEGER NOT NULL                   -- anybody may take it from then on
) WITHOUT ROWID;

CREATE TABLE alert_change (                   -- alerts as a step of the rules left them, for the other processes' live clients
  id INTEGER PRIMARY KEY,                     -- on the line of the commits' numbers
  at_ns INTEGER NOT NULL,
  alerts TEXT NOT NULL                        -- JSON
);

-- Who serves a session: its end is known when its member's is.
ALTER TABLE connection ADD COLUMN member TEXT NOT NULL DEFAULT '';
-- What a rule leaves out, for people.
ALTER TABLE rule ADD COLUMN note TEXT;
