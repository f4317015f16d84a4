"""What requests cost, on record: the journal that workers write, and the rows that come of it.

worker: _core/journal -> segments.py        files, one folder a worker
control: recovery.py -> ledger.py           records -> rows and balances, one transaction a batch
         drain.py drives both; verify.py checks; retention.py forgets
"""
