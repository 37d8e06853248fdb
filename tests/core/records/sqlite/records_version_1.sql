-- The tables of version 1 of the record file, as it made them. Never change this.
CREATE TABLE jobs (
    id TEXT PRIMARY KEY,
    user TEXT NOT NULL,
    cluster TEXT NOT NULL,
    state TEXT NOT NULL,
    created INTEGER NOT NULL,
    updated INTEGER NOT NULL,
    cleaned INTEGER NOT NULL DEFAULT 0,
    input_file_count INTEGER NOT NULL,
    labels TEXT NOT NULL,
    admin_meta TEXT NOT NULL,
    image TEXT NOT NULL,
    job_input TEXT NOT NULL,
    outcome TEXT NOT NULL,
    idempotency_key TEXT,
    body_hash TEXT
);
CREATE INDEX live_jobs ON jobs (cluster, created) WHERE state NOT IN ('complete', 'error', 'canceled');
CREATE INDEX uncleaned_jobs ON jobs (updated) WHERE cleaned = 0 AND state IN ('complete', 'error', 'canceled');
CREATE INDEX jobs_by_user ON jobs (user, updated);
CREATE INDEX jobs_by_update ON jobs (updated);
CREATE UNIQUE INDEX jobs_by_key ON jobs (user, idempotency_key)
WHERE idempotency_key IS NOT NULL;
CREATE TABLE job_inputs (job_id TEXT PRIMARY KEY REFERENCES jobs (id), files TEXT NOT NULL);
CREATE TABLE job_outputs (job_id TEXT PRIMARY KEY REFERENCES jobs (id), files TEXT NOT NULL);
CREATE TABLE leases (
    job_id TEXT PRIMARY KEY REFERENCES jobs (id),
    owner TEXT NOT NULL,
    until INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE transitions (
    seq INTEGER PRIMARY KEY,
    job_id TEXT NOT NULL REFERENCES jobs (id),
    state TEXT NOT NULL,
    time INTEGER NOT NULL,
    trans_id TEXT NOT NULL UNIQUE,
    notif_sent INTEGER NOT NULL,
    recorded_at INTEGER NOT NULL
);
CREATE INDEX transitions_of_job ON transitions (job_id, recorded_at);
CREATE INDEX recorded_transitions ON transitions (recorded_at);
CREATE INDEX unsent_transitions ON transitions (recorded_at) WHERE notif_sent = 0;
CREATE TABLE containers (
    job_id TEXT NOT NULL REFERENCES jobs (id),
    number INTEGER NOT NULL,
    state TEXT NOT NULL,
    transition_times TEXT NOT NULL,
    outcome TEXT NOT NULL,
    PRIMARY KEY (job_id, number)
);
CREATE INDEX container_states ON containers (job_id, number, state);
CREATE TABLE container_outputs (
    job_id TEXT NOT NULL,
    number INTEGER NOT NULL,
    files TEXT NOT NULL,
    PRIMARY KEY (job_id, number),
    FOREIGN KEY (job_id, number) REFERENCES containers (job_id, number)
);
CREATE TABLE images (
    name TEXT NOT NULL,
    digest TEXT NOT NULL,
    tag TEXT NOT NULL,
    image TEXT NOT NULL,
    PRIMARY KEY (name, digest),
    UNIQUE (name, tag)
);
CREATE TABLE inactive_sites (cluster TEXT PRIMARY KEY) WITHOUT ROWID;
PRAGMA application_id = 1129599793;
PRAGMA user_version = 1;
