ALTER TABLE sandboxes ADD COLUMN pool_key TEXT;

CREATE TABLE templates (
    project_id TEXT NOT NULL DEFAULT 'default',
    name       TEXT NOT NULL,
    spec       TEXT NOT NULL,
    warm       TEXT NOT NULL,
    created_at REAL NOT NULL,
    updated_at REAL NOT NULL,
    PRIMARY KEY (project_id, name)
) WITHOUT ROWID;
