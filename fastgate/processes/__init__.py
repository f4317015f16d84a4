"""What the supervisor is made of: configuration, listeners, children."""
