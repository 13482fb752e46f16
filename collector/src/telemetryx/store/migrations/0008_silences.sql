-- What people say about alerts: whom nobody is to be told about for a while, and who has taken one on.

CREATE TABLE silence (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  match TEXT NOT NULL,                        -- a selector: the rule's name, the alert's labels
  starts_ns INTEGER NOT NULL,
  ends_ns INTEGER NOT NULL,
  author TEXT NOT NULL,
  comment TEXT NOT NULL,
  created_ns INTEGER NOT NULL
);
CREATE INDEX silence_end ON silence(ends_ns);

CREATE TABLE acknowledgement (
  alert_id INTEGER PRIMARY KEY,
  at_ns INTEGER NOT NULL,
  author TEXT NOT NULL,
  comment TEXT NOT NULL
);

ALTER TABLE outbox ADD COLUMN held_ns INTEGER;  -- since when silences hold it back; NULL: none did
