-- What the prices mean: made from the spells by the functions in models/. A block a table, each after an
-- empty line: a build makes anew those whose rows it has.

CREATE OR REPLACE TABLE offer_stats (
    offer_id BIGINT, product_id BIGINT, span VARCHAR, currency VARCHAR, mean DECIMAL(18, 4),
    median DECIMAL(18, 4), min DECIMAL(18, 4), min_at TIMESTAMP, max DECIMAL(18, 4),
    max_at TIMESTAMP, cheaper_ratio DOUBLE, no_dearer_ratio DOUBLE, change_ratio DOUBLE,
    price_since TIMESTAMP, changes BIGINT, changes_per_month DOUBLE, median_spell_days DOUBLE,
    known_days DOUBLE, coverage_ratio DOUBLE, confidence DOUBLE
);
COMMENT ON TABLE offer_stats IS 'What each offer''s price usually is, per window: docs/definitions.md.';
COMMENT ON COLUMN offer_stats.offer_id IS 'The offer.';
COMMENT ON COLUMN offer_stats.product_id IS 'Its product.';
COMMENT ON COLUMN offer_stats.span IS 'The window: 30d, 90d, 365d or all, each until the end of what is known: docs/definitions.md.';
COMMENT ON COLUMN offer_stats.currency IS 'ISO 4217 code of the money here.';
COMMENT ON COLUMN offer_stats.mean IS 'Price weighted by the time for which it held.';
COMMENT ON COLUMN offer_stats.median IS 'The price not exceeded for half of the known time.';
COMMENT ON COLUMN offer_stats.min IS 'Lowest price that held within the window.';
COMMENT ON COLUMN offer_stats.min_at IS 'When the latest stretch of the lowest price began, UTC, at the earliest when the window does.';
COMMENT ON COLUMN offer_stats.max IS 'Highest price that held within the window.';
COMMENT ON COLUMN offer_stats.max_at IS 'When the latest stretch of the highest price began, UTC, at the earliest when the window does.';
COMMENT ON COLUMN offer_stats.cheaper_ratio IS 'Share of the known time in which the price was below today''s; NULL without a current price.';
COMMENT ON COLUMN offer_stats.no_dearer_ratio IS 'Likewise at or below today''s.';
COMMENT ON COLUMN offer_stats.change_ratio IS 'Today''s price / the price at the window''s begin - 1; NULL where either is unknown.';
COMMENT ON COLUMN offer_stats.price_since IS 'Since when the price is what it is today, UTC; NULL without a current price.';
COMMENT ON COLUMN offer_stats.changes IS 'Price changes within the window.';
COMMENT ON COLUMN offer_stats.changes_per_month IS 'Changes per 30.4375 days of known time.';
COMMENT ON COLUMN offer_stats.median_spell_days IS 'Median length of the stretches of one price that reach into the window.';
COMMENT ON COLUMN offer_stats.known_days IS 'For how long a price that could be paid is known.';
COMMENT ON COLUMN offer_stats.coverage_ratio IS 'known_days / length of the window.';
COMMENT ON COLUMN offer_stats.confidence IS 'Coverage, less where less than 30 days are known.';

