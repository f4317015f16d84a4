-- LiteLLM's tables as views, under its names and with its columns, so that reports written against
-- them go on working. Read-only. Money in dollars; lists are JSON where LiteLLM has arrays.

CREATE VIEW "LiteLLM_SpendLogs" AS
SELECT
    request_id,
    call_type,
    key_hash AS api_key,
    coalesce(spend_nano_usd, 0) / 1e9 AS spend,
    total_tokens,
    prompt_tokens,
    completion_tokens,
    start_time AS "startTime",
    end_time AS "endTime",
    first_byte_time AS "completionStartTime",
    coalesce(model, '') AS model,
    deployment_id AS model_id,
    model_group,
    provider AS custom_llm_provider,
    api_base,
    user_id AS "user",
    metadata,
    CASE WHEN cache_hit THEN 'True' ELSE 'False' END AS cache_hit,
    '' AS cache_key,
    tags AS request_tags,
    team_id,
    organization_id,
    customer_id AS end_user,
    session_id,
    CASE WHEN status = 'success' THEN 'success' ELSE 'failure' END AS status
FROM spend_logs;

CREATE VIEW "LiteLLM_VerificationToken" AS
SELECT
    key_hash AS token,
    key_name,
    key_alias,
    spend_nano_usd / 1e9 AS spend,
    expires,
    models,
    aliases,
    user_id,
    team_id,
    organization_id,
    permissions,
    max_parallel_requests,
    metadata,
    blocked,
    tpm_limit,
    rpm_limit,
    max_budget_nano_usd / 1e9 AS max_budget,
    budget_duration,
    budget_reset_at,
    allowed_routes,
    model_max_budget,
    budget_id,
    created_at,
    created_by,
    updated_at,
    updated_by
FROM virtual_keys;

CREATE VIEW "LiteLLM_TeamTable" AS
SELECT
    team_id,
    team_alias,
    organization_id,
    metadata,
    max_budget_nano_usd / 1e9 AS max_budget,
    spend_nano_usd / 1e9 AS spend,
    models,
    max_parallel_requests,
    tpm_limit,
    rpm_limit,
    budget_duration,
    budget_reset_at,
    blocked,
    model_max_budget,
    created_at,
    updated_at
FROM teams;

CREATE VIEW "LiteLLM_UserTable" AS
SELECT
    user_id,
    user_alias,
    user_email,
    user_role,
    sso_user_id,
    models,
    metadata,
    max_budget_nano_usd / 1e9 AS max_budget,
    spend_nano_usd / 1e9 AS spend,
    max_parallel_requests,
    tpm_limit,
    rpm_limit,
    budget_duration,
    budget_reset_at,
    model_max_budget,
    created_at,
    updated_at
FROM users;
