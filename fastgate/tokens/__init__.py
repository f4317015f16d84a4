"""How many tokens a text or a request has, before any provider says so.

    encoding_for(model) -> "o200k_base" | "cl100k_base" | None       models.py
    counter(name)       -> exact counts by that vocabulary           encodings.py
    count_messages(...) -> a chat request as its prompt counts       messages.py
    Ratio               -> an estimate for any other model           ratio.py

Exact is what tiktoken's `encode_ordinary` would give, token for token. Nothing here goes to the
network: vocabularies come from an installed package or a folder.
"""

from .encodings import SLICE_BYTES, TextCounter, VocabularyMissing, counter
from .messages import count_messages
from .models import encoding_for
from .ratio import Ratio

__all__ = [
    "SLICE_BYTES",
    "Ratio",
    "TextCounter",
    "VocabularyMissing",
    "count_messages",
    "counter",
    "encoding_for",
]