CREATE OR REPLACE TABLE product_stats (
    product_id BIGINT, span VARCHAR, currency VARCHAR, mean DECIMAL(18, 4), median DECIMAL(18, 4),
    min DECIMAL(18, 4), min_at TIMESTAMP, min_offer_id BIGINT, max DECIMAL(18, 4), max_at TIMESTAMP,
    max_offer_id BIGINT, cheaper_ratio DOUBLE, no_dearer_ratio DOUBLE, change_ratio DOUBLE,
    price_since TIMESTAMP, changes BIGINT, changes_per_month DOUBLE, median_spell_days DOUBLE,
    known_days DOUBLE, coverage_ratio DOUBLE, confidence DOUBLE
);
COMMENT ON TABLE product_stats IS 'Likewise of each product''s lowest price over time among its new offers.';
COMMENT ON COLUMN product_stats.product_id IS 'The product.';
COMMENT ON COLUMN product_stats.span IS 'The window: 30d, 90d, 365d or all, each until the end of what is known: docs/definitions.md.';
COMMENT ON COLUMN product_stats.currency IS 'ISO 4217 code of the money here.';
COMMENT ON COLUMN product_stats.mean IS 'Price weighted by the time for which it held.';
COMMENT ON COLUMN product_stats.median IS 'The price not exceeded for half of the known time.';
COMMENT ON COLUMN product_stats.min IS 'Lowest price that held within the window.';
COMMENT ON COLUMN product_stats.min_at IS 'When the latest stretch of the lowest price began, UTC, at the earliest when the window does.';
COMMENT ON COLUMN product_stats.min_offer_id IS 'At which offer.';
COMMENT ON COLUMN product_stats.max IS 'Highest price that held within the window.';
COMMENT ON COLUMN product_stats.max_at IS 'When the latest stretch of the highest price began, UTC, at the earliest when the window does.';
COMMENT ON COLUMN product_stats.max_offer_id IS 'At which offer.';
COMMENT ON COLUMN product_stats.cheaper_ratio IS 'Share of the known time in which the price was below today''s; NULL without a current price.';
COMMENT ON COLUMN product_stats.no_dearer_ratio IS 'Likewise at or below today''s.';
COMMENT ON COLUMN product_stats.change_ratio IS 'Today''s price / the price at the window''s begin - 1; NULL where either is unknown.';
COMMENT ON COLUMN product_stats.price_since IS 'Since when the price is what it is today, UTC; NULL without a current price.';
COMMENT ON COLUMN product_stats.changes IS 'Price changes within the window.';
COMMENT ON COLUMN product_stats.changes_per_month IS 'Changes per 30.4375 days of known time.';
COMMENT ON COLUMN product_stats.median_spell_days IS 'Median length of the stretches of one price that reach into the window.';
COMMENT ON COLUMN product_stats.known_days IS 'For how long a price that could be paid is known.';
COMMENT ON COLUMN product_stats.coverage_ratio IS 'known_days / length of the window.';
COMMENT ON COLUMN product_stats.confidence IS 'Coverage, less where less than 30 days are known.';

CREATE OR REPLACE TABLE best_price (
    product_id BIGINT, offer_id BIGINT, start_at TIMESTAMP, until_at TIMESTAMP,
    price DECIMAL(18, 4), currency VARCHAR
);
COMMENT ON TABLE best_price IS 'Each product''s lowest price over time that could be paid: the timeline behind product_stats.';
COMMENT ON COLUMN best_price.product_id IS 'The product.';
COMMENT ON COLUMN best_price.offer_id IS 'Where it was.';
COMMENT ON COLUMN best_price.start_at IS 'From when it held, UTC.';
COMMENT ON COLUMN best_price.until_at IS 'Until when, UTC; after build.as_of where the offer was seen lately, as far as that look vouches for it.';
COMMENT ON COLUMN best_price.price IS 'The price.';
COMMENT ON COLUMN best_price.currency IS 'ISO 4217 code: product.currency.';

CREATE OR REPLACE TABLE product_signal (
    product_id BIGINT, best_retailer VARCHAR, change_30d_ratio DOUBLE, score BIGINT,
    cheaper_ratio DOUBLE, no_dearer_ratio DOUBLE, year_confidence DOUBLE,
    ends_at TIMESTAMP, inferred_quantity DECIMAL(18, 4), inferred_unit VARCHAR
);
COMMENT ON TABLE product_signal IS 'What a list of products says beside the price; one row per product.';
COMMENT ON COLUMN product_signal.product_id IS 'The product.';
COMMENT ON COLUMN product_signal.best_retailer IS 'The shop of product.best_offer_id.';
COMMENT ON COLUMN product_signal.change_30d_ratio IS 'Best price now / 30 days before ends_at - 1; NULL where either is unknown.';
COMMENT ON COLUMN product_signal.score IS 'deal.score of product.best_offer_id; NULL where that is no genuine deal, or there is none.';
COMMENT ON COLUMN product_signal.cheaper_ratio IS 'product_stats.cheaper_ratio of 365 days.';
COMMENT ON COLUMN product_signal.no_dearer_ratio IS 'product_stats.no_dearer_ratio of 365 days.';
COMMENT ON COLUMN product_signal.year_confidence IS 'product_stats.confidence of 365 days.';
COMMENT ON COLUMN product_signal.ends_at IS 'Where the windows of the product end, UTC: when anything last became known of it, or unknown; docs/definitions.md.';
COMMENT ON COLUMN product_signal.inferred_quantity IS 'How much is in it, read from the title where no feed says it; in inferred_unit.';
COMMENT ON COLUMN product_signal.inferred_unit IS 'g, kg, ml, l or pcs.';

