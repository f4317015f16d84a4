"""Connections to engines and providers."""
