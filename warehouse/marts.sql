-- What the prices mean: made anew by every build from the spells, by the functions in models/.

CREATE OR REPLACE TABLE offer_stats (
    offer_id BIGINT, product_id BIGINT, span VARCHAR, currency VARCHAR, mean DECIMAL(18, 4), median
    DECIMAL(18, 4), min DECIMAL(18, 4), min_at TIMESTAMP, max DECIMAL(18, 4), max_at TIMESTAMP,
    cheaper_ratio DOUBLE, no_dearer_ratio DOUBLE, change_ratio DOUBLE,
    price_since TIMESTAMP, changes BIGINT, changes_per_month DOUBLE, median_spell_days DOUBLE, known_days DOUBLE, coverage_ratio DOUBLE,
    confidence DOUBLE
);
COMMENT ON TABLE offer_stats IS 'What each offer''s price usually is, per window: docs/definitions.md.';
COMMENT ON COLUMN offer_stats.offer_id IS 'The offer.';
COMMENT ON COLUMN offer_stats.product_id IS 'Its product.';
COMMENT ON COLUMN offer_stats.span IS 'The window: 30d, 90d, 365d or all, each until build.as_of.';
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
    price_since TIMESTAMP, changes BIGINT, changes_per_month DOUBLE, median_spell_days DOUBLE, known_days DOUBLE, coverage_ratio
    DOUBLE, confidence DOUBLE
);
COMMENT ON TABLE product_stats IS 'Likewise of each product''s lowest price over time among its new offers.';
COMMENT ON COLUMN product_stats.product_id IS 'The product.';
COMMENT ON COLUMN product_stats.span IS 'The window: 30d, 90d, 365d or all, each until build.as_of.';
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
    product_id BIGINT, offer_id BIGINT, start_at TIMESTAMP, until_at TIMESTAMP, price DECIMAL(18,
    4), currency VARCHAR
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
    inferred_quantity DECIMAL(18, 4), inferred_unit VARCHAR
);
COMMENT ON TABLE product_signal IS 'What a list of products says beside the price; one row per product.';
COMMENT ON COLUMN product_signal.product_id IS 'The product.';
COMMENT ON COLUMN product_signal.best_retailer IS 'The shop of product.best_offer_id.';
COMMENT ON COLUMN product_signal.change_30d_ratio IS 'Best price now / 30 days ago - 1; NULL where either is unknown.';
COMMENT ON COLUMN product_signal.score IS 'Highest score of its genuine deals; NULL where it has none.';
COMMENT ON COLUMN product_signal.cheaper_ratio IS 'product_stats.cheaper_ratio of 365 days.';
COMMENT ON COLUMN product_signal.no_dearer_ratio IS 'product_stats.no_dearer_ratio of 365 days.';
COMMENT ON COLUMN product_signal.year_confidence IS 'product_stats.confidence of 365 days.';
COMMENT ON COLUMN product_signal.inferred_quantity IS 'How much is in it, read from the title where no feed says it; in inferred_unit.';
COMMENT ON COLUMN product_signal.inferred_unit IS 'g, kg, ml, l or pcs.';

CREATE OR REPLACE TABLE deal (
    offer_id BIGINT, product_id BIGINT, verdict VARCHAR, ground VARCHAR, score BIGINT, currency
    VARCHAR, price DECIMAL(18, 4), list_price DECIMAL(18, 4), prior_price DECIMAL(18, 4),
    usual_price DECIMAL(18, 4), usual_before DECIMAL(18, 4), best_price DECIMAL(18, 4), began_at
    TIMESTAMP, claimed_discount_ratio DOUBLE, real_discount_ratio DOUBLE, usual_discount_ratio
    DOUBLE, list_charged_ratio DOUBLE, prior_known_days DOUBLE, lowest_in_days BIGINT, all_time_low
    BOOLEAN, no_dearer_ratio DOUBLE, confidence DOUBLE
);
COMMENT ON TABLE deal IS 'Offers whose price is reduced, or claimed to be, and what to think of it: docs/definitions.md.';
COMMENT ON COLUMN deal.offer_id IS 'The offer.';
COMMENT ON COLUMN deal.product_id IS 'Its product.';
COMMENT ON COLUMN deal.verdict IS 'genuine, inflated or unproven.';
COMMENT ON COLUMN deal.ground IS 'Why: below_prior_price, list_price_not_charged, prior_price_no_higher, raised_before, little_history.';
COMMENT ON COLUMN deal.score IS '0 to 100: how good, how rare, how new, how sure.';
COMMENT ON COLUMN deal.currency IS 'ISO 4217 code of the money here.';
COMMENT ON COLUMN deal.price IS 'Price now.';
COMMENT ON COLUMN deal.list_price IS 'The "was" price that the shop claims.';
COMMENT ON COLUMN deal.prior_price IS 'Lowest price in the 30 days before the reduction began (Directive 98/6/EC, article 6a).';
COMMENT ON COLUMN deal.usual_price IS 'Time-weighted median of the last 90 days.';
COMMENT ON COLUMN deal.usual_before IS 'Likewise of the 90 days before the reduction began.';
COMMENT ON COLUMN deal.best_price IS 'The product''s best price now, at whichever shop.';
COMMENT ON COLUMN deal.began_at IS 'When the reduction began, UTC.';
COMMENT ON COLUMN deal.claimed_discount_ratio IS '1 - price / list_price.';
COMMENT ON COLUMN deal.real_discount_ratio IS '1 - price / prior_price; negative where it costs more than before.';
COMMENT ON COLUMN deal.usual_discount_ratio IS '1 - price / usual_price.';
COMMENT ON COLUMN deal.list_charged_ratio IS 'Share of the known time of the last 180 days in which at least 99 % of the list price was charged.';
COMMENT ON COLUMN deal.prior_known_days IS 'How much of the 30 days before the reduction is known.';
COMMENT ON COLUMN deal.lowest_in_days IS 'Days since a lower price stopped holding, or since the first observation.';
COMMENT ON COLUMN deal.all_time_low IS 'No lower price is known at all.';
COMMENT ON COLUMN deal.no_dearer_ratio IS 'Share of the known time of the last 365 days in which the price was at or below today''s.';
COMMENT ON COLUMN deal.confidence IS 'How much of the last 90 days is known.';

CREATE OR REPLACE VIEW product_now AS
SELECT p.*, s.* EXCLUDE (product_id) FROM product AS p JOIN product_signal AS s USING (product_id);
COMMENT ON VIEW product_now IS 'Products with their signals, as lists of the API show them.';
