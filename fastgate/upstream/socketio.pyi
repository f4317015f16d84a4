from asyncio import BaseTransport

def send_now(fd: int, data: bytes) -> int:
    """Send what the socket takes without waiting; return how many bytes that was.

    0 when the socket is full or broken: the caller's transport then finds out which.
    """

def plain_fd(transport: BaseTransport) -> int:
    """Return the descriptor of a transport's socket; -1 when bytes must pass through it: TLS."""
