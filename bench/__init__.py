"""Measurement: a simulated engine, a load client, and comparisons with other proxies."""
