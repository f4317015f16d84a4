"""Which models count by a public vocabulary, from their names (tiktoken 0.14 lists the same)."""

from __future__ import annotations

__all__ = ["encoding_for"]

# A name that ends with a separator stands for all that begin so; any other for itself and its
# dated, sized and tuned variants. The longest that fits wins.
_ENCODINGS = {
    "chatgpt-4o": "o200k_base",
    "gpt-4.1": "o200k_base",
    "gpt-4.5": "o200k_base",
    "gpt-4o": "o200k_base",
    "gpt-5": "o200k_base",
    "gpt-5.": "o200k_base",
    # o200k_harmony differs in special tokens only, which text has none of.
    "gpt-oss": "o200k_base",
    "o1": "o200k_base",
    "o3": "o200k_base",
    "o4-mini": "o200k_base",
    "babbage-002": "cl100k_base",
    "davinci-002": "cl100k_base",
    "gpt-3.5": "cl100k_base",
    "gpt-35-turbo": "cl100k_base",
    "gpt-4": "cl100k_base",
    "text-embedding-3-": "cl100k_base",
    "text-embedding-ada-002": "cl100k_base",
}
_SEPARATORS = "-:@."
_LONGEST_FIRST = sorted(_ENCODINGS, key=len, reverse=True)


def encoding_for(model: str) -> str | None:
    """Return the vocabulary that the model counts by, None where no public one does.

    What stands before a slash is who serves it, `ft:` marks a fine-tuned model: both are ignored.
    """
    name = model.rpartition("/")[2].removeprefix("ft:").lower()
    for prefix in _LONGEST_FIRST:
        if name.startswith(prefix) and (
            len(name) == len(prefix) or prefix[-1] in _SEPARATORS or name[len(prefix)] in "-:@"
        ):
            return _ENCODINGS[prefix]
    return None
