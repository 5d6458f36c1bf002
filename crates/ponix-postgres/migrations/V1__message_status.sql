-- One row per message id for as long as its status is kept. PostgreSQL cannot keep an id unique
-- over partitions that are made by time; this table does, and its received_at is the one that
-- counts. A writer inserts or locks the claim before it touches anything else of a message.
CREATE TABLE message_claims (
    message_id  uuid        PRIMARY KEY,
    received_at timestamptz NOT NULL
);

-- Claims come in the order of time, and leave so.
CREATE INDEX message_claims_received_at ON message_claims USING brin (received_at);

CREATE TABLE message_status (
    message_id   uuid        NOT NULL,
    received_at  timestamptz NOT NULL,
    organization text,
    status       text        NOT NULL
        CHECK (status IN ('accepted', 'processing', 'processed', 'failed', 'dead_letter')),
    entity_type  text,
    source       text,
    retry_count  integer     NOT NULL DEFAULT 0,
    error        text,
    processed_at timestamptz,
    created_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (message_id, received_at)
) PARTITION BY RANGE (received_at);

-- A status only goes up. A dead letter that was mended and replayed may still be processed.
CREATE FUNCTION message_status_rank(status text) RETURNS integer
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE status
        WHEN 'accepted' THEN 0
        WHEN 'processing' THEN 1
        WHEN 'processed' THEN 3
        ELSE 2
    END;
