-- One text for SQLite and PostgreSQL. SQLite takes any type name and keeps it as the declared type,
-- from which fastgate/store/sqlite.py knows which columns hold times, JSON and booleans.
--
-- Money is BIGINT nano-dollars; NULL in a maximum: none. Times are UTC. `spend_nano_usd` counts
-- since the budget's last reset, `total_spend_nano_usd` for ever: that one equals the sum of rows.

CREATE TABLE budgets (
    budget_id TEXT PRIMARY KEY,
    max_budget_nano_usd BIGINT,
    soft_budget_nano_usd BIGINT,
    budget_duration TEXT,
    budget_reset_at TIMESTAMPTZ,
    tpm_limit BIGINT,
    rpm_limit BIGINT,
    tpd_limit BIGINT,
    max_parallel_requests BIGINT,
    model_max_budget JSONB NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    created_by TEXT NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL,
    updated_by TEXT NOT NULL
);

CREATE TABLE organizations (
    organization_id TEXT PRIMARY KEY,
    organization_alias TEXT,
    budget_id TEXT REFERENCES budgets (budget_id),
    models JSONB NOT NULL,
    metadata JSONB NOT NULL,
    spend_nano_usd BIGINT NOT NULL DEFAULT 0,
    total_spend_nano_usd BIGINT NOT NULL DEFAULT 0,
    created_at TIMESTAMPTZ NOT NULL,
    created_by TEXT NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL,
    updated_by TEXT NOT NULL
);

CREATE TABLE users (
    user_id TEXT PRIMARY KEY,
    user_alias TEXT,
    user_email TEXT UNIQUE,
    user_role TEXT NOT NULL,
    sso_user_id TEXT UNIQUE,
    models JSONB NOT NULL,
    metadata JSONB NOT NULL,
    spend_nano_usd BIGINT NOT NULL DEFAULT 0,
    total_spend_nano_usd BIGINT NOT NULL DEFAULT 0,
    max_budget_nano_usd BIGINT,
    soft_budget_nano_usd BIGINT,
    budget_duration TEXT,
    budget_reset_at TIMESTAMPTZ,
    tpm_limit BIGINT,
    rpm_limit BIGINT,
    tpd_limit BIGINT,
    max_parallel_requests BIGINT,
    model_max_budget JSONB NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    created_by TEXT NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL,
    updated_by TEXT NOT NULL
);

CREATE TABLE organization_members (
    organization_id TEXT NOT NULL REFERENCES organizations (organization_id) ON DELETE CASCADE,
    user_id TEXT NOT NULL REFERENCES users (user_id) ON DELETE CASCADE,
    user_role TEXT NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (organization_id, user_id)
);

CREATE TABLE teams (
    team_id TEXT PRIMARY KEY,
    team_alias TEXT,
    organization_id TEXT REFERENCES organizations (organization_id),
    blocked BOOLEAN NOT NULL DEFAULT FALSE,
    models JSONB NOT NULL,
    model_aliases JSONB NOT NULL,
    tags JSONB NOT NULL,
    metadata JSONB NOT NULL,
    spend_nano_usd BIGINT NOT NULL DEFAULT 0,
    total_spend_nano_usd BIGINT NOT NULL DEFAULT 0,
    max_budget_nano_usd BIGINT,
    soft_budget_nano_usd BIGINT,
    budget_duration TEXT,
    budget_reset_at TIMESTAMPTZ,
    tpm_limit BIGINT,
    rpm_limit BIGINT,
    tpd_limit BIGINT,
    max_parallel_requests BIGINT,
    model_max_budget JSONB NOT NULL,
    model_rpm_limit JSONB NOT NULL,
    model_tpm_limit JSONB NOT NULL,
    -- What a member gets who is added without values of their own.
    member_max_budget_nano_usd BIGINT,
    member_budget_duration TEXT,
    member_rpm_limit BIGINT,
    member_tpm_limit BIGINT,
    created_at TIMESTAMPTZ NOT NULL,
    created_by TEXT NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL,
    updated_by TEXT NOT NULL
);

CREATE TABLE team_members (
    team_id TEXT NOT NULL REFERENCES teams (team_id) ON DELETE CASCADE,
    user_id TEXT NOT NULL REFERENCES users (user_id) ON DELETE CASCADE,
    role TEXT NOT NULL,
    models JSONB NOT NULL,
    spend_nano_usd BIGINT NOT NULL DEFAULT 0,
    total_spend_nano_usd BIGINT NOT NULL DEFAULT 0,
    max_budget_nano_usd BIGINT,
    budget_duration TEXT,
    budget_reset_at TIMESTAMPTZ,
    tpm_limit BIGINT,
    rpm_limit BIGINT,
    created_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (team_id, user_id)
);
CREATE INDEX team_members_user ON team_members (user_id);

