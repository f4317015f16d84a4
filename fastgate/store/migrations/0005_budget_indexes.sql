-- Looking for budgets that begin anew, every few seconds, reads only those that are due.
CREATE INDEX virtual_keys_reset ON virtual_keys (budget_reset_at) WHERE budget_reset_at IS NOT NULL;
CREATE INDEX teams_reset ON teams (budget_reset_at) WHERE budget_reset_at IS NOT NULL;
CREATE INDEX users_reset ON users (budget_reset_at) WHERE budget_reset_at IS NOT NULL;
CREATE INDEX team_members_reset ON team_members (budget_reset_at) WHERE budget_reset_at IS NOT NULL;
CREATE INDEX budget_windows_reset ON budget_windows (reset_at) WHERE reset_at IS NOT NULL;

-- What follows a row of `budgets`.
CREATE INDEX virtual_keys_budget ON virtual_keys (budget_id) WHERE budget_id IS NOT NULL;
CREATE INDEX customers_budget ON customers (budget_id) WHERE budget_id IS NOT NULL;

-- A member's balance is found by the name that budgets have for it.
CREATE INDEX team_members_scope ON team_members ((team_id || '/' || user_id));

-- What was spent under a name is asked when a row is made for it.
CREATE INDEX daily_spend_key ON daily_spend (key_hash);
CREATE INDEX daily_spend_team ON daily_spend (team_id) WHERE team_id <> '';
CREATE INDEX daily_spend_user ON daily_spend (user_id) WHERE user_id <> '';
CREATE INDEX daily_spend_organization ON daily_spend (organization_id) WHERE organization_id <> '';
CREATE INDEX daily_spend_customer ON daily_spend (customer_id) WHERE customer_id <> '';
