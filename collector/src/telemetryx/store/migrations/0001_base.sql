-- Everything a collector keeps but alerts (0002 and later). Written to be read by hand: `sqlite3 telemetry.db .schema`.
-- Times are nanoseconds since the epoch, UTC: datetime(t / 1000000000, 'unixepoch') shows one.
-- A value of NULL in a REAL column is NaN: SQLite has none.

CREATE TABLE meta (
  key TEXT PRIMARY KEY,
  value
) WITHOUT ROWID;

CREATE TABLE agent (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  version TEXT NOT NULL DEFAULT '',
  labels TEXT NOT NULL DEFAULT '{}',          -- JSON: hostname, os, arch, site ...
  first_seen_ns INTEGER NOT NULL,
  last_seen_ns INTEGER NOT NULL,              -- by the collector's clock
  last_event_ns INTEGER NOT NULL DEFAULT 0,   -- newest event time stored
  stored INTEGER NOT NULL DEFAULT 0,          -- samples, windows and events stored
  backlog_bytes INTEGER NOT NULL DEFAULT 0,   -- from here on: its newest status
  backlog_batches INTEGER NOT NULL DEFAULT 0,
  oldest_ns INTEGER NOT NULL DEFAULT 0,       -- oldest event time waiting; 0 = none
  skew_ms REAL NOT NULL DEFAULT 0,            -- its clock minus ours
  rate REAL NOT NULL DEFAULT 0,               -- readings a second
  status TEXT NOT NULL DEFAULT ''
);

CREATE TABLE series (
  id INTEGER PRIMARY KEY,
  agent_id INTEGER NOT NULL REFERENCES agent(id),
  name TEXT NOT NULL,
  labels TEXT NOT NULL,                       -- JSON, keys sorted: with agent and name the identity
  unit TEXT NOT NULL DEFAULT '',
  site TEXT NOT NULL DEFAULT '',
  device TEXT NOT NULL DEFAULT '',
  created_ns INTEGER NOT NULL,
  UNIQUE (agent_id, name, labels)
);
CREATE INDEX series_name ON series(name);
CREATE INDEX series_device ON series(agent_id, site, device);

CREATE TABLE series_label (                   -- every label of every series, for selectors
  name TEXT NOT NULL,
  value TEXT NOT NULL,
  series_id INTEGER NOT NULL REFERENCES series(id),
  PRIMARY KEY (name, value, series_id)
) WITHOUT ROWID;

-- The dedup ledger. Compaction and retention never touch these three.

CREATE TABLE epoch (
  id INTEGER PRIMARY KEY,
  agent_id INTEGER NOT NULL REFERENCES agent(id),
  epoch BLOB NOT NULL,
  created_ns INTEGER NOT NULL,
  checksums INTEGER NOT NULL DEFAULT 0,       -- rows in ledger_checksum
  UNIQUE (agent_id, epoch)
);

CREATE TABLE ledger (                         -- seqs that are stored (or known lost), as ranges
  epoch_id INTEGER NOT NULL REFERENCES epoch(id),
  first INTEGER NOT NULL,
  last INTEGER NOT NULL,
  PRIMARY KEY (epoch_id, first)
) WITHOUT ROWID;

CREATE TABLE ledger_checksum (                -- of the newest 10,000 of each epoch: tells a duplicate from a conflict
  id INTEGER PRIMARY KEY,
  epoch_id INTEGER NOT NULL REFERENCES epoch(id),
  seq INTEGER NOT NULL,
  checksum BLOB NOT NULL,
  UNIQUE (epoch_id, seq)
);

CREATE TABLE series_number (                  -- what an agent's numbers stand for, by epoch
  epoch_id INTEGER NOT NULL REFERENCES epoch(id),
  number INTEGER NOT NULL,
  series_id INTEGER NOT NULL REFERENCES series(id),
  PRIMARY KEY (epoch_id, number)
) WITHOUT ROWID;

-- The data: batches as shipped, then chunks.

CREATE TABLE batch (                          -- id is the commit's cursor
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  agent_id INTEGER NOT NULL,
  epoch_id INTEGER NOT NULL,
  seq INTEGER NOT NULL,
  lane INTEGER NOT NULL,
  received_ns INTEGER NOT NULL,
  t0_ns INTEGER NOT NULL,                     -- of what is inside, corrected
  t1_ns INTEGER NOT NULL,
  clock_offset_ns INTEGER NOT NULL,           -- to add to the times in the payload
  series INTEGER NOT NULL,
  samples INTEGER NOT NULL,
  windows INTEGER NOT NULL,
  events INTEGER NOT NULL,
  payload BLOB NOT NULL                       -- proto/README.md, codec 1
);
CREATE INDEX batch_time ON batch(agent_id, t1_ns, t0_ns);
CREATE UNIQUE INDEX batch_key ON batch(epoch_id, seq);
CREATE INDEX batch_work ON batch(epoch_id, seq, received_ns, samples, series);  -- compaction plans without the payloads

