"""`pricepulse user`: accounts by whoever has a shell on the server.

What makes this slow to import is imported where it is used: `--help` is immediate.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

import click

from pricepulse.settings import Settings, SettingsError

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.ext.asyncio import AsyncSession

    from pricepulse.accounts.tables import Account

T = TypeVar("T")
ROLES = ("user", "analyst", "operator", "admin")
SCOPES = ("read", "sql", "ingest", "admin")
data_flag = click.option(
    "--data", help="the data folder, ./data unless said otherwise (PRICEPULSE_DATA)"
)


@click.group()
def user() -> None:
    """Accounts: list, create, role, disable, enable, reset, delete, and keys for programs."""


@user.command("list")
@data_flag
def list_accounts(data: str | None) -> None:
    """Print each account: address, role, since when, when it was last used, and what is special about it;
    between tabs, oldest first."""
    from sqlalchemy import func, select

    from pricepulse.accounts.tables import Account, Session

    async def work(db: AsyncSession) -> list[str]:
        used = func.max(Session.last_used_at)
        query = select(Account, used).outerjoin(Session).group_by(Account.id)
        return [
            "\t".join(
                (each.email, each.role, f"{each.created_at:%Y-%m-%d}", _day(last), _special(each))
            )
            for each, last in await db.execute(query.order_by(Account.created_at))
        ]

    for line in _run(_settings(data), work):
        click.echo(line)


@user.command()
@data_flag
@click.option("--role", type=click.Choice(ROLES), default="user", show_default=True)
@click.option("--name", default="", help="what the account is called")
@click.argument("email")
def create(email: str, role: str, name: str, data: str | None) -> None:
    """Make an account for EMAIL, whose address needs no proof. Asks for the password; where nobody can be
    asked it is the first line of the standard input."""
    from pricepulse.accounts import passwords
    from pricepulse.accounts.addresses import Address
    from pricepulse.accounts.tables import Account
    from pricepulse.errors import UnprocessableError

    settings = _settings(data)
    try:
        address = Address.from_text(email)
        password = _asked_password()
        passwords.check_password(password, "", least=passwords.ALONE, about=address.key)
    except UnprocessableError as error:
        raise SettingsError(error.detail) from None
    hasher = passwords.Hasher()

    async def work(db: AsyncSession) -> None:
        if await _find(db, address.key) is not None:
            raise SettingsError(
                f"{address.email} has an account; `pricepulse user role` changes its role"
            )
        made = Account(email=address.email, email_key=address.key, name=name, role=role)
        made.password_hash = password_hash
        db.add(made)
        await db.flush()
        _record(db, "account.create", made, role=role)

    password_hash = asyncio.run(hasher.hash(password))
    _run(settings, work)
    click.echo(f"{address.email} has an account with the role {role}")


@user.command("role")
@data_flag
@click.argument("email")
@click.argument("role", type=click.Choice(ROLES))
def set_role(email: str, role: str, data: str | None) -> None:
    """Give the account of EMAIL another ROLE; it has to sign in anew."""

    async def work(db: AsyncSession) -> None:
        account = await _found(db, email)
        before, account.role = account.role, role
        await _end_sessions(db, account)
        _record(db, "account.role", account, before=before, role=role)

    _run(_settings(data), work)
    click.echo(f"{email} has the role {role}")


@user.command()
@data_flag
@click.argument("email")
def disable(email: str, data: str | None) -> None:
    """Sign EMAIL out everywhere and let nobody in with it; `enable` takes that back."""
    from pricepulse.accounts.tables import now

    async def work(db: AsyncSession) -> None:
        account = await _found(db, email)
        account.disabled_at = account.disabled_at or now()
        await _end_sessions(db, account)
        _record(db, "account.disable", account)

    _run(_settings(data), work)
    click.echo(f"{email} is disabled and signed out everywhere")


@user.command()
@data_flag
@click.argument("email")
def enable(email: str, data: str | None) -> None:
    """Let EMAIL sign in again."""

    async def work(db: AsyncSession) -> None:
        account = await _found(db, email)
        account.disabled_at = None
        _record(db, "account.enable", account)

    _run(_settings(data), work)
    click.echo(f"{email} may sign in")


@user.command()
@data_flag
@click.option("--second-factor", is_flag=True, help="take the second factor away, too")
@click.argument("email")
def reset(email: str, second_factor: bool, data: str | None) -> None:
    """Print a link with which EMAIL sets a new password within an hour, and sign it out everywhere."""
    from pricepulse.accounts.addresses import Address
    from pricepulse.accounts.registration import add_link

    settings = _settings(data)

    async def work(db: AsyncSession) -> str:
        account = await _found(db, email)
        if second_factor:
            await _end_second_factor(db, account)
        await _end_sessions(db, account)
        _record(db, "account.reset", account, second_factor=second_factor)
        address = Address(account.email, account.email_key)
        return add_link(db, "reset", address, account_id=account.id)

    token = _run(settings, work)
    click.echo(f"{settings.public_url}/reset-password#token={token}")


@user.command()
@data_flag
@click.option(
    "--scope",
    "scopes",
    type=click.Choice(SCOPES),
    multiple=True,
    required=True,
    help="what it is good for; sql takes an analyst, ingest an operator, admin an admin",
)
@click.option("--name", default="made on the server", show_default=True, help="what it is for")
@click.option(
    "--days", type=click.IntRange(1, 3650), help="after which it expires; else it does not"
)
@click.argument("email")
def key(email: str, scopes: tuple[str, ...], name: str, days: int | None, data: str | None) -> None:
    """Print a new API key of EMAIL, for a program that sends it as 'Authorization: Bearer KEY'. It is shown
    this once; EMAIL is told by mail, and can take it away."""
    from datetime import timedelta

    import msgspec

    from pricepulse.accounts import api_keys
    from pricepulse.accounts.tables import now
    from pricepulse.errors import PricePulseError
    from pricepulse.sealing import sealer

    settings = _settings(data)

    async def work(db: AsyncSession) -> str:
        account = await _found(db, email)
        until = now() + timedelta(days=days) if days else None
        given = {"name": name, "scopes": scopes, "expires_at": until}
        try:
            wanted = msgspec.convert(given, api_keys.Wanted)
            row, text = await api_keys.make_key(db, sealer(settings), account, wanted)
        except (PricePulseError, msgspec.ValidationError) as error:
            raise SettingsError(getattr(error, "detail", str(error))) from None
        _record(db, "api_key.create", account, key=row.id, scopes=" ".join(row.scopes))
        return text

    click.echo(_run(settings, work))


@user.command()
@data_flag
@click.option("--yes", is_flag=True, help="do not ask")
@click.argument("email")
def delete(email: str, yes: bool, data: str | None) -> None:
    """Delete the account of EMAIL and all that is held about it, for good: what its owner can do, too."""
    from pricepulse.accounts.deletion import remove
    from pricepulse.sealing import sealer
    from pricepulse.store import Store

    settings = _settings(data)
    if not yes:
        click.confirm(f"Delete {email} and all that is held about it?", abort=True)

    async def work(db: AsyncSession) -> None:
        account = await _found(db, email)
        store = Store(settings.database)
        try:
            await remove(db, store, sealer(settings), settings, account)
        finally:
            await store.close()
        _record(db, "account.delete", account)

    _run(settings, work)
    click.echo(f"{email} is deleted")


def has_admin(settings: Settings) -> bool:
    """Whether somebody may do everything."""
    from sqlalchemy import select

    from pricepulse.accounts.tables import Account
    from pricepulse.store import Database

    database = Database(settings.database)
    try:
        with database.begin(write=False) as db:
            query = select(Account.id).where(Account.role == "admin").limit(1)
            return db.scalar(query) is not None
    finally:
        database.close()


def _settings(data: str | None) -> Settings:
    from pricepulse import log, migrations

    settings = Settings.from_env(os.environ, data=data)
    log.configure(settings)
    if not settings.data.exists():
        # Not wrong before a first start, but mostly another folder than the server's.
        click.echo(f"made {settings.data}: --data names another folder", err=True)
    migrations.prepare(settings.database)
    return settings


def _run(settings: Settings, work: Callable[[AsyncSession], Awaitable[T]]) -> T:
    """One transaction, on the handlers' own store: the same code ends sessions here and there."""
    from pricepulse.store import Store

    async def run() -> T:
        store = Store(settings.database)
        try:
            async with store.begin(write=True) as db:
                return await work(db)
        finally:
            await store.close()

    return asyncio.run(run())


