ALTER TABLE sandboxes ADD COLUMN parent_id TEXT;
ALTER TABLE sandboxes ADD COLUMN suspended TEXT;

CREATE TABLE snapshots (
    id          TEXT PRIMARY KEY,
    project_id  TEXT NOT NULL DEFAULT 'default',
    name        TEXT,
    kind        TEXT NOT NULL,
    state       TEXT NOT NULL,
    sandbox_id  TEXT NOT NULL,
    engine      TEXT NOT NULL,
    isolation   TEXT NOT NULL,
    spec        TEXT NOT NULL,
    limits      TEXT NOT NULL,
    labels      TEXT NOT NULL,
    description TEXT NOT NULL,
    created_at  REAL NOT NULL,
    size_bytes  INTEGER NOT NULL,
    files       TEXT NOT NULL,
    manifest    TEXT NOT NULL
) WITHOUT ROWID;

CREATE UNIQUE INDEX snapshots_name ON snapshots (project_id, name) WHERE name IS NOT NULL;