CREATE TABLE chunk (                          -- samples of one series, sorted by (time, batch key, index)
  id INTEGER PRIMARY KEY,
  series_id INTEGER NOT NULL,
  t0_ns INTEGER NOT NULL,
  t1_ns INTEGER NOT NULL,
  count INTEGER NOT NULL,
  min REAL, max REAL, sum REAL, first REAL, last REAL,   -- NaN left out
  epoch_id INTEGER NOT NULL,                  -- made from the batches seq_first to seq_last of this epoch:
  seq_first INTEGER NOT NULL,                 -- equal times of two chunks are ordered by (epoch, seq_first, part)
  seq_last INTEGER NOT NULL,
  part INTEGER NOT NULL,
  times BLOB NOT NULL,
  "values" BLOB NOT NULL,
  flags BLOB                                  -- NULL: all 0
);
CREATE INDEX chunk_time ON chunk(series_id, t1_ns, t0_ns);
CREATE INDEX chunk_key ON chunk(series_id, epoch_id, seq_last, part);

CREATE TABLE "window" (                       -- a window may have several rows: partials, to be merged
  id INTEGER PRIMARY KEY,
  series_id INTEGER NOT NULL,
  start_ns INTEGER NOT NULL,
  length_ns INTEGER NOT NULL,
  count INTEGER NOT NULL,
  sum REAL, min REAL, max REAL,
  first_ns INTEGER NOT NULL, first REAL,
  last_ns INTEGER NOT NULL, last REAL,
  sketch BLOB,                                -- u32 positive bins, u32 negative bins, u64 zeros, i32 keys, u64 counts
  batch_id INTEGER NOT NULL,
  epoch_id INTEGER NOT NULL,
  seq INTEGER NOT NULL
);
CREATE INDEX window_time ON "window"(series_id, start_ns);
CREATE INDEX window_start ON "window"(start_ns);
CREATE INDEX window_batch ON "window"(batch_id);

CREATE TABLE rollup_1m (
  series_id INTEGER NOT NULL,
  t0_ns INTEGER NOT NULL,
  count INTEGER NOT NULL,
  sum REAL, min REAL, max REAL, first REAL, last REAL,
  PRIMARY KEY (series_id, t0_ns)
) WITHOUT ROWID;

CREATE TABLE rollup_1h (
  series_id INTEGER NOT NULL,
  t0_ns INTEGER NOT NULL,
  count INTEGER NOT NULL,
  sum REAL, min REAL, max REAL, first REAL, last REAL,
  PRIMARY KEY (series_id, t0_ns)
) WITHOUT ROWID;

CREATE TABLE dirty (                          -- what the rollups don't show yet
  id INTEGER PRIMARY KEY,
  series_id INTEGER NOT NULL,
  t0_ns INTEGER NOT NULL,
  t1_ns INTEGER NOT NULL
);
CREATE INDEX dirty_series ON dirty(series_id);

CREATE TABLE latest (                         -- newest value by event time
  series_id INTEGER PRIMARY KEY,
  time_ns INTEGER NOT NULL,
  value REAL,
  flags INTEGER NOT NULL DEFAULT 0
);

CREATE TABLE event (
  id INTEGER PRIMARY KEY,
  agent_id INTEGER NOT NULL,
  batch_id INTEGER NOT NULL,
  time_ns INTEGER NOT NULL,
  severity INTEGER NOT NULL,
  source TEXT NOT NULL,
  body TEXT NOT NULL,
  attributes TEXT NOT NULL                    -- JSON
);
CREATE INDEX event_time ON event(time_ns);
CREATE INDEX event_batch ON event(batch_id);

CREATE VIRTUAL TABLE event_text USING fts5(
  source, body, attributes, content = 'event', content_rowid = 'id', tokenize = 'unicode61'
);

CREATE TABLE loss (                           -- the loss ledger: counts that rode in batches and loss frames
  agent_id INTEGER NOT NULL REFERENCES agent(id),
  cause INTEGER NOT NULL,
  count INTEGER NOT NULL,
  first_ns INTEGER NOT NULL,
  last_ns INTEGER NOT NULL,
  PRIMARY KEY (agent_id, cause)
) WITHOUT ROWID;

CREATE TABLE gap (                            -- seqs that an agent dropped
  id INTEGER PRIMARY KEY,
  epoch_id INTEGER NOT NULL REFERENCES epoch(id),
  first_seq INTEGER NOT NULL,
  last_seq INTEGER NOT NULL,
  cause INTEGER NOT NULL,
  count INTEGER NOT NULL,
  t0_ns INTEGER NOT NULL,
  t1_ns INTEGER NOT NULL
);
CREATE INDEX gap_end ON gap(epoch_id, cause, last_seq);

CREATE TABLE connection (                     -- the connection log: rules about the link read this and nothing else
  id INTEGER PRIMARY KEY,
  agent_id INTEGER NOT NULL REFERENCES agent(id),
  peer TEXT NOT NULL,
  opened_ns INTEGER NOT NULL,
  closed_ns INTEGER NOT NULL DEFAULT 0,       -- 0: open
  last_seen_ns INTEGER NOT NULL,
  reason TEXT NOT NULL DEFAULT ''
);
CREATE INDEX connection_agent ON connection(agent_id, opened_ns);
CREATE INDEX connection_open ON connection(closed_ns, agent_id);

CREATE TABLE consumer (                       -- how far durable readers of commits have come: compaction waits for them
  name TEXT PRIMARY KEY,
  cursor INTEGER NOT NULL
) WITHOUT ROWID;
