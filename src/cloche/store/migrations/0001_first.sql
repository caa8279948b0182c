CREATE TABLE sandboxes (
    id                   TEXT PRIMARY KEY,
    project_id           TEXT NOT NULL DEFAULT 'default',
    name                 TEXT,
    state                TEXT NOT NULL,
    reason               TEXT,
    engine               TEXT NOT NULL,
    isolation            TEXT NOT NULL,
    spec                 TEXT NOT NULL,
    limits               TEXT NOT NULL,
    limits_unenforced    TEXT NOT NULL,
    labels               TEXT NOT NULL,
    engine_state         TEXT NOT NULL,
    created_at           REAL NOT NULL,
    started_at           REAL,
    expires_at           REAL,
    idle_timeout_seconds REAL,
    stopped_at           REAL,
    exit_code            INTEGER
) WITHOUT ROWID;

CREATE UNIQUE INDEX sandboxes_name ON sandboxes (project_id, name) WHERE name IS NOT NULL;

CREATE TABLE intents (
    id         TEXT PRIMARY KEY,
    sandbox_id TEXT NOT NULL,
    operation  TEXT NOT NULL,
    step       TEXT NOT NULL,
    created_at REAL NOT NULL
) WITHOUT ROWID;

CREATE INDEX intents_sandbox ON intents (sandbox_id);

CREATE TABLE events (
    id         TEXT PRIMARY KEY,
    project_id TEXT NOT NULL DEFAULT 'default',
    sandbox_id TEXT NOT NULL,
    at         REAL NOT NULL,
    kind       TEXT NOT NULL,
    data       TEXT NOT NULL
) WITHOUT ROWID;

CREATE INDEX events_sandbox ON events (sandbox_id, id);

CREATE TABLE audit (
    id         TEXT PRIMARY KEY,
    project_id TEXT NOT NULL DEFAULT 'default',
    sandbox_id TEXT,
    at         REAL NOT NULL,
    actor      TEXT NOT NULL,
    action     TEXT NOT NULL,
    data       TEXT NOT NULL
) WITHOUT ROWID;
