-- Series that nothing refers to any more are deleted (store/tables/ending.py), and their numbers with them.

CREATE INDEX series_number_series ON series_number(series_id);
