"""The data plane: one file per stage of a request (see docs/life-of-a-request.md)."""