CREATE TABLE virtual_keys (
    key_hash TEXT PRIMARY KEY,
    key_name TEXT NOT NULL,
    key_alias TEXT UNIQUE,
    user_id TEXT,
    team_id TEXT REFERENCES teams (team_id),
    organization_id TEXT REFERENCES organizations (organization_id),
    budget_id TEXT REFERENCES budgets (budget_id),
    blocked BOOLEAN NOT NULL DEFAULT FALSE,
    expires TIMESTAMPTZ,
    models JSONB NOT NULL,
    aliases JSONB NOT NULL,
    tags JSONB NOT NULL,
    allowed_routes JSONB NOT NULL,
    permissions JSONB NOT NULL,
    metadata JSONB NOT NULL,
    spend_nano_usd BIGINT NOT NULL DEFAULT 0,
    total_spend_nano_usd BIGINT NOT NULL DEFAULT 0,
    max_budget_nano_usd BIGINT,
    soft_budget_nano_usd BIGINT,
    budget_duration TEXT,
    budget_reset_at TIMESTAMPTZ,
    budget_limits JSONB NOT NULL,
    temp_budget_increase_nano_usd BIGINT,
    temp_budget_expiry TIMESTAMPTZ,
    tpm_limit BIGINT,
    rpm_limit BIGINT,
    tpd_limit BIGINT,
    max_parallel_requests BIGINT,
    model_max_budget JSONB NOT NULL,
    model_rpm_limit JSONB NOT NULL,
    model_tpm_limit JSONB NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    created_by TEXT NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL,
    updated_by TEXT NOT NULL
);
CREATE INDEX virtual_keys_team ON virtual_keys (team_id);
CREATE INDEX virtual_keys_user ON virtual_keys (user_id);
CREATE INDEX virtual_keys_created ON virtual_keys (created_at);

-- What a key was called before it was regenerated: accepted until `revoke_at`, and kept after, so
-- that its old rows of spend can be followed to the key that goes on with its balance.
CREATE TABLE replaced_keys (
    key_hash TEXT PRIMARY KEY,
    active_key_hash TEXT NOT NULL,
    revoke_at TIMESTAMPTZ NOT NULL
);
CREATE INDEX replaced_keys_active ON replaced_keys (active_key_hash);

CREATE TABLE customers (
    customer_id TEXT PRIMARY KEY,
    alias TEXT,
    blocked BOOLEAN NOT NULL DEFAULT FALSE,
    budget_id TEXT REFERENCES budgets (budget_id),
    allowed_model_region TEXT,
    default_model TEXT,
    models JSONB NOT NULL,
    spend_nano_usd BIGINT NOT NULL DEFAULT 0,
    total_spend_nano_usd BIGINT NOT NULL DEFAULT 0,
    created_at TIMESTAMPTZ NOT NULL,
    created_by TEXT NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL,
    updated_by TEXT NOT NULL
);

CREATE TABLE tags (
    name TEXT PRIMARY KEY,
    description TEXT,
    models JSONB NOT NULL,
    budget_id TEXT REFERENCES budgets (budget_id),
    spend_nano_usd BIGINT NOT NULL DEFAULT 0,
    total_spend_nano_usd BIGINT NOT NULL DEFAULT 0,
    created_at TIMESTAMPTZ NOT NULL,
    created_by TEXT NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL,
    updated_by TEXT NOT NULL
);

-- Deployments added by /model/new. `litellm_params` holds no secret in clear.
CREATE TABLE models (
    model_id TEXT PRIMARY KEY,
    model_name TEXT NOT NULL,
    litellm_params JSONB NOT NULL,
    model_info JSONB NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    created_by TEXT NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL,
    updated_by TEXT NOT NULL
);

