-- Raw samples also as plain rows, where `[store] plain_rows` asks for them (store/tables/plain.py): for people and other programs.
-- No key, no foreign key and no partitions: whoever wants a hypertable of it can make one. Rows come in the order of arrival, so a
-- BRIN index, which takes next to nothing, finds what is past its retention.

CREATE TABLE sample (
  time TIMESTAMPTZ NOT NULL,                      -- to the microsecond
  series_id BIGINT NOT NULL,
  value DOUBLE PRECISION NOT NULL,
  time_ns BIGINT NOT NULL,                        -- to the nanosecond
  flags SMALLINT NOT NULL
);
CREATE INDEX sample_series ON sample (series_id, time);
CREATE INDEX sample_time ON sample USING brin (time);

ALTER TABLE chunk ADD COLUMN plain BIGINT NOT NULL DEFAULT 0;     -- so many of its samples, from the first on, are rows of `sample` too
CREATE INDEX chunk_unfilled ON chunk(id) WHERE plain < count;

-- Chunks that may be joined to larger ones (store/tables/consolidation.py).
CREATE INDEX chunk_small ON chunk(series_id, epoch_id, seq_first, part, count, t1_ns) WHERE count < 8192;
