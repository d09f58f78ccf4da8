-- What follows from the offers: which product each is, then products, categories, brands, retailers.
-- Temporary tables given by the build: `link` (offer_id, product_id; the newest manual link each),
-- `image` (offer_id, address, given_at; the picture that it carries), `touched` (offer_id), `affected`
-- (product_id; the products of touched offers, and of those whose picture changed, before this).

-- Identity, in this order: a manual link, a GTIN (its own, or the only one that its product_key
-- has), the product_key, else the offer is a product of its own.
CREATE TEMP TABLE identity AS
WITH key_gtin AS (
    SELECT product_key, min(gtin) AS gtin FROM offer
    WHERE product_key IS NOT NULL AND gtin IS NOT NULL GROUP BY product_key HAVING min(gtin) = max(gtin)
)
SELECT o.offer_id, coalesce(
    l.product_id,
    (md5_number_lower('gtin:' || coalesce(o.gtin, k.gtin)) >> 1)::BIGINT,
    (md5_number_lower('key:' || o.product_key) >> 1)::BIGINT,
    (md5_number_lower('offer:' || o.offer_id) >> 1)::BIGINT
) AS product_id
FROM offer AS o LEFT JOIN key_gtin AS k USING (product_key) LEFT JOIN link AS l ON l.offer_id = o.offer_id;

CREATE TEMP TABLE moved AS
SELECT o.offer_id, o.product_id AS was, i.product_id
FROM offer AS o JOIN identity AS i USING (offer_id) WHERE o.product_id IS DISTINCT FROM i.product_id;

UPDATE offer SET product_id = moved.product_id FROM moved WHERE offer.offer_id = moved.offer_id;

INSERT INTO affected
SELECT was FROM moved WHERE was IS NOT NULL
UNION SELECT product_id FROM moved
UNION SELECT product_id FROM offer WHERE offer_id IN (SELECT offer_id FROM touched);

CREATE TEMP TABLE former AS FROM product WHERE product_id IN (SELECT product_id FROM affected);
DELETE FROM product WHERE product_id IN (SELECT product_id FROM affected);

INSERT INTO product BY NAME
WITH mine AS (
    SELECT o.*, i.address, i.given_at, o.last_observed_at >= date_trunc('second', b.as_of) - to_microseconds((b.vouch_days * 86400e6)::BIGINT) AS fresh
    FROM offer AS o LEFT JOIN image AS i USING (offer_id), build AS b WHERE o.product_id IN (SELECT product_id FROM affected)
), main_currency AS (
    SELECT product_id, arg_max(currency, (n, -ascii(currency), currency)) AS currency
    FROM (SELECT product_id, currency, count(*) AS n FROM mine GROUP BY ALL) GROUP BY product_id
), best AS (
    SELECT m.product_id, arg_min(m.offer_id, (m.price, m.offer_id)) AS best_offer_id, min(m.price) AS best_price
    FROM mine AS m JOIN main_currency AS c ON c.product_id = m.product_id AND c.currency = m.currency
    WHERE m.fresh AND m.condition = 'new'
        AND m.availability IN ('InStock', 'LimitedAvailability', 'PreOrder', 'BackOrder')
    GROUP BY m.product_id
), about AS (
    SELECT
        product_id,
        -- A refurbished offer's title says so, and must not name the new ones.
        arg_min(title, (condition <> 'new', first_observed_at, offer_id)) FILTER (title IS NOT NULL) AS title,
        arg_min(brand, (first_observed_at, offer_id)) FILTER (brand IS NOT NULL) AS brand,
        arg_min(gtin, (first_observed_at, offer_id)) FILTER (gtin IS NOT NULL) AS gtin,
        list_sort(list(DISTINCT gtin) FILTER (gtin IS NOT NULL)) AS gtins,
        arg_min(category, (first_observed_at, offer_id)) FILTER (category IS NOT NULL) AS category,
        coalesce(
            arg_max(address, (given_at, address)) FILTER (address IS NOT NULL),
            arg_min(image_url, (first_observed_at, offer_id)) FILTER (image_url IS NOT NULL)
        ) AS image_url,
        arg_min(unit_quantity, (first_observed_at, offer_id))
            FILTER (unit_quantity IS NOT NULL AND unit IS NOT NULL) AS unit_quantity,
        arg_min(unit, (first_observed_at, offer_id))
            FILTER (unit_quantity IS NOT NULL AND unit IS NOT NULL) AS unit,
        count(*) AS offers, list_sort(list(DISTINCT retailer)) AS retailers,
        list_sort(list(DISTINCT availability)) AS availability,
        min(first_observed_at) AS first_observed_at, max(last_observed_at) AS last_observed_at
    FROM mine GROUP BY product_id
)
SELECT a.*, slug(a.brand) AS brand_slug, category_slug(a.category) AS category_slug, c.currency,
    b.best_offer_id, b.best_price
FROM about AS a JOIN main_currency AS c USING (product_id) LEFT JOIN best AS b USING (product_id);

DELETE FROM category;
INSERT INTO category BY NAME
WITH level AS (
    SELECT category[1] AS path, category[2] AS depth, sum(n) AS products FROM (
        SELECT unnest(list_transform(range(1, len(p) + 1), lambda d: [array_to_string(p[:d], ' > '), d::VARCHAR])) AS category, n
        FROM (SELECT string_split(category, ' > ') AS p, count(*) AS n FROM product WHERE category IS NOT NULL GROUP BY category)
    ) GROUP BY ALL
), tree AS (
    SELECT category_slug(path) AS slug, min(path) AS path, min(depth::BIGINT) AS depth, sum(products)::BIGINT AS products
    FROM level GROUP BY ALL
)
SELECT slug, nullif(regexp_extract(slug, '^(.*)\.[^.]*$', 1), '') AS parent_slug,
    list_last(string_split(path, ' > ')) AS name, path, depth, products FROM tree;

DELETE FROM brand;
INSERT INTO brand BY NAME
SELECT brand_slug AS slug, min(brand) AS name, count(*) AS products FROM product WHERE brand IS NOT NULL GROUP BY ALL;

DELETE FROM retailer;
INSERT INTO retailer BY NAME
SELECT retailer, count(*) AS offers, count(DISTINCT product_id) AS products,
    min(first_observed_at) AS first_observed_at, max(last_observed_at) AS last_observed_at
FROM offer GROUP BY ALL;
