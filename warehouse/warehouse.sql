-- The warehouse file: what analysts open and the API reads. Written once by a build, then read-only.

CREATE TABLE build (
    version BIGINT, as_of TIMESTAMP, vouch_days DOUBLE, observations BIGINT, schema_hash VARCHAR
);
COMMENT ON TABLE build IS 'One row: what this file shows.';
COMMENT ON COLUMN build.version IS 'The lake snapshot that the file was built from; the API says it as version.';
COMMENT ON COLUMN build.as_of IS 'Time of the newest observation in the file, UTC. NULL in an empty one.';
COMMENT ON COLUMN build.vouch_days IS 'For how many days an observation vouches for a price; beyond that the price is unknown.';
COMMENT ON COLUMN build.observations IS 'Observations that the price spells stand for.';
COMMENT ON COLUMN build.schema_hash IS 'Fingerprint of the code that shaped the file; another one calls for a full build.';

CREATE TABLE price_spell (
    offer_id BIGINT, first_observed_at TIMESTAMP, last_observed_at TIMESTAMP, price DECIMAL(18, 4),
    list_price DECIMAL(18, 4), currency VARCHAR, availability VARCHAR, observations BIGINT
);
COMMENT ON TABLE price_spell IS 'A stretch in which an offer''s price, list price, currency and availability did not change.';
COMMENT ON COLUMN price_spell.offer_id IS 'The offer: offer.offer_id.';
COMMENT ON COLUMN price_spell.first_observed_at IS 'First observation of the spell, UTC.';
COMMENT ON COLUMN price_spell.last_observed_at IS 'Last observation of the spell, UTC. The price holds until the next spell begins, but no longer than build.vouch_days.';
COMMENT ON COLUMN price_spell.price IS 'What a buyer pays, without shipping, in currency.';
COMMENT ON COLUMN price_spell.list_price IS 'The "was" price that the shop claimed, if any.';
COMMENT ON COLUMN price_spell.currency IS 'ISO 4217 code.';
COMMENT ON COLUMN price_spell.availability IS 'schema.org word: InStock, OutOfStock, PreOrder, BackOrder, LimitedAvailability, Discontinued.';
COMMENT ON COLUMN price_spell.observations IS 'How many observations saw it.';

CREATE TABLE offer (
    offer_id BIGINT, product_id BIGINT, retailer VARCHAR, sku VARCHAR, condition VARCHAR,
    shipping DECIMAL(18, 4), promotion VARCHAR, title VARCHAR, brand VARCHAR, gtin VARCHAR,
    mpn VARCHAR, url VARCHAR, image_url VARCHAR, category VARCHAR, unit_quantity DECIMAL(18, 4),
    unit VARCHAR, product_key VARCHAR, price DECIMAL(18, 4), list_price DECIMAL(18, 4),
    currency VARCHAR, availability VARCHAR, price_since TIMESTAMP, first_observed_at TIMESTAMP,
    last_observed_at TIMESTAMP, last_seen_at TIMESTAMP, observations BIGINT
);
COMMENT ON TABLE offer IS 'One retailer''s listing of a product, with its current price.';
COMMENT ON COLUMN offer.offer_id IS 'Hash of (retailer, sku); the API''s offer_id.';
COMMENT ON COLUMN offer.product_id IS 'The product that it is an offer of: product.product_id.';
COMMENT ON COLUMN offer.retailer IS 'The shop''s slug.';
COMMENT ON COLUMN offer.sku IS 'The shop''s own id of the item.';
COMMENT ON COLUMN offer.condition IS 'new, refurbished or used, as last said.';
COMMENT ON COLUMN offer.shipping IS 'Cost to the reference destination, as last said; not part of price.';
COMMENT ON COLUMN offer.promotion IS 'Promotion text of the newest observation; not computed into price.';
COMMENT ON COLUMN offer.title IS 'Newest non-empty value, like all texts about the offer.';
COMMENT ON COLUMN offer.brand IS 'Newest non-empty value.';
COMMENT ON COLUMN offer.gtin IS 'Check digit verified, 14 digits.';
COMMENT ON COLUMN offer.mpn IS 'The maker''s part number.';
COMMENT ON COLUMN offer.url IS 'The offer''s page.';
COMMENT ON COLUMN offer.image_url IS 'The shop''s picture.';
COMMENT ON COLUMN offer.category IS 'The shop''s path, levels separated by " > ".';
COMMENT ON COLUMN offer.unit_quantity IS 'How much is in it, in unit.';
COMMENT ON COLUMN offer.unit IS 'g, kg, ml, l, m or pcs.';
COMMENT ON COLUMN offer.product_key IS 'The pipeline''s own id of the product.';
COMMENT ON COLUMN offer.price IS 'Price of the last spell.';
COMMENT ON COLUMN offer.list_price IS 'List price of the last spell.';
COMMENT ON COLUMN offer.currency IS 'Currency of the last spell, ISO 4217.';
COMMENT ON COLUMN offer.availability IS 'Availability of the last spell.';
COMMENT ON COLUMN offer.price_since IS 'First observation of the last spell, UTC.';
COMMENT ON COLUMN offer.first_observed_at IS 'First observation of the offer, UTC.';
COMMENT ON COLUMN offer.last_observed_at IS 'Last observation that the spells contain, UTC.';
COMMENT ON COLUMN offer.last_seen_at IS 'Last observation of any kind, suspects too, UTC.';
COMMENT ON COLUMN offer.observations IS 'Observations that its spells stand for.';

