-- The deals as one would ask for them of raw observations: every offer's last change of price, if it
-- was a drop; the lowest price in the 30 days before it; the median of the last 90 days by looks.
WITH looks AS (
    SELECT retailer, sku, observed_at, price, lag(price) OVER offer AS before
    FROM observation WINDOW offer AS (PARTITION BY retailer, sku ORDER BY observed_at)
), last_change AS (
    SELECT retailer, sku, max(observed_at) AS began, arg_max(price - before, observed_at) AS step
    FROM looks WHERE price <> before GROUP BY ALL
), newest AS (
    SELECT retailer, sku, arg_max(price, observed_at) AS price, max(observed_at) AS seen
    FROM observation GROUP BY ALL
), bounds AS (SELECT max(observed_at) AS as_of FROM observation),
prior AS (
    SELECT o.retailer, o.sku, min(o.price) AS prior_price
    FROM observation AS o JOIN last_change AS c USING (retailer, sku)
    WHERE o.observed_at >= c.began - INTERVAL 30 DAY AND o.observed_at < c.began GROUP BY ALL
), usual AS (
    SELECT retailer, sku, median(price) AS usual_price FROM observation, bounds
    WHERE observed_at >= as_of - INTERVAL 90 DAY GROUP BY ALL
)
SELECT n.retailer, n.sku, n.price, p.prior_price, u.usual_price, 1 - n.price / p.prior_price AS real_discount_ratio
FROM newest AS n JOIN last_change AS c USING (retailer, sku) JOIN prior AS p USING (retailer, sku)
JOIN usual AS u USING (retailer, sku), bounds
WHERE c.step < 0 AND n.seen >= as_of - INTERVAL 10 DAY
    AND n.price <= 0.97 * p.prior_price AND n.price <= 0.97 * u.usual_price
ORDER BY real_discount_ratio DESC LIMIT 50
