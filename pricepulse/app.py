"""create_app(settings): routes, the edge around them, and what lives as long as the server."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from litestar import Litestar, Router
from litestar.types import ControllerRouterHandler

from pricepulse import (
    access,
    catalog,
    charts,
    deals,
    docs,
    health,
    ingest,
    insights,
    market,
    migrations,
    neighbours,
    openapi,
    pictures,
    prices,
    product_images,
    product_page,
    statistics,
    store,
)
from pricepulse.accounts import (
    api_keys,
    avatar,
    dashboard,
    deletion,
    export,
    favorites,
    followed,
    link_page,
    me,
    oauth,
    oidc,
    outward,
    own_identities,
    preferences,
    registration,
    second_factor,
    signin,
)
from pricepulse.accounts.gate import Gate
from pricepulse.accounts.passwords import Hasher
from pricepulse.answer import Answers, Json
from pricepulse.contract import Contracts, checker, read_contracts
from pricepulse.edge import Edge
from pricepulse.errors import problem_response
from pricepulse.sealing import sealer
from pricepulse.settings import Settings
from pricepulse.shared_counters import InDatabase
from warehouse.connection import Reader

BASE = "/api/v1"
LOOK_SECONDS = 0.1  # how soon a new build is seen: the promise is one second for all workers
RELEASE = version("pricepulse")
# The domains' handlers, below /api/v1.
ROUTES: tuple[ControllerRouterHandler, ...] = (
    *catalog.ROUTES,
    *product_page.ROUTES,
    *product_images.ROUTES,
    prices.get_history,
    statistics.get_statistics,
    *charts.ROUTES,
    *deals.ROUTES,
    *insights.ROUTES,
    *market.ROUTES,
    *neighbours.ROUTES,
    *ingest.ROUTES,
    *registration.ROUTES,
    *signin.ROUTES,
    *me.ROUTES,
    *second_factor.ROUTES,
    *api_keys.ROUTES,
    *preferences.ROUTES,
    *favorites.ROUTES,
    *followed.ROUTES,
    *dashboard.ROUTES,
    *avatar.ROUTES,
    *deletion.ROUTES,
    *export.ROUTES,
    *oauth.ROUTES,
    *own_identities.ROUTES,
)

# What uvicorn must be started with. It would believe X-Forwarded-For from 127.0.0.1 by itself and
# log queries with the tokens in them; the edge does both, with the settings.
UVICORN: dict[str, Any] = {
    "loop": "uvloop",
    "http": "httptools",
    "lifespan": "on",
    "proxy_headers": False,
    "server_header": False,
    "access_log": False,
    "log_config": None,
}
log = logging.getLogger("pricepulse")


class PricePulse(Litestar):
    """Litestar with the edge outermost: its own middleware never sees a 404 or a 405."""

    edge: Edge

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            scope["app"] = scope["litestar_app"] = self
            scope.setdefault("state", {})
            await self.edge(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)


class AllMethods(Router):
    """Litestar answers OPTIONS with the methods that a path had when the first of its handlers was
    registered. Not shown that answer, it makes a new one for all of them."""

    @property
    def route_handler_method_map(self) -> dict[str, Any]:
        found = super().route_handler_method_map
        return {
            path: {name: each for name, each in handlers.items() if name != "OPTIONS"}
            for path, handlers in found.items()
        }


def create_app(
    settings: Settings,
    *,
    routes: Sequence[ControllerRouterHandler] = ROUTES,
    warehouse: Reader | None = None,
    on_startup: Sequence[Callable[..., Any]] = (),
    on_shutdown: Sequence[Callable[..., Any]] = (),
) -> Litestar:
    """The ASGI application. `warehouse`: a reader to use instead of one on `settings.data`."""
    contracts: Contracts = {}
    app = PricePulse(
        [
            AllMethods(BASE, route_handlers=list(routes)),
            openapi.route(RELEASE),
            docs.root,
            docs.docs,
            docs.docs_file,
            health.live,
            health.ready,
            health.problem_type,
            link_page.link_page,
            link_page.sign_in_page,
        ],
        before_request=checker(contracts, RELEASE),
        exception_handlers={Exception: problem_response},
        response_class=Json,
        openapi_config=openapi.config(RELEASE),
        plugins=[openapi.MoneyIsANumber()],
        lifespan=[_people, _providers, partial(_read_builds, settings=settings, reader=warehouse)],
        dependencies=store.DEPENDENCIES,
        on_startup=list(on_startup),
        on_shutdown=list(on_shutdown),
        request_max_body_size=1 << 20,
        logging_config=None,
    )
    app.state["settings"] = settings
    app.state["warehouse"] = warehouse
    app.state["store"] = store.Store(settings.database)
    app.state["hasher"] = Hasher()
    app.state["answers"] = Answers(settings.answer_cache_mb << 20)
    # Threads that wait for processes that draw charts or encode pictures, started at the first one;
    # two keep both cores of a small machine busy.
    app.state["drawing"] = ThreadPoolExecutor(2, "chart")
    app.state["pictures"] = asyncio.Semaphore(pictures.MOST_AT_ONCE)
    app.state["intake"] = intake = ingest.Intake(settings)
    app.state["readiness"] = health.Readiness(settings.data, intake, app.state["store"])
    read_contracts(app, contracts)
    access.entries(app)  # raises for a handler that does not say who may call it
    app.edge = Edge(app.asgi_handler, settings)
    app.state["counters"] = app.edge.counters
    return app


@asynccontextmanager
async def _people(app: Any) -> AsyncIterator[None]:
    """The transactional store with the schema of this release."""
    settings: Settings = app.state["settings"]
    await asyncio.to_thread(migrations.prepare, settings.database)
    database: store.Store = app.state["store"]
    app.state["sealer"] = sealed = await asyncio.to_thread(sealer, settings)
    if settings.rate_limit_store == "database":
        app.state["counters"] = app.edge.counters = InDatabase(database, sealed)
    app.state["gate"] = gate = Gate(database, sealed, settings.public_url)
    await gate.open()
    try:
        async with _beside(gate.follow()):
            yield
    finally:
        await database.close()


@asynccontextmanager
async def _providers(app: Litestar) -> AsyncIterator[None]:
    """Connections to those whom people may sign in with."""
    settings: Settings = app.state["settings"]
    async with outward.new_client() as client:
        app.state["providers"] = {
            each.name: oidc.connect(each, client) for each in settings.providers
        }
        yield


@asynccontextmanager
async def _read_builds(
    app: Litestar, *, settings: Settings, reader: Reader | None
) -> AsyncIterator[None]:
    """Keeps `app.state.warehouse` on the newest build while the server runs."""
    if reader is not None:
        yield
        return
    app.state["warehouse"] = reader = Reader(settings.data)
    with log_failure():
        await asyncio.to_thread(reader.refresh)
    try:
        async with _beside(_follow(reader, settings.data / "warehouse.duckdb")):
            yield
    finally:
        await asyncio.to_thread(reader.close)


@asynccontextmanager
async def _beside(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Runs the work until the block ends."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@contextmanager
def log_failure() -> Iterator[None]:
    """The build in service stays; the link is looked at again in a moment. Whatever a broken
    build raises (DuckDB, Arrow, tantivy), the task that would find its heir must not end."""
    try:
        yield
    except Exception:
        log.exception("the newest build could not be opened")


async def _follow(reader: Reader, link: Path) -> None:
    """Looks where the link points (5 µs) and opens a new build beside the one in service."""
    seen: Path | None = None
    while True:
        target = _target(link)
        if target != seen:
            with log_failure():
                await asyncio.to_thread(reader.refresh)
                seen = target
        await asyncio.sleep(LOOK_SECONDS)


def _target(link: Path) -> Path | None:
    try:
        return link.readlink()
    except OSError:
        return None
