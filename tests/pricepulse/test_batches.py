"""What is told of batches: their rows set aside, when they show, what beat them, suspects."""

from typing import Any

import pytest

from tests.intake import BATCHES, Intake, csv, row, until
from tests.served import KEY_HEADER, problem


@pytest.mark.parametrize("tail", ["", "/rejected"])
@pytest.mark.parametrize(
    "batch_id",
    ["1", "0", "-1", "1e3", "x", "99999999999999999999", "9999999999999999999", "9223372036854775807",
     "٣", "%00", "9" * 5000],
)  # fmt: skip
def test_unknown_batches(intake: Intake, batch_id: str, tail: str) -> None:
    told = problem(intake.client.get(f"{BATCHES}/{batch_id}{tail}", headers=KEY_HEADER), 404)
    assert told["detail"] == "there is no such batch; /api/v1/ingest/batches lists them"


def walk(intake: Intake, address: str, limit: int) -> list[Any]:
    page = intake.get(address, limit=limit)
    items = page["items"]
    while page["next_cursor"]:
        page = intake.get(address, limit=limit, cursor=page["next_cursor"])
        items += page["items"]
    return list(items)


def test_rejected_rows_and_batches_come_in_pages(intake: Intake) -> None:
    faults = [row("p", "x") if i % 3 else row("p", "1", "never") for i in range(250)]
    batch_id = intake.post(csv(*faults)).json()["batch_id"]
    address = f"{BATCHES}/{batch_id}/rejected"
    found = walk(intake, address, 200)
    assert [each["line"] for each in found] == list(range(2, 252))
    assert {each["rule"] for each in found} == {"not_a_number", "time_unreadable"}
    for limit in (49, 125):
        assert walk(intake, address, limit) == found
    for sku in ("p1", "p2"):
        intake.post(csv(row(sku)))
    batches = walk(intake, BATCHES, 200)
    assert len({each["batch_id"] for each in batches}) == len(batches) > 2
    assert [b["received_at"] for b in batches] == sorted(
        (b["received_at"] for b in batches), reverse=True
    )
    assert walk(intake, BATCHES, 2) == batches
    cursor = intake.get(BATCHES, limit=1)["next_cursor"]
    answer = intake.client.get(address, params={"cursor": cursor}, headers=KEY_HEADER)
    assert problem(answer, 400)["errors"][0]["pointer"] == "/query/cursor"


def test_a_batch_becomes_visible_with_a_build(intake: Intake) -> None:
    told = intake.post(csv(row("seen-1", "3.50"))).json()
    address = f"{BATCHES}/{told['batch_id']}"
    lookup = "/api/v1/products/lookup?retailer=shop&sku=seen-1"
    assert told["status"] == intake.get(address)["status"] == "stored"
    problem(intake.client.get(lookup), 404)
    intake.pipeline.build()
    until(lambda: intake.get(address)["status"] == "visible", "the batch stays invisible")
    assert intake.get(address) == told | {"status": "visible"}
    assert intake.client.get(lookup).json()["offers"][0]["price"] == 3.5
    again = intake.post(csv(row("seen-1", "3.50"))).json()
    assert again == told | {"status": "visible", "duplicate": True}


def test_a_price_that_a_later_batch_beats_is_reported(intake: Intake) -> None:
    loser = intake.post(csv(row("two", "5"), row("two-b", "x"), row("two-c", "7"))).json()[
        "batch_id"
    ]
    winner = intake.post(csv(row("two", "6"), row("two-c", "8"))).json()["batch_id"]
    address = f"{BATCHES}/{loser}"
    own = [{"line": 3, "field": "price", "rule": "not_a_number", "value": "x", "kept": False}]
    assert intake.get(f"{address}/rejected")["items"] == own
    assert intake.get(address)["superseded"] == 0
    intake.pipeline.build()
    until(lambda: intake.get(address)["superseded"] == 2, "the build does not report it")
    rule = {"field": "price", "rule": "two_prices_one_instant", "kept": False}
    expected = [*own, {"line": 2, "value": "5.0000"} | rule, {"line": 4, "value": "7.0000"} | rule]
    assert intake.get(f"{address}/rejected")["items"] == expected
    for limit in (1, 2, 3):
        assert walk(intake, f"{address}/rejected", limit) == expected
    assert intake.get(f"{BATCHES}/{winner}/rejected")["items"] == []
    assert intake.get(f"{BATCHES}/{winner}")["superseded"] == 0


def test_suspects_wait_for_a_confirmation(intake: Intake) -> None:
    def suspects() -> list[Any]:
        found = walk(intake, "/api/v1/ingest/suspects", 1)
        return [each for each in found if each["sku"] == "odd"]

    good = intake.post(csv(row("odd", "10"))).json()
    high = "2026-05-02T10:00:00Z"
    odd = intake.post(csv(row("other"), row("odd", "100.0001", high))).json()
    intake.pipeline.build()
    until(lambda: bool(suspects()), "the build set nothing aside")
    page = intake.client.get("/api/v1/products/lookup?retailer=shop&sku=odd").json()
    assert page["offers"][0]["price"] == 10
    (found,) = suspects()
    assert found == {
        "offer_id": page["offers"][0]["offer_id"],
        "product_id": page["product_id"],
        "retailer": "shop",
        "sku": "odd",
        "observed_at": high,
        "price": 100.0001,
        "currency": "EUR",
        "open": True,
        "batch_id": odd["batch_id"],
        "line": 3,
    }
    assert good["batch_id"] != odd["batch_id"]
    intake.post(csv(row("odd", "110", "2026-05-02T11:00:00Z")))
    intake.pipeline.build()
    until(lambda: not suspects(), "a confirmed price is still a suspect")
    page = intake.client.get("/api/v1/products/lookup?retailer=shop&sku=odd").json()
    assert page["offers"][0]["price"] == 110
