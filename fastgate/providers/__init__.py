"""Providers as data, and one adapter per wire format."""