CREATE TABLE product (
    product_id BIGINT, title VARCHAR, brand VARCHAR, brand_slug VARCHAR, gtin VARCHAR,
    gtins VARCHAR[], category VARCHAR, category_slug VARCHAR, image_url VARCHAR,
    unit_quantity DECIMAL(18, 4), unit VARCHAR, currency VARCHAR, best_offer_id BIGINT,
    best_price DECIMAL(18, 4), offers BIGINT, retailers VARCHAR[], availability VARCHAR[],
    first_observed_at TIMESTAMP, last_observed_at TIMESTAMP
);
COMMENT ON TABLE product IS 'What offers have in common: a manual link, the same GTIN, or the same product_key.';
COMMENT ON COLUMN product.product_id IS 'Hash of what identifies it; the API''s product_id.';
COMMENT ON COLUMN product.title IS 'Title of its longest known offer that has one; brand, category, a shop''s picture and quantity likewise.';
COMMENT ON COLUMN product.brand IS 'Brand name.';
COMMENT ON COLUMN product.brand_slug IS 'brand.slug.';
COMMENT ON COLUMN product.gtin IS 'Its GTIN, 14 digits.';
COMMENT ON COLUMN product.gtins IS 'All GTINs of its offers.';
COMMENT ON COLUMN product.category IS 'Category path.';
COMMENT ON COLUMN product.category_slug IS 'category.slug.';
COMMENT ON COLUMN product.image_url IS 'A picture: one that an operator gave it, as a path on the API''s server (/api/v1/images/…), else a shop''s.';
COMMENT ON COLUMN product.unit_quantity IS 'How much is in it, in unit.';
COMMENT ON COLUMN product.unit IS 'g, kg, ml, l, m or pcs.';
COMMENT ON COLUMN product.currency IS 'The currency of most of its offers; best_price is in it.';
COMMENT ON COLUMN product.best_offer_id IS 'The cheapest offer of condition new, in stock and vouched for at build.as_of.';
COMMENT ON COLUMN product.best_price IS 'Its price. NULL where no new offer in that currency is in stock and vouched for.';
COMMENT ON COLUMN product.offers IS 'Number of offers.';
COMMENT ON COLUMN product.retailers IS 'Shops that list it.';
COMMENT ON COLUMN product.availability IS 'Availabilities among its offers.';
COMMENT ON COLUMN product.first_observed_at IS 'First observation of any of its offers, UTC.';
COMMENT ON COLUMN product.last_observed_at IS 'Last observation of any of its offers, UTC.';

CREATE TABLE category (slug VARCHAR, parent_slug VARCHAR, name VARCHAR, path VARCHAR, depth BIGINT, products BIGINT);
COMMENT ON TABLE category IS 'The tree of categories; products of a branch are counted in all its ancestors.';
COMMENT ON COLUMN category.slug IS 'Levels as slugs, joined by dots.';
COMMENT ON COLUMN category.parent_slug IS 'The level above; NULL at the top.';
COMMENT ON COLUMN category.name IS 'Name of the last level.';
COMMENT ON COLUMN category.path IS 'Names from the top, separated by " > ".';
COMMENT ON COLUMN category.depth IS '1 at the top.';
COMMENT ON COLUMN category.products IS 'Products in it and below.';

CREATE TABLE brand (slug VARCHAR, name VARCHAR, products BIGINT);
COMMENT ON TABLE brand IS 'Brands by slug.';
COMMENT ON COLUMN brand.slug IS 'Lower case, words joined by hyphens.';
COMMENT ON COLUMN brand.name IS 'As the shops write it.';
COMMENT ON COLUMN brand.products IS 'Products of the brand.';

