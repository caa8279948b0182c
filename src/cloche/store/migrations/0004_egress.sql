CREATE TABLE egress (
    sandbox_id     TEXT PRIMARY KEY,
    sent_bytes     INTEGER NOT NULL,
    received_bytes INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE publications (
    sandbox_id   TEXT NOT NULL,
    port         INTEGER NOT NULL,
    slug         TEXT NOT NULL UNIQUE,
    address_port INTEGER NOT NULL,
    PRIMARY KEY (sandbox_id, port)
) WITHOUT ROWID;
