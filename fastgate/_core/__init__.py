"""The compiled core: sans-IO, no clock, no randomness; imports nothing else of fastgate."""
