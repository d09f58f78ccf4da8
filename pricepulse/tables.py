"""Every table of the transactional store, by importing the modules that hold them: for Alembic."""

from pricepulse import audit, mail, shared_counters
from pricepulse.accounts import belongings
from pricepulse.accounts import tables as accounts

__all__ = ["accounts", "audit", "belongings", "mail", "shared_counters"]
