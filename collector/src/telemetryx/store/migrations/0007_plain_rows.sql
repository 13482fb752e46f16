-- Raw samples also as plain rows, where `[store] plain_rows` asks for them (store/tables/plain.py): for people and other programs.
-- Clustered by series and time: half the bytes of rows with an index beside, and a series' hour lies together.

CREATE TABLE sample (
  series_id INTEGER NOT NULL,
  time_ns INTEGER NOT NULL,
  n INTEGER NOT NULL,                         -- tells samples of one series and time apart
  value REAL,                                 -- NULL: NaN
  flags INTEGER NOT NULL,
  PRIMARY KEY (series_id, time_ns, n)
) WITHOUT ROWID;

ALTER TABLE chunk ADD COLUMN plain INTEGER NOT NULL DEFAULT 0;     -- so many of its samples, from the first on, are rows of `sample` too
CREATE INDEX chunk_unfilled ON chunk(id) WHERE plain < count;

-- Chunks that may be joined to larger ones (store/tables/consolidation.py).
CREATE INDEX chunk_small ON chunk(series_id, epoch_id, seq_first, part, count, t1_ns) WHERE count < 8192;
