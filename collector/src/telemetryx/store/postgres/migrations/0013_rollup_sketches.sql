-- Sketches of rollups: percentiles outlive raw data (store/tables/sketches.py). NULL: the row's other figures tell it, or nothing does.

ALTER TABLE rollup_1m ADD COLUMN sketch BYTEA;
ALTER TABLE rollup_1h ADD COLUMN sketch BYTEA;

-- Up to where rows have none that could be computed from raw data (store/tables/sketching.py); no row: there are none.
INSERT INTO meta (key, value)
SELECT 'unsketched_to_ns', newest + 3600000000000
FROM (SELECT max((SELECT max(t0_ns) FROM rollup_1h WHERE series_id = series.id)) AS newest FROM series) AS found
WHERE newest IS NOT NULL;
