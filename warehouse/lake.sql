-- The lake's tables (DuckLake). DuckLake knows no keys and no constraints: ids are deterministic
-- hashes, so that the same thing written twice by two writers is the same row twice and folds away.
-- Times are UTC. `batch_id` grows with the time of delivery, so (batch_id, line) is the delivery order.

CREATE TABLE IF NOT EXISTS lake.observation (
    offer_id BIGINT, observed_at TIMESTAMP, price DECIMAL(18, 4), list_price DECIMAL(18, 4),
    currency VARCHAR, availability VARCHAR, batch_id BIGINT, line BIGINT
);
-- What a feed says about an offer besides its price repeats on every row: one row here stands for
-- consecutive observations of one delivery that said the same (measured: 20 M observations, 2 M rows).
CREATE TABLE IF NOT EXISTS lake.offer_detail (
    offer_id BIGINT, first_seen_at TIMESTAMP, last_seen_at TIMESTAMP, condition VARCHAR,
    shipping DECIMAL(18, 4), promotion VARCHAR, title VARCHAR, brand VARCHAR, gtin VARCHAR,
    mpn VARCHAR, url VARCHAR, image_url VARCHAR, category VARCHAR, unit_quantity DECIMAL(18, 4),
    unit VARCHAR, product_key VARCHAR, batch_id BIGINT, line BIGINT
);
CREATE TABLE IF NOT EXISTS lake.offer (offer_id BIGINT, retailer VARCHAR, sku VARCHAR, batch_id BIGINT);
CREATE TABLE IF NOT EXISTS lake.batch (
    batch_id BIGINT, content_hash VARCHAR, source VARCHAR,
    received_at TIMESTAMP, rows BIGINT, accepted BIGINT, rejected BIGINT, new_offers BIGINT,
    rejected_by_rule VARCHAR, unknown_columns VARCHAR[]
);
-- Which content each Idempotency-Key came with; a content may come with several keys.
CREATE TABLE IF NOT EXISTS lake.delivery_key (idempotency_key VARCHAR, content_hash VARCHAR);
CREATE TABLE IF NOT EXISTS lake.rejected (
    batch_id BIGINT, line BIGINT, field VARCHAR, rule VARCHAR, value VARCHAR, kept BOOLEAN
);
-- A manual link: this offer belongs to that product, whatever its GTIN says. The newest one counts;
-- a NULL product takes the link back.
CREATE TABLE IF NOT EXISTS lake.offer_link (offer_id BIGINT, product_id BIGINT, linked_at TIMESTAMP);
-- The picture that an offer carries, by the hash of its content (images.py). The newest one counts; a NULL
-- hash takes it away.
CREATE TABLE IF NOT EXISTS lake.offer_image (offer_id BIGINT, hash VARCHAR, given_at TIMESTAMP);
-- Reference rates: units of the currency for 1 EUR. Of several for one day the one stored last counts;
-- 0 takes the rate back.
CREATE TABLE IF NOT EXISTS lake.reference_rate (
    day DATE, currency VARCHAR, per_eur DECIMAL(18, 6), stored_at TIMESTAMP
);
