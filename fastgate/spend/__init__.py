"""What requests cost: prices, and what is kept of it.

config, catalogue -> prices.py -> Price     exact fractions of a dollar, by unit
Price -> cards -> _core/cost                integers over a common denominator; the arithmetic
reprice.py                                  what rows would cost at the prices of today
"""
