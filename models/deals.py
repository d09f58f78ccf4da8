"""Deals: is the reduction real? Judged per offer against its own history; docs/definitions.md says
every rule in words, with the directive that it comes from (98/6/EC, article 6a, the "Omnibus" one)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from models.statistics import known_where, ratio, weighted_median
from models.timeline import DAY, NEVER, Flags, Ints, Timeline, known_rows, ordered

PRIOR_DAYS = 30  # article 6a (2): not shorter than 30 days prior to the application
LEAST_DISCOUNT = 0.03  # below it is noise
LEAST_KNOWN_BEFORE = 15 * DAY
USUAL_DAYS = 90
CHARGED_DAYS, CHARGED_LEAST_KNOWN = 180, 60 * DAY
CHARGED_FROM, HARDLY = 0.99, 0.1
RAISED = 1.01  # so close to what it usually was before that nothing came off
FULL_SIZE = 0.4  # a discount that counts in full
NEW_DAYS = 30
# So low and so new it is likelier an error, a slipped decimal point say, than a deal.
HARD_TO_BELIEVE, ERROR_DAYS = 0.2, 3
GROUNDS = {
    "hard_to_believe": "unproven",
    "list_price_not_charged": "inflated",
    "little_history": "unproven",
    "prior_price_no_higher": "inflated",
    "raised_before": "inflated",
    "below_prior_price": "genuine",
}


def deals(
    offers: pl.DataFrame, now: pl.DataFrame, usual: pl.DataFrame, best: pl.DataFrame
) -> pl.DataFrame:
    """One row per fresh offer with a reduction that is claimed or real, in their order.

    `offers`: their timeline with `product_id` and `list_price` (units of 1/10,000, 0 for none).
    `now`: their prices today (`timeline.current`). `usual`: `models.statistics` of the same. `best`:
    `offer_id` and the `best_price` today of its product, if that is in the offer's currency. Columns:
    `offer_id`; `product_id`; `verdict`; `ground`; `score`; units of 1/10,000: `price`,
    `list_price`, `prior_price`, `usual_price`, `usual_before`, `best_price`; `began` (seconds);
    `really_reduced`, `claimed_discount_ratio`, `real_discount_ratio`, `usual_discount_ratio`, `list_charged_ratio`,
    `no_dearer_ratio`, `prior_known_days`, `lowest_in_days`, `is_all_time_low`, `confidence`.
    """
    whole = Timeline.cut(offers, now)
    kept = known_rows(offers, now)
    listed = kept["list_price"].to_numpy()
    last = np.append(whole.first[1:], len(listed))[: len(whole.first)] - 1
    claims = listed > whole.price
    counted = 1 - ratio(whole.price, listed) >= LEAST_DISCOUNT
    claimed = np.where(whole.fresh & claims[last], 1 - ratio(whole.current, listed[last]), 0.0)
    big = claimed >= LEAST_DISCOUNT
    began_row = np.where(big, _claim_began(whole, claims & counted), _drop_began(whole))
    reduced = whole.fresh & (began_row >= 0)
    here = reduced[whole.of]
    part = whole.part(here)
    place = part.place
    case = _Case(part, whole.start[began_row[place]])
    found = pl.DataFrame(
        {
            "offer_id": part.ids,
            "product_id": kept["product_id"].to_numpy()[last[place]],
            "price": part.current,
            "list_price": known_where(listed[last[place]], claims[last[place]]),
            "claimed_discount_ratio": known_where(claimed[place], claims[last[place]]),
            "big": big[place],
            "began": case.began,
            "age": part.end - case.began,
            **case.prior(),
            **case.usual_before(),
            **case.charged(listed[last[place]]),
            **case.lowest(),
        }
    )
    return _judged(found, usual, best)


@dataclass(frozen=True)
class _Case:
    """The timelines of reduced offers, and per offer when its reduction began."""

    part: Timeline
    began: Ints

    def _seconds(self, days: int, until: Ints) -> Ints:
        """Of each row, for how long it held in the days before `until` (per series)."""
        part, end = self.part, until[self.part.of]
        held = np.minimum(part.until, end) - np.maximum(part.start, end - days * DAY)
        seconds: Ints = np.maximum(held, 0)
        return seconds

    def prior(self) -> dict[str, Any]:
        part = self.part
        seconds = self._seconds(PRIOR_DAYS, self.began)
        prior = part.least(np.where(seconds > 0, part.price, NEVER))
        return {
            "prior_price": known_where(prior, prior < NEVER),
            "prior_known_days": part.sum(seconds) / DAY,
        }

    def usual_before(self) -> dict[str, Any]:
        part = self.part
        seconds = self._seconds(USUAL_DAYS, self.began)
        total = part.sum(seconds)
        median = weighted_median(part.price, ordered(part.of, part.price), seconds, total)
        return {"usual_before": known_where(median, total > 0)}

    def charged(self, list_price: Ints) -> dict[str, Any]:
        """How much of the last half year somebody who paid the list price would have met it."""
        part = self.part
        seconds = self._seconds(CHARGED_DAYS, part.end)
        known = part.sum(seconds)
        paid = part.price >= CHARGED_FROM * list_price[part.of]
        share = ratio(part.sum(np.where(paid, seconds, 0)), known)
        return {
            "list_charged_ratio": known_where(share, (list_price > part.current) & (known > 0)),
            "charged_known": known,
        }

    def lowest(self) -> dict[str, Any]:
        part = self.part
        lower = part.price < part.current[part.of]
        until = -part.least(np.where(lower, -part.until, 0))
        ever = until == 0
        since = np.where(ever, part.begun, until)
        return {"lowest_in_days": (part.end - since) // DAY, "is_all_time_low": ever}


def _claim_began(whole: Timeline, claims: Flags) -> Ints:
    """Per series the row with which the reduction that is claimed now began; -1 where none is."""
    size = len(claims)
    rose = whole.changed & np.append(False, whole.price[1:] > whole.price[:-1])[:size]
    first = claims & (~whole.same | ~np.append(False, claims[:-1])[:size] | rose)
    step = np.flatnonzero(claims & (first | whole.changed))
    late = np.append(False, np.diff(whole.start[step]) > PRIOR_DAYS * DAY)[: len(step)]
    begins = step[first[step] | late]
    row = np.full(len(whole.ids), -1)
    row[whole.of[begins]] = begins  # of several assignments the last one stays
    return row


def _drop_began(whole: Timeline) -> Ints:
    """Per series the row of the first of the drops that led to today's price; -1 where the last
    change was a rise, or there was none."""
    change = np.flatnonzero(whole.changed)
    fell = whole.price[change] < whole.price[change - 1]
    of, start = whole.of[change], whole.start[change]
    goes_on = np.zeros(len(change), bool)
    goes_on[1:] = fell[:-1] & (of[1:] == of[:-1]) & (start[1:] - start[:-1] <= PRIOR_DAYS * DAY)
    row = np.full(len(whole.ids), -1)
    begins = fell & ~goes_on
    row[of[begins]] = change[begins]  # of several assignments the last one stays
    risen = np.zeros(len(whole.ids), bool)
    risen[of] = ~fell
    row[risen] = -1
    return row


def _judged(found: pl.DataFrame, usual: pl.DataFrame, best: pl.DataFrame) -> pl.DataFrame:
    found = (
        found.join(_of_window(usual, "90d", usual_price="median", confidence="confidence"),
                   on="offer_id", how="left", maintain_order="left")
        .join(_of_window(usual, "365d", no_dearer_ratio="no_dearer_ratio"),
              on="offer_id", how="left", maintain_order="left")
        .join(best, on="offer_id", how="left", maintain_order="left")
    )  # fmt: skip
    real = 1 - pl.col("price") / pl.col("prior_price")
    off_usual = 1 - pl.col("price") / pl.col("usual_price")
    found = found.with_columns(real_discount_ratio=real, usual_discount_ratio=off_usual)
    real = pl.col("real_discount_ratio")
    little = pl.col("prior_known_days") * DAY < LEAST_KNOWN_BEFORE
    no_higher = real < LEAST_DISCOUNT
    hardly = (pl.col("charged_known") >= CHARGED_LEAST_KNOWN) & (
        pl.col("list_charged_ratio") < HARDLY
    )
    raised = pl.col("usual_before") <= RAISED * pl.col("price")
    noise = pl.col("usual_discount_ratio") < LEAST_DISCOUNT
    claimed = pl.col("big")
    odd = (pl.col("price") < HARD_TO_BELIEVE * pl.col("usual_before")) & (
        pl.col("age") < ERROR_DAYS * DAY
    )
    odd = odd.fill_null(value=False)
    ground = (
        pl.when(odd).then(pl.lit("hard_to_believe"))
        .when(claimed & hardly).then(pl.lit("list_price_not_charged"))
        .when(~claimed & noise).then(None)
        .when(little).then(pl.lit("little_history"))
        .when(claimed & no_higher).then(pl.lit("prior_price_no_higher"))
        .when(~claimed & no_higher).then(None)
        .when(claimed & raised).then(pl.lit("raised_before"))
        .otherwise(pl.lit("below_prior_price"))
    )  # fmt: skip
    # What the price did, whatever is claimed of it: `inflated` speaks of the claim.
    really = pl.when(~little & ~odd).then(~no_higher & ~noise & ~raised)
    judged = found.with_columns(ground=ground, really_reduced=really).drop_nulls("ground")
    judged = judged.with_columns(verdict=pl.col("ground").replace_strict(GROUNDS), score=_score())
    return judged.drop("big", "age", "charged_known")


def _of_window(usual: pl.DataFrame, span: str, **columns: str) -> pl.DataFrame:
    return usual.filter(pl.col("span") == span).select(
        pl.col("series").alias("offer_id"),
        *(pl.col(old).alias(new) for new, old in columns.items()),
    )


def _score() -> pl.Expr:
    discount = pl.min_horizontal("real_discount_ratio", "usual_discount_ratio").fill_null(0)
    size = (discount / FULL_SIZE).clip(0, 1)
    rare = 1 - pl.col("no_dearer_ratio")
    new = (1 - pl.col("age") / (NEW_DAYS * DAY)).clip(0, 1)
    market = (pl.col("best_price") / pl.col("price")).fill_null(1).clip(0, 1)
    worth = 100 * pl.col("confidence") * market * (0.5 * size + 0.3 * rare + 0.2 * new)
    genuine = pl.col("ground") == "below_prior_price"
    none = (discount < LEAST_DISCOUNT) | (pl.col("ground") == "hard_to_believe")
    score = pl.when(none).then(0).otherwise(worth)
    # Python and DuckDB round 0.5 in different ways; half up is what people expect.
    return (pl.when(genuine).then(score).otherwise(score / 2) + 0.5).floor().cast(pl.Int64)