CREATE TABLE retailer (retailer VARCHAR, offers BIGINT, products BIGINT, first_observed_at TIMESTAMP, last_observed_at TIMESTAMP);
COMMENT ON TABLE retailer IS 'Shops by slug.';
COMMENT ON COLUMN retailer.retailer IS 'The shop''s slug.';
COMMENT ON COLUMN retailer.offers IS 'Offers ever seen.';
COMMENT ON COLUMN retailer.products IS 'Products ever seen.';
COMMENT ON COLUMN retailer.first_observed_at IS 'First observation, UTC.';
COMMENT ON COLUMN retailer.last_observed_at IS 'Last observation, UTC.';

CREATE TABLE suspect (
    offer_id BIGINT, observed_at TIMESTAMP, price DECIMAL(18, 4), currency VARCHAR, open BOOLEAN,
    batch_id BIGINT, line BIGINT
);
COMMENT ON TABLE suspect IS 'Observations set aside: more than 10 times above or below the last good price and not confirmed.';
COMMENT ON COLUMN suspect.offer_id IS 'The offer.';
COMMENT ON COLUMN suspect.observed_at IS 'When it was seen, UTC.';
COMMENT ON COLUMN suspect.price IS 'The price that nobody believes.';
COMMENT ON COLUMN suspect.currency IS 'ISO 4217 code.';
COMMENT ON COLUMN suspect.open IS 'Still waiting: the next observation may confirm it.';
COMMENT ON COLUMN suspect.batch_id IS 'The batch that delivered it.';
COMMENT ON COLUMN suspect.line IS 'Its line there.';

CREATE TABLE superseded (
    offer_id BIGINT, observed_at TIMESTAMP, price DECIMAL(18, 4), currency VARCHAR,
    batch_id BIGINT, line BIGINT, superseded_by BIGINT
);
COMMENT ON TABLE superseded IS 'Observations that lost to a later delivery of another price for the same instant.';
COMMENT ON COLUMN superseded.offer_id IS 'The offer.';
COMMENT ON COLUMN superseded.observed_at IS 'When it was seen, UTC.';
COMMENT ON COLUMN superseded.price IS 'The price that lost.';
COMMENT ON COLUMN superseded.currency IS 'ISO 4217 code.';
COMMENT ON COLUMN superseded.batch_id IS 'The batch that delivered it.';
COMMENT ON COLUMN superseded.line IS 'Its line there.';
COMMENT ON COLUMN superseded.superseded_by IS 'The batch whose price counts.';

CREATE TABLE reference_rate (day DATE, currency VARCHAR, per_eur DECIMAL(18, 6));
COMMENT ON TABLE reference_rate IS 'Daily euro reference rates of the ECB, as far as they were ingested; EUR itself is 1 on each of their days.';
COMMENT ON COLUMN reference_rate.day IS 'The day of the rate. Weekends and holidays of TARGET have none.';
COMMENT ON COLUMN reference_rate.currency IS 'ISO 4217 code.';
COMMENT ON COLUMN reference_rate.per_eur IS 'Units of the currency for 1 EUR.';

CREATE VIEW price_change AS
SELECT s.offer_id, s.first_observed_at AS changed_at, s.before_seen_at, s.price_before, s.price, s.currency,
    s.price / s.price_before - 1 AS change_ratio
FROM (
    SELECT *, lag(price) OVER spells AS price_before, lag(currency) OVER spells AS currency_before,
        lag(last_observed_at) OVER spells AS before_seen_at
    FROM price_spell WINDOW spells AS (PARTITION BY offer_id ORDER BY first_observed_at)
) AS s
WHERE s.price <> s.price_before AND s.currency = s.currency_before;
COMMENT ON VIEW price_change IS 'Each time an offer''s price became another one in the same currency.';
COMMENT ON COLUMN price_change.offer_id IS 'The offer.';
COMMENT ON COLUMN price_change.changed_at IS 'First observation of the new price, UTC.';
COMMENT ON COLUMN price_change.before_seen_at IS 'Last observation of the price before, UTC: it changed between the two.';
COMMENT ON COLUMN price_change.price_before IS 'The price before.';
COMMENT ON COLUMN price_change.price IS 'The new price.';
COMMENT ON COLUMN price_change.currency IS 'ISO 4217 code of both.';
COMMENT ON COLUMN price_change.change_ratio IS 'New price / price before - 1: -0.25 is a quarter off.';

CREATE MACRO slug(name) AS coalesce(
    nullif(trim(regexp_replace(lower(strip_accents(name)), '[^\p{L}\p{N}]+', '-', 'g'), '-'), ''),
    left(md5(name), 8)
);
COMMENT ON MACRO slug IS 'A name as the API writes it in addresses.';
CREATE MACRO category_slug(path) AS
    array_to_string(list_transform(string_split(path, ' > '), lambda level: slug(level)), '.');
