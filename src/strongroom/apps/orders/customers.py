"""Customers: one for each phone number."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from uuid import UUID

from msgspec import UNSET, UnsetType

from strongroom.apps.orders.rows import CUSTOMERS, Customer, CustomerSeen, sql
from strongroom.core.commands import Command, Reply, Work
from strongroom.errors import Refused, invalid

_SEPARATORS = re.compile(r"[\s.\-()/]+")
_E164 = re.compile(r"\+[1-9][0-9]{6,14}")
_VIETNAM = re.compile(r"\+84(3|5|7|8|9)[0-9]{8}|\+842[0-9]{8,9}")
"""Mobiles have nine digits behind +84, fixed lines ten, in some provinces nine."""


class PhoneTaken(Refused):
    """There is a customer with this phone number already."""


class CustomerMoved(Reply, frozen=True):
    """A customer was added or edited."""

    customer_id: UUID


def normalise(phone: str) -> str:
    """The number in E.164; without a country code it is Vietnamese. Invalid when it is none.

    >>> normalise("0912 345.678"), normalise("84 912345678"), normalise("+1 (202) 555-0123")
    ('+84912345678', '+84912345678', '+12025550123')
    """
    bare = _SEPARATORS.sub("", phone)
    if bare.startswith("00"):
        bare = f"+{bare[2:]}"
    elif bare.startswith("0"):
        bare = f"+84{bare[1:]}"
    elif bare.startswith("84") and len(bare) > 10:
        bare = f"+{bare}"
    if bare.startswith("+840"):
        bare = f"+84{bare[4:]}"
    known = _VIETNAM if bare.startswith("+84") else _E164
    if not known.fullmatch(bare):
        raise invalid("phone", "is no phone number, as 0912345678 or +84912345678")
    return bare


def customer_seen(customer: Customer) -> CustomerSeen:
    return CustomerSeen(
        customer_id=customer.id,
        name=customer.name,
        phone=customer.phone,
        email=customer.email,
        address=customer.address,
    )


async def hold_phones(work: Work, phones: Iterable[str]) -> None:
    """Notes who is known by these numbers; an unknown one is made by this group alone."""
    wanted = sorted(set(phones))
    work.noted["phones"] = {}
    if wanted:
        known = await work.db.fetch(sql.customers_of_phones, wanted)
        if len(known) < len(wanted):
            new = sorted(set(wanted) - {row["phone"] for row in known})
            await work.db.execute(sql.hold_phones, new)
            known = await work.db.fetch(sql.customers_of_phones, wanted)
        for customer in work.hold(CUSTOMERS, known):
            work.noted["phones"][customer.phone] = customer


def add_customer(
    work: Work, phone: str, name: str, email: str | None, address: str | None
) -> Customer:
    customer = Customer(work.new_id(), phone, name, email, address, work.by)
    work.noted["phones"][phone] = work.add(CUSTOMERS, customer)
    work.emit("orders.CustomerCreated", customer.id, CustomerMoved(customer.id))
    return customer


@dataclass(frozen=True, slots=True)
class CreateCustomer(Command):
    """Adds a customer before there is an order. Refuses with PhoneTaken."""

    phone: str
    name: str
    email: str | None = None
    address: str | None = None

    reply = CustomerSeen

    @classmethod
    async def fetch(cls, work: Work, batch: Sequence[CreateCustomer]) -> None:
        await hold_phones(work, (new.phone for new in batch))

    def decide(self, work: Work) -> CustomerSeen:
        if self.phone in work.noted["phones"]:
            raise PhoneTaken()
        return customer_seen(add_customer(work, self.phone, self.name, self.email, self.address))


@dataclass(frozen=True, slots=True)
class EditCustomer(Command):
    """Changes what is given; orders keep what they said. The phone number stays: it is who it
    is."""

    customer_id: UUID
    name: str | UnsetType = UNSET
    email: str | UnsetType | None = UNSET
    address: str | UnsetType | None = UNSET

    reply = CustomerSeen
    idempotent = True

    @classmethod
    async def fetch(cls, work: Work, batch: Sequence[EditCustomer]) -> None:
        await work.lock(CUSTOMERS, [edit.customer_id for edit in batch])

    def decide(self, work: Work) -> CustomerSeen:
        customer = work.get(CUSTOMERS, self.customer_id)
        if self.name is not UNSET:
            customer.name = self.name
        if self.email is not UNSET:
            customer.email = self.email
        if self.address is not UNSET:
            customer.address = self.address
        work.change(CUSTOMERS, customer)
        work.emit("orders.CustomerEdited", customer.id, CustomerMoved(customer.id))
        return customer_seen(customer)
