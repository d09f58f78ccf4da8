"""Addresses of mail: one form for one mailbox."""

from __future__ import annotations

import msgspec
from email_validator import EmailNotValidError, validate_email

from pricepulse.errors import FieldError, UnprocessableError

LONGEST = 254  # RFC 5321, 4.5.3.1.3 less the brackets


class Address(msgspec.Struct, frozen=True):
    """`email`: as mails are sent to it. `key`: what is unique among accounts."""

    email: str
    key: str

    @classmethod
    def from_text(cls, text: str, pointer: str = "/body/email") -> Address:
        """Raises a 422 with `pointer` when it is none that we take.

        Before the @ only ASCII, after it punycode: a Cyrillic letter that looks like a Latin one can
        neither be a second account of the same look nor take a mail elsewhere than it seems (UTS 39).
        An encoded word (RFC 2047) has no place in an address, but parsers of mail, Python's too, decode it there:
        it would be another spelling of somebody's mailbox, or a header that cannot be made.
        Almost no server tells mailboxes apart by case, so the key is in lower case.
        """
        try:
            if "=?" in text:
                raise EmailNotValidError("an encoded word")
            # The domain is not looked up: an answer must not depend on, or tell of, somebody's DNS.
            # Nor must it be a public one: on an intranet mailboxes are at `host.internal`.
            found = validate_email(
                text,
                strict=True,  # 64 characters before the @, too
                allow_smtputf8=False,
                check_deliverability=False,
                globally_deliverable=False,
            )
        except (EmailNotValidError, UnicodeError) as error:
            told = "is no address of mail, or has letters before the @ that are not ASCII, or =?"
            raise UnprocessableError(f"email {told}", errors=[FieldError(pointer, told)]) from error
        email = f"{found.ascii_local_part}@{found.ascii_domain}"
        return cls(email, email.lower())
