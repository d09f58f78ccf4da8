"""What an account keeps: settings, favourites, followed categories, a picture."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

INSTANT = sa.DateTime(timezone=True)


def owner() -> sa.Column[str]:
    return sa.Column("account_id", sa.String(length=32), nullable=False)


def goes_with_account(table: str) -> sa.ForeignKeyConstraint:
    name = f"fk_{table}_account_id"
    return sa.ForeignKeyConstraint(["account_id"], ["account.id"], name=name, ondelete="CASCADE")


def upgrade() -> None:
    op.create_table(
        "preferences",
        owner(),
        sa.Column("currency", sa.String(length=3)),
        sa.Column("locale", sa.String(length=35), nullable=False),
        sa.Column("time_zone", sa.String(length=64), nullable=False),
        sa.Column("theme", sa.String(length=8), nullable=False),
        sa.Column("keep_activity", sa.Boolean(), nullable=False),
        goes_with_account("preferences"),
        sa.PrimaryKeyConstraint("account_id", name="pk_preferences"),
    )
    op.create_table(
        "favorite",
        owner(),
        sa.Column("product_id", sa.BigInteger(), nullable=False),
        sa.Column("offer_id", sa.BigInteger(), nullable=False),
        sa.Column("added_at", INSTANT, nullable=False),
        sa.Column("price", sa.BigInteger()),
        sa.Column("currency", sa.String(length=3), nullable=False),
        sa.Column("title", sa.String(length=500)),
        goes_with_account("favorite"),
        sa.PrimaryKeyConstraint("account_id", "product_id", name="pk_favorite"),
    )
    op.create_table(
        "followed_category",
        owner(),
        sa.Column("slug", sa.String(length=500), nullable=False),
        sa.Column("added_at", INSTANT, nullable=False),
        goes_with_account("followed_category"),
        sa.PrimaryKeyConstraint("account_id", "slug", name="pk_followed_category"),
    )
    op.create_table(
        "avatar",
        owner(),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("changed_at", INSTANT, nullable=False),
        goes_with_account("avatar"),
        sa.PrimaryKeyConstraint("account_id", name="pk_avatar"),
    )


def downgrade() -> None:
    for table in ("avatar", "followed_category", "favorite", "preferences"):
        op.drop_table(table)
