-- Which collectors are at work on this store, and which of them does what only one may do at a time.

CREATE TABLE member (                             -- a collector process
  name TEXT COLLATE "C" PRIMARY KEY,
  host TEXT NOT NULL,
  pid BIGINT NOT NULL,
  started_ns BIGINT NOT NULL,
  until_ns BIGINT NOT NULL                        -- by the server's clock: counts as dead from then on, unless it says that it lives
) WITH (fillfactor = 50);

CREATE TABLE lease (                              -- work that has one owner at a time
  task TEXT COLLATE "C" PRIMARY KEY,
  owner TEXT COLLATE "C" NOT NULL,                -- a member
  fence BIGINT NOT NULL,                          -- counts owners: a transaction of an earlier one is refused
  until_ns BIGINT NOT NULL                        -- by the server's clock: anybody may take it from then on
) WITH (fillfactor = 50);

CREATE TABLE alert_change (                       -- alerts as a step of the rules left them, for the other processes' live clients
  id BIGINT PRIMARY KEY,                          -- on the line of the commits' numbers
  at_ns BIGINT NOT NULL,
  alerts TEXT NOT NULL                            -- JSON
);

-- Who serves a session: its end is known when its member's is.
ALTER TABLE connection ADD COLUMN member TEXT COLLATE "C" NOT NULL DEFAULT '';
UPDATE connection SET closed_ns = greatest(last_seen_ns, 1), reason = 'the collector was restarted' WHERE closed_ns = 0;
-- What a rule leaves out, for people.
ALTER TABLE rule ADD COLUMN note TEXT;

-- A commit's number is commit_base + its transaction's id * 4096 + its place in the transaction, so that the order of numbers is one in
-- which a reader can follow (store/postgres/numbering.py). Those of before, from a sequence, stay below the base.
INSERT INTO meta SELECT 'commit_base', 1 + greatest(
  (SELECT coalesce(max(id), 0) FROM batch), (SELECT coalesce(max(value), 0) FROM meta WHERE key = 'compacted'),
  (SELECT coalesce(max(cursor), 0) FROM consumer));
ALTER TABLE batch ALTER COLUMN id DROP DEFAULT;
DROP SEQUENCE batch_id;