CREATE OR REPLACE TABLE deal (
    offer_id BIGINT, product_id BIGINT, verdict VARCHAR, ground VARCHAR, score BIGINT,
    currency VARCHAR, price DECIMAL(18, 4), list_price DECIMAL(18, 4), prior_price DECIMAL(18, 4),
    usual_price DECIMAL(18, 4), usual_before DECIMAL(18, 4), best_price DECIMAL(18, 4),
    began_at TIMESTAMP, really_reduced BOOLEAN, claimed_discount_ratio DOUBLE, real_discount_ratio DOUBLE,
    usual_discount_ratio DOUBLE, list_charged_ratio DOUBLE, prior_known_days DOUBLE,
    lowest_in_days BIGINT, is_all_time_low BOOLEAN, no_dearer_ratio DOUBLE, confidence DOUBLE,
    retailer VARCHAR, category_slug VARCHAR, brand_slug VARCHAR
);
COMMENT ON TABLE deal IS 'Offers whose price is reduced, or claimed to be, and what to think of it: docs/definitions.md.';
COMMENT ON COLUMN deal.offer_id IS 'The offer.';
COMMENT ON COLUMN deal.product_id IS 'Its product.';
COMMENT ON COLUMN deal.verdict IS 'What to think of the reduction as it is announced: genuine, inflated or unproven.';
COMMENT ON COLUMN deal.ground IS 'Why: below_prior_price, list_price_not_charged, prior_price_no_higher, raised_before, little_history, hard_to_believe.';
COMMENT ON COLUMN deal.score IS '0 to 100: how good, how rare, how new, how sure.';
COMMENT ON COLUMN deal.currency IS 'ISO 4217 code of the money here.';
COMMENT ON COLUMN deal.price IS 'Price now.';
COMMENT ON COLUMN deal.list_price IS 'The "was" price that the shop claims.';
COMMENT ON COLUMN deal.prior_price IS 'Lowest price in the 30 days before the reduction began (Directive 98/6/EC, article 6a).';
COMMENT ON COLUMN deal.usual_price IS 'Time-weighted median of the last 90 days.';
COMMENT ON COLUMN deal.usual_before IS 'Likewise of the 90 days before the reduction began.';
COMMENT ON COLUMN deal.best_price IS 'The product''s best price now, at whichever shop.';
COMMENT ON COLUMN deal.began_at IS 'When the reduction began, UTC.';
COMMENT ON COLUMN deal.really_reduced IS 'Whether the price came down, whatever the shop claims: well below both prior and usual price; NULL where too little is known.';
COMMENT ON COLUMN deal.claimed_discount_ratio IS '1 - price / list_price.';
COMMENT ON COLUMN deal.real_discount_ratio IS '1 - price / prior_price; negative where it costs more than before.';
COMMENT ON COLUMN deal.usual_discount_ratio IS '1 - price / usual_price.';
COMMENT ON COLUMN deal.list_charged_ratio IS 'Share of the known time of the last 180 days in which at least 99 % of the list price was charged.';
COMMENT ON COLUMN deal.prior_known_days IS 'How much of the 30 days before the reduction is known.';
COMMENT ON COLUMN deal.lowest_in_days IS 'Days from when a lower price stopped holding, or the first observation, to the end of what is known.';
COMMENT ON COLUMN deal.is_all_time_low IS 'No lower price is known at all.';
COMMENT ON COLUMN deal.no_dearer_ratio IS 'Share of the known time of the last 365 days in which the price was at or below today''s.';
COMMENT ON COLUMN deal.confidence IS 'How much of the last 90 days is known.';
COMMENT ON COLUMN deal.retailer IS 'The shop.';
COMMENT ON COLUMN deal.category_slug IS 'product.category_slug.';
COMMENT ON COLUMN deal.brand_slug IS 'product.brand_slug.';