-- One row per request. Ids are time-ordered and the indexes few, so that inserting stays cheap.
CREATE TABLE spend_logs (
    request_id TEXT PRIMARY KEY,
    provider_response_id TEXT,
    client_request_id TEXT,
    call_type TEXT NOT NULL,
    key_hash TEXT NOT NULL,
    key_alias TEXT,
    team_id TEXT,
    user_id TEXT,
    customer_id TEXT,
    organization_id TEXT,
    tags JSONB,
    model_group TEXT,
    model TEXT,
    deployment_id TEXT,
    provider TEXT,
    api_base TEXT,
    stream BOOLEAN NOT NULL,
    status TEXT NOT NULL,
    error_kind TEXT,
    http_status BIGINT,
    prompt_tokens BIGINT NOT NULL,
    cached_tokens BIGINT NOT NULL,
    cache_write_tokens BIGINT NOT NULL,
    completion_tokens BIGINT NOT NULL,
    reasoning_tokens BIGINT NOT NULL,
    total_tokens BIGINT NOT NULL,
    usage_source TEXT NOT NULL,
    spend_nano_usd BIGINT,
    price_version TEXT,
    cache_hit BOOLEAN NOT NULL,
    attempts BIGINT NOT NULL,
    start_time TIMESTAMPTZ NOT NULL,
    first_byte_time TIMESTAMPTZ,
    end_time TIMESTAMPTZ,
    ttft_ms DOUBLE PRECISION,
    overhead_us BIGINT,
    session_id TEXT,
    trace_id TEXT,
    metadata JSONB
);
CREATE INDEX spend_logs_start ON spend_logs (start_time);

-- Failed attempts that the provider billed; `attempt` counts from 1 within a request.
CREATE TABLE spend_attempts (
    request_id TEXT NOT NULL,
    attempt BIGINT NOT NULL,
    model TEXT,
    deployment_id TEXT,
    provider TEXT,
    api_base TEXT,
    error_kind TEXT,
    http_status BIGINT,
    prompt_tokens BIGINT NOT NULL,
    cached_tokens BIGINT NOT NULL,
    cache_write_tokens BIGINT NOT NULL,
    completion_tokens BIGINT NOT NULL,
    reasoning_tokens BIGINT NOT NULL,
    total_tokens BIGINT NOT NULL,
    usage_source TEXT NOT NULL,
    spend_nano_usd BIGINT,
    price_version TEXT,
    start_time TIMESTAMPTZ NOT NULL,
    end_time TIMESTAMPTZ,
    PRIMARY KEY (request_id, attempt)
);

-- The roll-up that reports read. What a request has none of is '', never NULL, so that the key is
-- a key; `day` is YYYY-MM-DD in UTC, `tags` the sorted list as JSON text.
CREATE TABLE daily_spend (
    day TEXT NOT NULL,
    key_hash TEXT NOT NULL,
    team_id TEXT NOT NULL,
    user_id TEXT NOT NULL,
    customer_id TEXT NOT NULL,
    organization_id TEXT NOT NULL,
    tags TEXT NOT NULL,
    model_group TEXT NOT NULL,
    model TEXT NOT NULL,
    provider TEXT NOT NULL,
    requests BIGINT NOT NULL DEFAULT 0,
    successful_requests BIGINT NOT NULL DEFAULT 0,
    failed_requests BIGINT NOT NULL DEFAULT 0,
    prompt_tokens BIGINT NOT NULL DEFAULT 0,
    cached_tokens BIGINT NOT NULL DEFAULT 0,
    cache_write_tokens BIGINT NOT NULL DEFAULT 0,
    completion_tokens BIGINT NOT NULL DEFAULT 0,
    reasoning_tokens BIGINT NOT NULL DEFAULT 0,
    total_tokens BIGINT NOT NULL DEFAULT 0,
    spend_nano_usd BIGINT NOT NULL DEFAULT 0,
    unpriced_requests BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (
        day, key_hash, team_id, user_id, customer_id, organization_id, tags,
        model_group, model, provider
    )
);

-- Who changed what; secrets never. Ids are time-ordered.
CREATE TABLE audit_log (
    id TEXT PRIMARY KEY,
    at TIMESTAMPTZ NOT NULL,
    actor TEXT NOT NULL,
    actor_key_hash TEXT,
    action TEXT NOT NULL,
    table_name TEXT NOT NULL,
    object_id TEXT NOT NULL,
    before_values JSONB,
    after_values JSONB
);
CREATE INDEX audit_log_object ON audit_log (table_name, object_id);

-- How far each worker's journal is in the tables above.
CREATE TABLE journal_checkpoints (
    worker_epoch TEXT NOT NULL,
    segment BIGINT NOT NULL,
    offset_bytes BIGINT NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (worker_epoch, segment)
);
