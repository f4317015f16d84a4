"""What is compared: each peer says how to run it between a port and an upstream port."""