CREATE OR REPLACE TABLE price_move (
    offer_id BIGINT, product_id BIGINT, price DECIMAL(18, 4), price_before DECIMAL(18, 4),
    currency VARCHAR, changed_at TIMESTAMP, before_seen_at TIMESTAMP, change_ratio DOUBLE,
    verdict VARCHAR, retailer VARCHAR, category_slug VARCHAR, brand_slug VARCHAR
);
COMMENT ON TABLE price_move IS 'The last change of price of each offer that can be bought now.';
COMMENT ON COLUMN price_move.offer_id IS 'The offer.';
COMMENT ON COLUMN price_move.product_id IS 'Its product.';
COMMENT ON COLUMN price_move.price IS 'What it became, and is.';
COMMENT ON COLUMN price_move.price_before IS 'What it was before.';
COMMENT ON COLUMN price_move.currency IS 'ISO 4217 code of both.';
COMMENT ON COLUMN price_move.changed_at IS 'First observation of the price, UTC.';
COMMENT ON COLUMN price_move.before_seen_at IS 'Last observation of the price before, UTC: it changed between the two.';
COMMENT ON COLUMN price_move.change_ratio IS 'price / price_before - 1: -0.25 is a quarter off.';
COMMENT ON COLUMN price_move.verdict IS 'deal.verdict of the offer; NULL where it is no reduction.';
COMMENT ON COLUMN price_move.retailer IS 'The shop.';
COMMENT ON COLUMN price_move.category_slug IS 'product.category_slug.';
COMMENT ON COLUMN price_move.brand_slug IS 'product.brand_slug.';

CREATE OR REPLACE TABLE category_index (
    category_slug VARCHAR, currency VARCHAR, week TIMESTAMP, index DOUBLE, products BIGINT,
    entered BIGINT, left_out BIGINT
);
COMMENT ON TABLE category_index IS 'Price index of each category at every level, and of all (slug empty): weekly, matched-model, chained Jevons.';
COMMENT ON COLUMN category_index.category_slug IS 'category.slug; empty for all products.';
COMMENT ON COLUMN category_index.currency IS 'ISO 4217 code of the prices behind it.';
COMMENT ON COLUMN category_index.week IS 'Monday 00:00 UTC on which the week began.';
COMMENT ON COLUMN category_index.index IS '100 in the first week of the category.';
COMMENT ON COLUMN category_index.products IS 'Matched products behind the link from the week before; 0 in the first.';
COMMENT ON COLUMN category_index.entered IS 'Products seen for the first time.';
COMMENT ON COLUMN category_index.left_out IS 'Products known the week before and not in this one.';

