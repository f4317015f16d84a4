"""fastgate: an LLM gateway at about the cost of a byte proxy."""

__version__ = "0.1.0"
__all__ = ["__version__"]
