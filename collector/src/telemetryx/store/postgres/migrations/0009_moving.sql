-- A run of batches that becomes chunks in several transactions (store/tables/moving.py): how far that has come. Mostly there is none.

CREATE TABLE moving (
  epoch_id BIGINT NOT NULL,                       -- the batches seq_first to seq_last of this epoch:
  seq_first BIGINT NOT NULL,
  seq_last BIGINT NOT NULL,
  upto BIGINT NOT NULL,                           -- what they hold of series up to this id is in chunks and rollups, and counts there alone
  PRIMARY KEY (epoch_id, seq_first)
);
