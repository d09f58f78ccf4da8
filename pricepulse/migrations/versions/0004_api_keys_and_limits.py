"""API keys, what limits are counted in, addresses that accounts were used at."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "api_key",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("account_id", sa.String(length=32), nullable=False),
        sa.Column("hash", sa.LargeBinary(length=32), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("scopes", sa.JSON(), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("expires_at", INSTANT),
        sa.Column("last_used_at", INSTANT),
        sa.ForeignKeyConstraint(
            ["account_id"], ["account.id"], name="fk_api_key_account_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_api_key"),
    )
    op.create_index("ix_api_key_account_id", "api_key", ["account_id"])
    op.create_table(
        "counter",
        sa.Column("hash", sa.LargeBinary(length=32), nullable=False),
        sa.Column("full_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("hash", name="pk_counter"),
    )
    op.create_index("ix_counter_full_at", "counter", ["full_at"])
    op.create_table(
        "known_address",
        sa.Column("hash", sa.LargeBinary(length=32), nullable=False),
        sa.Column("account_id", sa.String(length=32), nullable=False),
        sa.Column("at", INSTANT, nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"], ["account.id"], name="fk_known_address_account_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("hash", name="pk_known_address"),
    )
    op.create_index("ix_known_address_account_id", "known_address", ["account_id"])
    op.create_index("ix_known_address_at", "known_address", ["at"])


def downgrade() -> None:
    for table in ("known_address", "counter", "api_key"):
        op.drop_table(table)
