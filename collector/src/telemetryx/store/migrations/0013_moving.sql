-- A run of batches that becomes chunks in several transactions (store/tables/moving.py): how far that has come. Mostly there is none.

CREATE TABLE moving (
  epoch_id INTEGER NOT NULL,                  -- the batches seq_first to seq_last of this epoch:
  seq_first INTEGER NOT NULL,
  seq_last INTEGER NOT NULL,
  upto INTEGER NOT NULL,                      -- what they hold of series up to this id is in chunks and rollups, and counts there alone
  PRIMARY KEY (epoch_id, seq_first)
) WITHOUT ROWID;
