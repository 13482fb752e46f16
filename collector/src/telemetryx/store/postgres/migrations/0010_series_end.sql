-- Series that nothing refers to any more are deleted (store/tables/ending.py), and their numbers with them.

CREATE INDEX series_number_series ON series_number(series_id);
-- Its check would read all labels for each series that is deleted. Labels go with their series, by their key.
ALTER TABLE series_label DROP CONSTRAINT series_label_series_id_fkey;
