-- Traces of ourselves: which one a batch's commit was a part of, and which one an alert came of (W3C traceparent).

ALTER TABLE batch ADD COLUMN trace TEXT;                        -- NULL: none is sampled
ALTER TABLE alert ADD COLUMN trace TEXT NOT NULL DEFAULT '';
