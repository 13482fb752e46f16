-- Clocks that were wrong. A batch whose times were counted from a boot says whether its offset is a guess; batches with times
-- ahead of the collector's own clock are kept apart: acknowledged, in the dedup ledger, counted as refused, and read by nobody.

ALTER TABLE batch ADD COLUMN clock_uncertain INTEGER NOT NULL DEFAULT 0;

CREATE TABLE quarantine (
  id INTEGER PRIMARY KEY,
  agent_id INTEGER NOT NULL REFERENCES agent(id),
  epoch_id INTEGER NOT NULL REFERENCES epoch(id),
  seq INTEGER NOT NULL,
  received_ns INTEGER NOT NULL,
  t0_ns INTEGER NOT NULL,                     -- of what is inside, corrected
  t1_ns INTEGER NOT NULL,
  clock_offset_ns INTEGER NOT NULL,           -- as in batch
  clock_uncertain INTEGER NOT NULL,
  rows INTEGER NOT NULL,
  payload BLOB NOT NULL
);
CREATE UNIQUE INDEX quarantine_key ON quarantine(epoch_id, seq);
