"""What Alembic runs: on the connection that `pricepulse.migrations` hands over, in its transaction."""

from alembic import context

from pricepulse import tables  # noqa: F401 (fills the metadata)
from pricepulse.store import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    render_as_batch=True,  # SQLite alters a table by making it anew
)
context.run_migrations()
