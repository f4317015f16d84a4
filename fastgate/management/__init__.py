"""The management API: keys, teams, users, budgets, spend. LiteLLM's paths, fields and codes.

`routes.py` is the table: every route, who may ask it, its body, its handler. Nothing in this
package knows of HTTP: `control/management.py` brings requests here, and answers back.
"""