CREATE OR REPLACE TABLE market (
    category_slug VARCHAR, retailer VARCHAR, currency VARCHAR, offers BIGINT,
    promotion_ratio DOUBLE, list_price_ratio DOUBLE, changes_per_month DOUBLE,
    median_spell_days DOUBLE, spells BIGINT, spread_ratio DOUBLE, variation_ratio DOUBLE,
    price_position_ratio DOUBLE, cheapest_ratio DOUBLE, compared BIGINT
);
COMMENT ON TABLE market IS 'What a market is like, by category and retailer; empty is all: docs/definitions.md.';
COMMENT ON COLUMN market.category_slug IS 'category.slug; empty for all products.';
COMMENT ON COLUMN market.retailer IS 'The shop; empty for all.';
COMMENT ON COLUMN market.currency IS 'ISO 4217 code; only its offers count.';
COMMENT ON COLUMN market.offers IS 'Offers with a current price.';
COMMENT ON COLUMN market.promotion_ratio IS 'Of them, those below their usual price (median of 90 days).';
COMMENT ON COLUMN market.list_price_ratio IS 'Of them, those whose shop claims a list price above the price.';
COMMENT ON COLUMN market.changes_per_month IS 'Price changes of an offer per 30.4375 days of known time, last 90 days.';
COMMENT ON COLUMN market.median_spell_days IS 'Median days from one price change to the next, last 365 days.';
COMMENT ON COLUMN market.spells IS 'Spells behind that median.';
COMMENT ON COLUMN market.spread_ratio IS 'Median over products of (dearest - cheapest) / cheapest shop; for all retailers only.';
COMMENT ON COLUMN market.variation_ratio IS 'Median over products of the coefficient of variation between shops; likewise.';
COMMENT ON COLUMN market.price_position_ratio IS 'Geometric mean of its prices over the median of the other shops''; 0.97 is 3 % below. For one retailer only.';
COMMENT ON COLUMN market.cheapest_ratio IS 'Share of the compared products at which it is cheapest; likewise.';
COMMENT ON COLUMN market.compared IS 'Products that other shops sell, too.';

CREATE OR REPLACE TABLE trend (
    product_id BIGINT, days BIGINT, change_per_30d_ratio DOUBLE, strength DOUBLE, direction VARCHAR,
    points BIGINT
);
COMMENT ON TABLE trend IS 'Direction of each product''s best price.';
COMMENT ON COLUMN trend.product_id IS 'The product.';
COMMENT ON COLUMN trend.days IS 'Over the last 90 or 365 days.';
COMMENT ON COLUMN trend.change_per_30d_ratio IS 'Theil-Sen slope: 0.012 is 1.2 % dearer every 30 days; NULL with too few points.';
COMMENT ON COLUMN trend.strength IS 'Kendall''s tau-b, -1 to 1.';
COMMENT ON COLUMN trend.direction IS 'rising, falling or flat.';
COMMENT ON COLUMN trend.points IS 'Weekly (365 days: fortnightly) prices known.';

CREATE OR REPLACE TABLE category_trend (
    category_slug VARCHAR, currency VARCHAR, days BIGINT, change_per_30d_ratio DOUBLE,
    strength DOUBLE, direction VARCHAR, points BIGINT
);
COMMENT ON TABLE category_trend IS 'Likewise of each category''s index.';
COMMENT ON COLUMN category_trend.category_slug IS 'category.slug; empty for all products.';
COMMENT ON COLUMN category_trend.currency IS 'ISO 4217 code.';
COMMENT ON COLUMN category_trend.days IS 'Over the last 90 or 365 days.';
COMMENT ON COLUMN category_trend.change_per_30d_ratio IS 'Theil-Sen slope: 0.012 is 1.2 % dearer every 30 days; NULL with too few points.';
COMMENT ON COLUMN category_trend.strength IS 'Kendall''s tau-b, -1 to 1.';
COMMENT ON COLUMN category_trend.direction IS 'rising, falling or flat.';
COMMENT ON COLUMN category_trend.points IS 'Weeks known.';

CREATE OR REPLACE TABLE seasonality (
    category_slug VARCHAR, currency VARCHAR, cycle VARCHAR, place BIGINT, effect_ratio DOUBLE,
    drop_ratio DOUBLE, agreement_ratio DOUBLE, observations BIGINT, series BIGINT
);
COMMENT ON TABLE seasonality IS 'Weekdays and months on which prices differ, where the history bears it.';
COMMENT ON COLUMN seasonality.category_slug IS 'category.slug; empty for all products.';
COMMENT ON COLUMN seasonality.currency IS 'ISO 4217 code.';
COMMENT ON COLUMN seasonality.cycle IS 'weekday or month.';
COMMENT ON COLUMN seasonality.place IS '0 is Monday (UTC), 1 is January.';
COMMENT ON COLUMN seasonality.effect_ratio IS 'Price there over the mean of its week or year: 0.98 is 2 % cheaper.';
COMMENT ON COLUMN seasonality.drop_ratio IS 'Share of the price drops that happen on this weekday; NULL for months.';
COMMENT ON COLUMN seasonality.agreement_ratio IS 'Share of the years on the same side of 1 as effect_ratio; NULL for weekdays. Below 1 it is hardly a season.';
COMMENT ON COLUMN seasonality.observations IS 'Weeks of a product, or years, behind it.';
COMMENT ON COLUMN seasonality.series IS 'Products behind it.';

