"""Every table of the transactional store, by importing the modules that hold them: for Alembic."""

from pricepulse import audit, mail

__all__ = ["audit", "mail"]
