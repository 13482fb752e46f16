-- How many batches of an agent are kept apart stands on its page: counted by this index.

CREATE INDEX quarantine_agent ON quarantine(agent_id);