COMMENT ON MACRO category_slug IS 'A category path as the API writes it in addresses.';
CREATE MACRO words(text) AS
    list_distinct(regexp_extract_all(lower(strip_accents(coalesce(text, ''))), '[\p{L}\p{N}]+'));
COMMENT ON MACRO words IS 'The different words of a text, without accents and case.';
-- A shop's address without what does not tell offers apart: scheme, www., fragment, trailing slash
-- and the query parameters of advertising.
CREATE MACRO url_key(url) AS (
    SELECT lower(regexp_extract(bare, '^[^/?]*')) || regexp_replace(
        regexp_extract(bare, '^[^/?]*(.*)$', 1), '/+(\?|$)', '\1')
    FROM (SELECT regexp_replace(regexp_replace(regexp_replace(regexp_replace(url, '#.*$', ''),
        '^https?://(www\.)?', '', 'i'),
        '([?&])((utm_[^=&]*|gclid|gbraid|wbraid|fbclid|msclkid|dclid|ref|ref_|tag|aff|affid|awc|mc_[ce]id|srsltid)(=[^&]*)?(&|$))+', '\1', 'gi'),
        '[?&]+$', '') AS bare)
);
COMMENT ON MACRO url_key IS 'An address without query noise: equal for two addresses of one offer.';

CREATE MACRO price_on(offer, day) AS (
    SELECT arg_max(s.price, s.first_observed_at)
    FROM (SELECT offer AS wanted, day::DATE AS on_day) AS asked
    JOIN price_spell AS s ON s.offer_id = asked.wanted, build AS b
    WHERE s.first_observed_at < asked.on_day + INTERVAL 1 DAY
        AND s.last_observed_at >= asked.on_day - to_microseconds((b.vouch_days * 86400e6)::BIGINT)
);
COMMENT ON MACRO price_on IS 'price_on(offer_id, day): the price in force at the end of that day (UTC); NULL where nobody had looked for longer than build.vouch_days.';
CREATE MACRO lowest_price(product, days) AS (
    SELECT min(s.price)
    FROM (SELECT product AS wanted, days::INTEGER AS back) AS asked
    JOIN product AS p ON p.product_id = asked.wanted JOIN offer AS o ON o.product_id = asked.wanted
    JOIN price_spell AS s ON s.offer_id = o.offer_id AND s.currency = p.currency, build AS b
    WHERE s.last_observed_at >= b.as_of - to_days(asked.back)
);
COMMENT ON MACRO lowest_price IS 'lowest_price(product_id, days): the lowest price seen in the last days before as_of, in the product''s currency.';
CREATE MACRO price_history(product) AS TABLE
    SELECT o.retailer, o.sku, s.* FROM price_spell AS s JOIN offer AS o USING (offer_id)
    WHERE o.product_id = product ORDER BY o.retailer, o.sku, s.first_observed_at;
COMMENT ON MACRO TABLE price_history IS 'price_history(product_id): every spell of every offer of a product.';
-- In whole numbers of 128 bits, because a division of decimals is a DOUBLE: price and rate have at most
-- 10^18 units each. The price stays outside of the subquery, which so runs once for each day and pair of
-- currencies; the lambda is there to name its answer (0.4 s for 300,000 prices, else 9 s).
CREATE MACRO converted(price, from_currency, to_currency, day) AS CASE
    WHEN from_currency = to_currency THEN price::DECIMAL(18, 4)
    ELSE list_transform([(
        SELECT max_by({
            'of': (f.per_eur::DECIMAL(30, 6) * 1000000)::HUGEINT, 'into': (t.per_eur::DECIMAL(30, 6) * 1000000)::HUGEINT
        }, f.day)
        FROM (SELECT from_currency AS known, to_currency AS wanted, day::DATE AS on_day) AS asked
        JOIN reference_rate AS f ON f.currency = asked.known AND f.day BETWEEN asked.on_day - 7 AND asked.on_day
        JOIN reference_rate AS t ON t.currency = asked.wanted AND t.day = f.day
    )], lambda rate: (TRY_CAST(
        (2 * (price::DECIMAL(30, 4) * 10000)::HUGEINT * rate['into'] + rate['of']) // (2 * rate['of'])
        AS DECIMAL(18, 0)
    ) * 0.0001::DECIMAL(4, 4))::DECIMAL(18, 4))[1]
END;
COMMENT ON MACRO converted IS 'converted(price, from_currency, to_currency, day): the price with the newest reference rates of both currencies on or before that day, to 1/10,000, half up; NULL where there are none of the last 7 days.';
