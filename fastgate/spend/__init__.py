"""What requests cost: prices, the journal that workers write, and the rows that come of it.

config, catalogue -> prices.py -> Price     exact fractions of a dollar, by unit
Price -> cards -> _core/cost                integers over a common denominator; the arithmetic
worker: _core/journal -> segments.py        files, one folder a worker
control: recovery.py -> ledger.py           records -> rows and balances, one transaction a batch
         drain.py drives both; verify.py checks; retention.py forgets; reprice.py computes anew
"""
