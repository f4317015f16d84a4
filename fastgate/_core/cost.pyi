from typing import final

CARD_BYTES: int
"""A price as it is from one moment on, in native byte order: since_us, version, scale, `above` of
each step, rates of each step and lane; 64 bits each, all but version signed."""
MAX_STEPS: int
"""The base and its tiers. Steps not used repeat the last rates, above 2^63 - 1 tokens."""
MAX_RATE: int
"""The largest rate, and scale: what keeps every sum within 128 bits."""
LANE_NAMES: tuple[str, ...]
"""What is priced by itself, in the order of a card's rates. `seconds` are counted in ns."""

@final
class Rates:
    """A deployment's price over time, as workers have it. Immutable."""

    def __new__(cls, data: bytes) -> Rates:
        """Copy one or more cards out of `data`, ascending by time.

        Raises ValueError when they are none that the arithmetic can rely on.
        """

    @staticmethod
    def decode(data: bytes) -> Rates:
        """Return `Rates(data)`."""

    def version(self, time_us: int) -> int:
        """Return what tells this price from others: 64 bits."""
    def charge_nano(
        self,
        time_us: int,
        prompt: int,
        cached: int,
        cache_write: int,
        completion: int,
        reasoning: int,
        images: int,
        duration_ns: int,
    ) -> int:
        """Return what cost_nano() does for one request, -1 for None: what the data plane calls."""
    def most_nano(self, time_us: int, prompt: int, completion: int, n: int) -> int:
        """Return what max_cost_nano() does, -1 for None."""
    def cost_nano(
        self,
        time_us: int,
        prompt: int = 0,
        cached: int = 0,
        cache_write: int = 0,
        completion: int = 0,
        reasoning: int = 0,
        audio_in: int = 0,
        audio_out: int = 0,
        requests: int = 1,
        seconds_ns: int = 0,
        *,
        cache_write_1h: int = 0,
        image_in: int = 0,
        image_out: int = 0,
        images: int = 0,
    ) -> int | None:
        """Return nano-dollars at the price of `time_us`, half a one rounded up; None: unknown.

        Parts are contained in their whole: cached, written, audio and image tokens in `prompt`,
        the hour's in `cache_write`, reasoning, audio and image tokens in `completion`. Below 0
        counts as 0. A cost above 2^63 - 1 is 2^63 - 1.
        """
    def max_cost_nano(self, time_us: int, prompt: int, completion: int, n: int = 1) -> int | None:
        """Return the most that up to `prompt` tokens and `n` answers of up to `completion` cost.

        Rounded up; None: unknown. What is priced by time can't be bounded and is left out.
        """
