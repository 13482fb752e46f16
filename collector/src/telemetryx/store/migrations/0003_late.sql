-- Late data: rollups are added to once their raw data is gone, so a row must know where in its bucket first and last lie.
-- Rows of before are taken to span their bucket: what is added to them leaves first and last as they are.

ALTER TABLE rollup_1m ADD COLUMN first_ms INTEGER NOT NULL DEFAULT 0;       -- from t0_ns on, milliseconds
ALTER TABLE rollup_1m ADD COLUMN last_ms INTEGER NOT NULL DEFAULT 59999;
ALTER TABLE rollup_1h ADD COLUMN first_ms INTEGER NOT NULL DEFAULT 0;
ALTER TABLE rollup_1h ADD COLUMN last_ms INTEGER NOT NULL DEFAULT 3599999;

ALTER TABLE agent ADD COLUMN first_event_ns INTEGER NOT NULL DEFAULT 0;     -- oldest event time stored; 0 = unknown
UPDATE agent SET first_event_ns = coalesce(
  (SELECT min(t0_ns) FROM (
    SELECT (SELECT min(t0_ns) FROM rollup_1h WHERE series_id = series.id) AS t0_ns FROM series WHERE agent_id = agent.id
    UNION ALL SELECT min(t0_ns) FROM batch WHERE batch.agent_id = agent.id AND t0_ns != 0
    UNION ALL SELECT min(time_ns) FROM event WHERE event.agent_id = agent.id)), 0);
