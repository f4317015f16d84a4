"""LiteLLM's keys that have no effect here, each with the reason: one table per section.

A key that stands in none of them is unknown, which usually means misspelt.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

__all__ = ["TABLES", "general", "litellm", "model_info", "parameter", "router", "top_level"]

_BUDGETS = "not kept: see docs/spend.md for the budgets that are"
_CACHE = "there is no response cache yet"
_CALLBACKS = "callbacks, guardrails and prompts are not run"
_CHECKS = "requests are looked at for their model and size only"
_DATABASE = "not needed: the database is fastgate's own, see docs/keys.md"
_DEFAULTS = "requests go out as they came, a deployment adds no parameters"
_HEALTH = "deployments are judged by the requests themselves; GET /health asks them on demand"
_LIMITS = "see fastgate_settings.limits and rpm, tpm, max_parallel of a key"
_LOGGING = "the log is always JSON: see fastgate_settings.log"
_LOGIN = "only keys are accepted, no JWT and no SSO"
_NO_COUNT = "usage of this kind is not told apart"
_PRICES = "costs are not recorded yet"
_PROVIDER = "belongs to a wire format that is not spoken yet"
_PROXY = "keys, not routes or addresses, decide on access"
_REDIS = "limits are shared by the workers of one machine, without Redis"
_RETRIES = "one number of retries counts for all kinds of errors: num_retries"
_FALLBACKS = "fallbacks cover every kind of failure that may be retried"
_SECRETS = "keys come from the file or from os.environ/NAME"
_TAGS = "deployments are not chosen by tags or regions yet"
_TEAMS = "teams and users are names, without settings of their own"
_TOOLS = "not served yet"


def _by_word(words_by_reason: Mapping[str, str]) -> dict[str, str]:
    return {word: why for why, words in words_by_reason.items() for word in words.split()}


_TOP_LEVEL = _by_word(
    {
        _CALLBACKS: "callback_settings guardrails policies prompts",
        _TOOLS: """mcp_servers mcp_aliases mcp_tools search_tools vector_store_registry agent_list
            assistant_settings files_settings finetune_settings worker_registry""",
        "give api_key and api_base with each deployment": "credential_list",
        _PROVIDER: "default_vertex_config",
    }
)

_LITELLM = _by_word(
    {
        _CALLBACKS: """callbacks success_callback failure_callback service_callback
            service_callbacks input_callback post_call_rules pre_call_rules guardrails
            custom_provider_map callback_settings langfuse_default_tags s3_callback_params
            datadog_params turn_off_message_logging redact_messages_in_exceptions
            redact_user_api_key_info standard_logging_payload_excluded_fields
            global_disable_no_log_param""",
        _CACHE: "cache cache_params caching enable_redis_auth_cache disable_cache",
        _BUDGETS: """max_internal_user_budget max_ui_session_budget
            internal_user_budget_duration max_end_user_budget max_end_user_budget_id
            tag_budget_config provider_budget_config budget_exceeded_status_code""",
        _PRICES: """cost_discount_config cost_margin_config disable_end_user_cost_tracking
            disable_end_user_cost_tracking_prometheus_only include_cost_in_streaming_usage""",
        _TEAMS: """default_internal_user_params default_team_settings default_team_params
            default_key_generate_params upperbound_key_generate_params key_generation_settings
            internal_user_params public_model_groups public_agent_groups priority_reservation""",
        _LOGGING: "set_verbose json_logs log_raw_request_response suppress_debug_info verbose",
        "GET /metrics has what this would configure, and asks for the master key": """
            require_auth_for_metrics_endpoint custom_prometheus_metadata_labels
            custom_prometheus_tags prometheus_metrics_config prometheus_emit_stream_label
            prometheus_initialize_budget_metrics enable_end_user_cost_tracking_prometheus_only""",
        _DEFAULTS: """modify_params add_function_to_prompt enable_json_schema_validation
            additional_drop_params allowed_openai_params merge_reasoning_content_in_choices
            api_base api_key headers organization use_litellm_proxy""",
        _FALLBACKS: "context_window_fallbacks content_policy_fallbacks",
        _RETRIES: "num_retries_per_request retry",
        "addresses of both families are tried": "force_ipv4",
        "nothing is sent home": "telemetry",
        _TOOLS: "mcp_aliases network_mock blog_posts_url enable_preview_features",
        _SECRETS: "key_management_system key_management_settings secret_manager_client",
    }
)

_ROUTER = _by_word(
    {
        _FALLBACKS: "context_window_fallbacks content_policy_fallbacks",
        _RETRIES: "retry_policy model_group_retry_policy",
        "failures are counted alike: allowed_fails": "allowed_fails_policy",
        _CHECKS: "enable_pre_call_checks optional_pre_call_checks caching_groups",
        _TAGS: "enable_tag_filtering tag_filtering_match_any tag_routing",
        _BUDGETS: "provider_budget_config",
        _REDIS: """redis_host redis_port redis_password redis_url redis_db redis_username
            redis_ssl redis_startup_nodes""",
        _CACHE: "cache_responses cache_kwargs client_ttl",
        _DEFAULTS: "default_litellm_params",
        "give it with each deployment or key": "default_max_parallel_requests",
        "the strategies have nothing to configure": "routing_strategy_args routing_groups",
        "requests are not queued by priority": "default_priority polling_interval",
        _HEALTH: "enable_health_check_routing health_check_staleness_threshold",
        _LOGGING: "set_verbose debug_level",
        _CALLBACKS: "alerting_config search_tools guardrail_list assistants_config",
        "deployments of unsupported providers are left out, faults never": """
            ignore_invalid_deployments""",
        "a fallback's answer is not remembered for a conversation": """
            deployment_affinity_ttl_seconds responses_api_deployment_check""",
    }
)

_GENERAL = _by_word(
    {
        _DATABASE: """database_connection_pool_limit database_connection_timeout
            database_connection_pool_timeout database_type database_args store_model_in_db
            supported_db_objects disable_prisma_schema_update use_redis_transaction_buffer
            allow_requests_on_db_unavailable proxy_batch_write_at proxy_batch_polling_interval
            proxy_config_reload_interval_seconds user_api_key_cache_ttl dynamic_config""",
        _PRICES: """disable_spend_logs disable_spend_updates disable_error_logs
            store_prompts_in_spend_logs maximum_spend_logs_retention_period
            maximum_spend_logs_retention_interval maximum_spend_logs_cleanup_cron
            spend_report_frequency use_spend_logs_partitioning""",
        _BUDGETS: """disable_reset_budget proxy_budget_rescheduler_min_time
            proxy_budget_rescheduler_max_time disable_budget_reservation
            fail_closed_budget_enforcement apply_user_budget_to_team_keys""",
        _LOGIN: """enable_jwt_auth litellm_jwtauth custom_auth custom_auth_run_common_checks
            custom_sso custom_ui_sso_sign_in_handler custom_key_generate custom_key_update
            allow_user_auth enforce_rbac role_permissions ui_access_mode
            service_account_settings enable_oauth2_auth""",
        _PROXY: """admin_only_routes allowed_routes public_routes
            disable_master_key_return control_plane_url""",
        _TEAMS: """user_header_name user_header_mappings default_team_disabled enforce_user_param
            enforced_params reject_clientside_metadata_tags""",
        "a field that anybody can write says nothing of where a request comes from": """
            use_x_forwarded_for""",
        "fields that clients send are passed on by an allow-list": """
            forward_client_headers_to_llm_api forward_openai_org_id
            forward_llm_provider_auth_headers allow_client_side_credentials
            configurable_clientside_auth_params mcp_client_side_auth_header_name""",
        _HEALTH: """background_health_checks health_check_interval health_check_details
            health_check_concurrency use_shared_health_check enable_health_check_routing
            health_check_ignore_transient_errors health_check_staleness_threshold""",
        "alerts are for what reads GET /metrics": """alerting alerting_threshold alerting_args
            alert_types alert_to_webhook_url""",
        _LIMITS: """global_max_parallel_requests max_parallel_requests max_response_size_mb
            max_in_flight_requests_per_worker max_queued_requests_per_worker
            admission_queue_timeout_seconds token_rate_limit_type
            disable_retry_on_max_parallel_request_limit_error""",
        _REDIS: "coordination_redis fail_closed_rate_limit_enforcement",
        _SECRETS: """key_management_system key_management_settings use_google_kms
            use_azure_key_vault infer_model_from_keys""",
        _TOOLS: """pass_through_endpoints search_tools completion_model
            disable_responses_id_security""",
        "usage is always asked for, and shown to clients that ask": "always_include_stream_usage",
        "an upstream is always closed when its client is gone": "cancel_on_disconnect",
        "nothing here needs a licence": "litellm_license",
        "a non-loopback address without a master key is always refused": """
            dangerously_permit_weak_or_unset_master_key""",
    }
)

_PARAMETER = _by_word(
    {
        _TAGS: "tags tag_regex region_name allowed_model_region",
        _BUDGETS: "max_budget budget_duration max_file_size_mb",
        "give api_key and api_base with the deployment": "litellm_credential_name",
        "no answer is made up: the deployment is called": "mock_response mock_timeout",
        "the client's own credentials are never passed on": "configurable_clientside_auth_params",
        _TOOLS: "use_in_pass_through use_litellm_proxy use_chat_completions_api rust litellm_agent",
        _DEFAULTS: """temperature top_p top_k min_p n stream stream_options stop max_tokens
            max_completion_tokens presence_penalty frequency_penalty repetition_penalty
            logit_bias user logprobs top_logprobs seed tools tool_choice parallel_tool_calls
            functions function_call response_format reasoning_effort thinking verbosity
            extra_body extra_query drop_params additional_drop_params allowed_openai_params
            modify_params num_ctx keep_alive dimensions encoding_format input_type voice
            modalities audio prediction service_tier store metadata prompt_id prompt_variables
            merge_reasoning_content_in_choices web_search_options supports_system_message
            hf_model_name initial_prompt_value roles final_prompt_value bos_token eos_token
            prompt_label ignore_prompt_manager_model cache_control_injection_points
            add_function_to_prompt enable_thinking chat_template_kwargs safety_settings headers
            output_vector_size""",
        _CALLBACKS: "guardrails success_callback failure_callback callbacks",
        _LOGGING: "verbose set_verbose no_log input_cost",
        _CACHE: "cache caching",
        _PROVIDER: """api_version azure_ad_token tenant_id client_id client_secret s3_bucket_name
            gcs_bucket_name watsonx_region_name token project project_id space_id""",
        "give a new model_name its own entry": "model_alias_map model_name",
        _FALLBACKS: "fallbacks context_window_fallbacks",
    }
)
_PARAMETER_PATTERNS = (
    (re.compile(r"(input|output|cache|cost|code_interpreter|search_context)_?.*cost.*"), _NO_COUNT),
    (re.compile(r".*_cost(_per)?(_.*)?"), _NO_COUNT),
    (re.compile(r"(aws|azure|vertex|gemini|bedrock|s3|gcs|oci|sap|watsonx)_.*"), _PROVIDER),
    (re.compile(r"mock_.*"), _PARAMETER["mock_response"]),
    (re.compile(r"(auto|complexity|quality|adaptive)_router_.*"), _TOOLS),
)

_MODEL_INFO = _by_word(
    {
        _DATABASE: """db_model created_at created_by updated_at updated_by direct_access
            blocked""",
        _TEAMS: "team_id team_public_model_name",
        _HEALTH: """disable_background_health_check health_check_model health_check_timeout
            health_check_voice health_check_max_tokens""",
        "it is not shown anywhere yet": """max_tokens max_input_tokens max_output_tokens
            litellm_provider tier rpm tpm output_vector_size key
            supported_environments description source model_name
            name display_name metadata deprecation_date supported_openai_params
            supported_endpoints supported_modalities supported_output_modalities""",
    }
)
_MODEL_INFO_PATTERNS = (
    *_PARAMETER_PATTERNS,
    (re.compile(r"supports_.*"), "requests go out as they came, whatever the model supports"),
)


def _lookup(
    table: Mapping[str, str], patterns: tuple[tuple[re.Pattern[str], str], ...] = ()
) -> Callable[[str], str]:
    """Make a function that says why a key has no effect; "": it isn't known."""

    def why(key: str) -> str:
        found = table.get(key)
        if found is not None:
            return found
        return next((reason for pattern, reason in patterns if pattern.fullmatch(key)), "")

    return why


TABLES = {
    "": _TOP_LEVEL,
    "litellm_params": _PARAMETER,
    "model_info": _MODEL_INFO,
    "router_settings": _ROUTER,
    "litellm_settings": _LITELLM,
    "general_settings": _GENERAL,
}
"""For docs/configuration.md."""

top_level = _lookup(_TOP_LEVEL)
litellm = _lookup(_LITELLM)
router = _lookup(_ROUTER)
general = _lookup(_GENERAL)
parameter = _lookup(_PARAMETER, _PARAMETER_PATTERNS)
model_info = _lookup(_MODEL_INFO, _MODEL_INFO_PATTERNS)
