-- Rows of `spend_logs` that began before this day (YYYY-MM-DD, UTC) were deleted on purpose.
CREATE TABLE spend_retention (
    forgotten_before TEXT NOT NULL
);
