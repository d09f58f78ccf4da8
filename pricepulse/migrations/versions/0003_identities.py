"""Who may sign in through a provider, and browsers that came back from one."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "identity",
        sa.Column("issuer", sa.String(length=255), nullable=False),
        sa.Column("subject", sa.String(length=255), nullable=False),
        sa.Column("account_id", sa.String(length=32), nullable=False),
        sa.Column("provider", sa.String(length=32), nullable=False),
        sa.Column("email", sa.String(length=254), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("last_used_at", INSTANT, nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"], ["account.id"], name="fk_identity_account_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("issuer", "subject", name="pk_identity"),
        sa.UniqueConstraint("account_id", "provider", name="uq_identity_account_id"),
    )
    op.create_index("ix_identity_account_id", "identity", ["account_id"])
    op.create_table(
        "oauth_return",
        sa.Column("state", sa.LargeBinary(length=32), nullable=False),
        sa.Column("code", sa.LargeBinary(length=32)),
        sa.Column("brought", sa.LargeBinary()),
        sa.Column("expires_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("state", name="pk_oauth_return"),
        sa.UniqueConstraint("code", name="uq_oauth_return_code"),
    )
    op.create_index("ix_oauth_return_expires_at", "oauth_return", ["expires_at"])


def downgrade() -> None:
    op.drop_table("oauth_return")
    op.drop_table("identity")
