"""Loaded by every process of a gateway that a test starts with this folder on PYTHONPATH.

FASTGATE_TEST_HOOKS names what is changed in it:

    impatient   what died is replaced at once, however often it dies
    buffered    sabotage: the journal is memory of the process, written to its file now and then
    careless    sabotage: rows are posted without looking whether they are there, and the
                checkpoint apart from them
"""

import os
import sys

_HOOKS = os.environ.get("FASTGATE_TEST_HOOKS", "").split(",")
_MODULE = (
    sys.orig_argv[sys.orig_argv.index("-m") + 1] if "-m" in sys.orig_argv else "fastgate.supervisor"
)


def replace_at_once() -> None:
    from fastgate.processes import child

    child._FIRST_DELAY_S = child._MAX_DELAY_S = 0.05


def buffer_the_journal() -> None:
    import mmap

    from fastgate.spend import segments

    whole = segments._Segment

    class Buffered(whole):
        def __init__(self, *arguments) -> None:
            super().__init__(*arguments)
            self.file = self.map
            self.map = mmap.mmap(-1, len(self.file))
            self.map[:] = self.file[:]

        def sync(self) -> None:
            self.file[:] = self.map[:]
            super().sync()

    segments._Segment = Buffered


def post_carelessly() -> None:
    import asyncio

    from fastgate.spend import ledger

    careful = ledger.post

    async def nothing_is_known(transaction, ids):
        return {}

    async def post(store, entries, moves):
        posted = await careful(store, entries, [])
        await asyncio.sleep(1.0)
        await careful(store, [], moves)
        return posted

    ledger._known = nothing_is_known
    ledger.post = post


if "impatient" in _HOOKS and _MODULE == "fastgate.supervisor":
    replace_at_once()
if "buffered" in _HOOKS and _MODULE == "fastgate.gateway.worker":
    buffer_the_journal()
if "careless" in _HOOKS and _MODULE == "fastgate.control.main":
    post_carelessly()
