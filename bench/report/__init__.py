"""A comparison's report: one self-contained HTML page, a Markdown table, a PNG of the page."""