CREATE OR REPLACE TABLE lead_follow (
    leader VARCHAR, follower VARCHAR, currency VARCHAR, products BIGINT, changes BIGINT,
    together BIGINT, followed BIGINT, followed_ratio DOUBLE, chance_ratio DOUBLE, lead_ratio DOUBLE,
    median_lag_days DOUBLE
);
COMMENT ON TABLE lead_follow IS 'Which retailer moves its prices first.';
COMMENT ON COLUMN lead_follow.leader IS 'The shop whose changes are looked at.';
COMMENT ON COLUMN lead_follow.follower IS 'The other one.';
COMMENT ON COLUMN lead_follow.currency IS 'ISO 4217 code.';
COMMENT ON COLUMN lead_follow.products IS 'Products that both sell.';
COMMENT ON COLUMN lead_follow.changes IS 'Changes of the leader''s prices, last 365 days.';
COMMENT ON COLUMN lead_follow.together IS 'Of them, those on a day on which the follower moved the same way.';
COMMENT ON COLUMN lead_follow.followed IS 'Those that it followed 1 to 7 days later.';
COMMENT ON COLUMN lead_follow.followed_ratio IS 'followed / (changes - together).';
COMMENT ON COLUMN lead_follow.chance_ratio IS 'What that would be without any connection.';
COMMENT ON COLUMN lead_follow.lead_ratio IS 'followed_ratio / chance_ratio; 1 is chance.';
COMMENT ON COLUMN lead_follow.median_lag_days IS 'Median days until it followed.';

CREATE OR REPLACE TABLE anomaly (
    offer_id BIGINT, product_id BIGINT, kind VARCHAR, began_at TIMESTAMP, until_at TIMESTAMP,
    price DECIMAL(18, 4), currency VARCHAR, expected_low DECIMAL(18, 4),
    expected_high DECIMAL(18, 4), severity DOUBLE, cause VARCHAR, retailer VARCHAR,
    category_slug VARCHAR, brand_slug VARCHAR
);
COMMENT ON TABLE anomaly IS 'What a shopper or an operator should look at in the histories: docs/definitions.md.';
COMMENT ON COLUMN anomaly.offer_id IS 'The offer.';
COMMENT ON COLUMN anomaly.product_id IS 'Its product.';
COMMENT ON COLUMN anomaly.kind IS 'spike, level_shift, suspected_error or stale.';
COMMENT ON COLUMN anomaly.began_at IS 'When it began, UTC; of a stale offer, when it was no longer vouched for.';
COMMENT ON COLUMN anomaly.until_at IS 'Until when, UTC; build.as_of''s day where it lasts.';
COMMENT ON COLUMN anomaly.price IS 'The price that is odd, or was last seen.';
COMMENT ON COLUMN anomaly.currency IS 'ISO 4217 code.';
COMMENT ON COLUMN anomaly.expected_low IS 'Prices from here would have been no surprise; NULL for stale.';
COMMENT ON COLUMN anomaly.expected_high IS 'Prices up to here would have been no surprise; NULL for stale.';
COMMENT ON COLUMN anomaly.severity IS '0 to 1: by which part it is beyond what was expected; 0.5 is twice or half of it.';
COMMENT ON COLUMN anomaly.cause IS 'Of a suspected error, a guess: decimal_slip, unit_or_instalment_price, wrong_currency.';
COMMENT ON COLUMN anomaly.retailer IS 'The shop.';
COMMENT ON COLUMN anomaly.category_slug IS 'product.category_slug.';
COMMENT ON COLUMN anomaly.brand_slug IS 'product.brand_slug.';
