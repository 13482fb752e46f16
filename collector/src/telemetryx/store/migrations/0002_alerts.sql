-- What rules found, what they remember, and who is still to be told. Times are nanoseconds since the epoch, UTC.

CREATE TABLE rule (
  name TEXT PRIMARY KEY,
  fingerprint TEXT NOT NULL,                  -- of what it means: another one ends its alerts
  error TEXT                                  -- why it was switched off
) WITHOUT ROWID;

CREATE TABLE rule_group (                     -- the state of each group of a rule, along event time
  rule TEXT NOT NULL,
  "group" TEXT NOT NULL,                      -- JSON: the labels that tell it from others
  state BLOB NOT NULL,
  PRIMARY KEY (rule, "group")
) WITHOUT ROWID;

CREATE TABLE alert (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  rule TEXT NOT NULL,
  "group" TEXT NOT NULL,
  state TEXT NOT NULL,                        -- pending, firing, resolved, retracted, closed
  severity TEXT NOT NULL,
  agent TEXT NOT NULL,                        -- the label `agent`, where there is one
  labels TEXT NOT NULL,                       -- JSON
  annotations TEXT NOT NULL,                  -- JSON
  summary TEXT NOT NULL,
  value REAL,                                 -- when it fired
  threshold REAL,
  started_ns INTEGER NOT NULL,                -- event time: since then the condition holds
  fired_ns INTEGER,                           -- event time: then it had held long enough
  resolved_ns INTEGER,                        -- event time
  detected_ns INTEGER NOT NULL,               -- the collector's clock: when it was first seen here
  changed_ns INTEGER NOT NULL,                -- the collector's clock
  late INTEGER NOT NULL,                      -- its data had been held back
  revision INTEGER NOT NULL,                  -- counts its changes
  UNIQUE (rule, "group", started_ns)
);
CREATE INDEX alert_state ON alert(state, started_ns);
CREATE INDEX alert_start ON alert(started_ns);

CREATE TABLE outbox (                         -- changes of alerts that a receiver hasn't been told
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  receiver TEXT NOT NULL,
  alert_id INTEGER NOT NULL,
  ready_ns INTEGER NOT NULL,                  -- waits until then for company
  late INTEGER NOT NULL,
  UNIQUE (receiver, alert_id)                 -- only where it stands now is told
);
CREATE INDEX outbox_ready ON outbox(receiver, ready_ns);

CREATE TABLE delivery (                       -- a message that is being sent: the same bytes and key at each attempt
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  receiver TEXT NOT NULL,
  key TEXT NOT NULL UNIQUE,
  alerts TEXT NOT NULL,                       -- JSON: as they stood when it was put together
  omitted INTEGER NOT NULL,                   -- how many more there were
  attempts INTEGER NOT NULL DEFAULT 0,
  created_ns INTEGER NOT NULL,
  next_ns INTEGER NOT NULL
);
CREATE INDEX delivery_next ON delivery(receiver, next_ns);

CREATE TABLE receiver (                       -- how notifying goes
  name TEXT PRIMARY KEY,
  dropped INTEGER NOT NULL DEFAULT 0,         -- alert changes nobody was told, because too many waited or sending failed for too long
  last_error TEXT
) WITHOUT ROWID;
