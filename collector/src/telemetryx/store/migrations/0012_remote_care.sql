-- Remote care: configurations pushed to agents, what came of them at each, and what was asked of an agent with its answer.

CREATE TABLE agent_config (
  id INTEGER PRIMARY KEY AUTOINCREMENT,         -- its version
  digest BLOB NOT NULL,                         -- SHA-256 of toml
  size INTEGER NOT NULL,                        -- bytes of toml
  agent TEXT NOT NULL,                          -- for this agent alone,
  match TEXT NOT NULL,                          -- for those whose labels meet this, or with neither for all
  stage TEXT NOT NULL,                          -- canary, everywhere, stopped
  reason TEXT NOT NULL,                         -- why it was stopped
  author TEXT NOT NULL,
  note TEXT NOT NULL,
  created_ns INTEGER NOT NULL,
  taken_back_ns INTEGER,
  toml TEXT NOT NULL                            -- last: what stands before it is read without it
);

CREATE TABLE agent_config_canary (              -- who gets it first
  config_id INTEGER NOT NULL,
  agent TEXT NOT NULL,
  PRIMARY KEY (config_id, agent)
) WITHOUT ROWID;

CREATE TABLE agent_config_state (               -- as each agent said last
  agent TEXT PRIMARY KEY,
  session_id INTEGER NOT NULL,                  -- the session that it said it in: an older one says nothing any more
  version INTEGER NOT NULL,                     -- the newest one that came to it; 0: none
  digest BLOB NOT NULL,
  phase TEXT NOT NULL,                          -- unsupported, none, trial, applied, failed, declined
  reason TEXT NOT NULL,
  in_force INTEGER NOT NULL,
  at_ns INTEGER NOT NULL,                       -- by the agent's clock
  requests INTEGER NOT NULL                     -- 1: it takes requests
) WITHOUT ROWID;
CREATE INDEX agent_config_state_phase ON agent_config_state(phase);

CREATE TABLE agent_request (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  mark BLOB NOT NULL UNIQUE,                    -- 16 random bytes by which the agent answers
  agent TEXT NOT NULL,
  kind TEXT NOT NULL,                           -- log_level, diagnostics
  args TEXT NOT NULL,                           -- JSON
  author TEXT NOT NULL,
  state TEXT NOT NULL,                          -- waiting, asked, done, failed, lapsed
  reason TEXT NOT NULL,
  size INTEGER NOT NULL,                        -- bytes of the answer so far
  created_ns INTEGER NOT NULL,
  until_ns INTEGER NOT NULL,                    -- an agent that isn't connected by then isn't asked any more
  changed_ns INTEGER NOT NULL,
  expires_ns INTEGER NOT NULL                   -- then the row goes, with its answer
);
CREATE INDEX agent_request_state ON agent_request(state, id);
CREATE INDEX agent_request_end ON agent_request(expires_ns);

CREATE TABLE agent_answer (
  request_id INTEGER NOT NULL,
  position INTEGER NOT NULL,                    -- bytes before it
  data BLOB NOT NULL,
  PRIMARY KEY (request_id, position)
);
