-- What was spent since the last reset, of budgets that have no row with a balance of their own: a
-- model of a key, a provider, all of the gateway, further windows of what has one.
CREATE TABLE budget_windows (
    scope_kind TEXT NOT NULL,
    scope_id TEXT NOT NULL,
    duration TEXT NOT NULL,
    spend_nano_usd BIGINT NOT NULL,
    reset_at TIMESTAMPTZ,
    PRIMARY KEY (scope_kind, scope_id, duration)
);
