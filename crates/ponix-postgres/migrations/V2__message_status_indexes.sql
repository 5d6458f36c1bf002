-- For those who look: what came in when, and what failed. Each partition gets its own.
CREATE INDEX message_status_received_at ON message_status (received_at);
CREATE INDEX message_status_status ON message_status (status, received_at);
