-- Who changed what, when, from where, and what it was before and after. Rows are only ever added, until their retention ends.

CREATE TABLE audit (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  at_ns INTEGER NOT NULL,
  actor TEXT NOT NULL,                        -- a person's or token's name
  via TEXT NOT NULL,                          -- api, console, cli, agent, collector
  peer TEXT NOT NULL,                         -- an address or a host's name
  action TEXT NOT NULL,                       -- a noun and a verb: silence.add
  target TEXT NOT NULL,
  "before" TEXT,                              -- JSON, without secrets
  "after" TEXT
);
CREATE INDEX audit_time ON audit(at_ns);