def _asked_password() -> str:
    if sys.stdin.isatty():
        given: str = click.prompt("Password", hide_input=True, confirmation_prompt=True)
        return given
    return sys.stdin.readline().rstrip("\r\n")


def _day(at: datetime | None) -> str:
    return f"{at:%Y-%m-%d}" if at else "-"


def _special(account: Account) -> str:
    return " ".join(
        word
        for word, holds in (
            ("disabled", account.disabled_at), ("second-factor", account.totp),
            ("no-password", not account.password_hash),
        )
        if holds
    )  # fmt: skip


async def _find(db: AsyncSession, key: str) -> Account | None:
    from sqlalchemy import select

    from pricepulse.accounts.tables import Account

    return await db.scalar(select(Account).where(Account.email_key == key).with_for_update())


async def _found(db: AsyncSession, email: str) -> Account:
    from pricepulse.accounts.addresses import Address
    from pricepulse.errors import UnprocessableError

    account = None
    with suppress(UnprocessableError):
        account = await _find(db, Address.from_text(email.strip()).key)
    if account is None:
        raise SettingsError(f"there is no account with the address {email}")
    return account


async def _end_sessions(db: AsyncSession, account: Account) -> None:
    from pricepulse.accounts import sessions
    from pricepulse.accounts.tables import Session

    await sessions.end(db, Session.account_id == account.id)


async def _end_second_factor(db: AsyncSession, account: Account) -> None:
    from sqlalchemy import delete

    from pricepulse.accounts.tables import RecoveryCode

    account.totp = account.totp_pending = None
    # It may be too short to stand alone; the link sets a new one.
    account.password_hash = ""
    await db.execute(delete(RecoveryCode).where(RecoveryCode.account_id == account.id))


def _record(db: AsyncSession, action: str, account: Account, **detail: Any) -> None:
    from pricepulse import audit

    audit.record(db, action, f"account:{account.id}", actor="command", **detail)
