"""Rough exchange rates: enough to recognise a number that belongs to another currency.

No price is converted with them. What they tell apart is a factor of 8 from a factor of 10 or 20, so
an average of years is as good as today's rate; a currency that is missing only leaves a cause
unnamed.
"""

from __future__ import annotations

# Units for one US dollar, yearly averages of 2024 (ECB reference rates and IMF), rounded.
PER_DOLLAR = {
    "AED": 3.67, "ARS": 915.0, "AUD": 1.52, "BGN": 1.81, "BRL": 5.39, "CAD": 1.37, "CHF": 0.88,
    "CLP": 944.0, "CNY": 7.20, "COP": 4_073.0, "CZK": 23.2, "DKK": 6.89, "EGP": 45.3, "EUR": 0.924,
    "GBP": 0.782, "HKD": 7.80, "HUF": 365.0, "IDR": 15_855.0, "ILS": 3.70, "INR": 83.7, "JPY": 151.4,
    "KRW": 1_364.0, "MXN": 18.3, "MYR": 4.57, "NOK": 10.7, "NZD": 1.65, "PHP": 57.3, "PLN": 3.98,
    "RON": 4.60, "SAR": 3.75, "SEK": 10.6, "SGD": 1.34, "THB": 35.3, "TRY": 32.8, "TWD": 32.1,
    "UAH": 40.2, "USD": 1.0, "VND": 24_165.0, "ZAR": 18.3,
}  # fmt: skip
# Those that shops show beside their own. With all of them, almost any factor would be some rate.
COMMON = ("USD", "EUR", "GBP", "CNY", "JPY")


def rate(of: str, to: str) -> float | None:
    """Units of the currency `to` for one of `of`; None where unknown."""
    if of not in PER_DOLLAR or to not in PER_DOLLAR:
        return None
    return PER_DOLLAR[to] / PER_DOLLAR[of]
