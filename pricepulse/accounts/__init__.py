"""Accounts: who somebody is, and how a request shows it."""
